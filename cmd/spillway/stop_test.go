package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// An upgradedNode is a node that is told to stop while its successor, which is no more
// than a line of a script, is on its way. A visitor downloads something meanwhile.
type upgradedNode struct {
	*succession
	program  *exec.Cmd
	download chan error
	refused  chan string // what the upgrade says in the end; nothing if it took place
}

func upgradeBy(t *testing.T, line string) *upgradedNode {
	t.Helper()
	replace := replaceable(t)
	origin := httptest.NewServer(http.HandlerFunc(slowly))
	t.Cleanup(origin.Close)
	p := crossing(t, aside, origin.URL)
	program, state := p.launch(t)
	u := &upgradedNode{
		succession: p.serving(state),
		program:    program, download: make(chan error, 1), refused: make(chan string, 1),
	}
	v := &visitors{t: t, listen: u.listen}
	c, end := v.client("h2")
	go func() {
		defer end()
		u.download <- v.get(c, "/download", pieces*pieceBytes)
	}()
	u.await(t, "the download", func() bool { return u.state().InFlight > 0 })
	replace(line)
	go func() {
		var out, errs bytes.Buffer
		_ = askUpgrade(t.Context(), u.client, &out, &errs)
		u.refused <- errs.String()
	}()
	return u
}

// stop tells the process that was there first to end, and waits for that.
func (u *upgradedNode) stop(t *testing.T, meanwhile func()) {
	t.Helper()
	if err := u.program.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	u.await(t, "the signal", func() bool { return strings.Contains(u.log.String(), "msg=stopping signal=terminated") })
	meanwhile()
	if err := u.program.Wait(); err != nil { // its log has all by then
		t.Errorf("it ended with %v; the log is\n%s", err, u.log)
	}
	if err := <-u.download; err != nil {
		t.Errorf("the download: %v", err)
	}
	if conn, err := net.Dial("tcp", u.listen); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
}

// A node that is told to stop gives up a successor that is not prepared.
func TestStopGivesUpAnUpgrade(t *testing.T) {
	dir := t.TempDir()
	u := upgradeBy(t, "echo $$ >"+dir+"/pid && exec sleep 1000")
	pid := 0
	u.await(t, "the successor", func() bool {
		text, _ := os.ReadFile(dir + "/pid")
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid != 0
	})
	u.stop(t, func() {
		if why := <-u.refused; !strings.Contains(why, errStopping.Error()) {
			t.Errorf("the upgrade was refused for %q", why)
		}
	})
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the successor is still there (%v)", err)
	}
}

// A successor that has what is exclusive comes to serve, is told to stop as well, and
// has ended when the process that got the signal ends. Both may have got it, as from a
// terminal: that is no second signal, which would cut off requests.
func TestStopIsPassedOn(t *testing.T) {
	f := func(name string, both bool) {
		t.Run(name, func(t *testing.T) {
			u := upgradeBy(t, "exec halfway dawdles \"$@\"")
			var dawdling []string
			u.await(t, "the successor", func() bool {
				dawdling = regexp.MustCompile(`msg=dawdling pid=(\d+)\n`).FindStringSubmatch(u.log.String())
				return dawdling != nil
			})
			u.stop(t, func() {
				if pid, _ := strconv.Atoi(dawdling[1]); both && syscall.Kill(pid, syscall.SIGTERM) != nil {
					t.Errorf("process %d is not there", pid)
				}
				u.put(t, "spillway.yaml.go", "")
				if why := <-u.refused; why != "" {
					t.Errorf("the upgrade was refused for %q", why)
				}
			})
			log := u.log.String()
			if strings.Count(log, "msg=stopping") != 2 || strings.Count(log, "msg=stopped") != 2 || strings.Contains(log, "level=ERROR") {
				t.Errorf("the log is\n%s", log)
			}
		})
	}
	f("to one", false)
	f("to both", true)
}
