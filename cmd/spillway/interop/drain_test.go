package interop

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestDrain takes HTTP/3 away from four makes of client while they ask: first the node
// hands over to a new process, then that is stopped, and nobody follows. No request
// fails, and each answer has all of its bytes; what was under way at the old process ends
// there, what comes later goes to the new one, and both processes end by themselves.
//
// None of them opens a stream after a GOAWAY. Chromium and quic-go open another connection
// at once. Firefox has one HTTP/3 connection to a place: as long as that has something to
// finish, each of its other requests waits 100 ms and comes over TCP.
func TestDrain(t *testing.T) {
	for _, fastPath := range []string{"on", "off"} {
		t.Run("fast path "+fastPath, func(t *testing.T) {
			s := newStage(t)
			// What is held is held until browsers have come, which a busy machine starts slowly.
			n := startNode(t, settings{
				server: s.URL, origin: ", limit: {min: 1000}, timeout: 10m",
				more: "timeouts: {stall: 10m, drain: 10m}\nhttp3: {fast_path: " + fastPath + "}",
			})
			testDrain(t, n, s)
		})
	}
}

func testDrain(t *testing.T, n *node, s *stage) {
	asking, all := s.invite(t, n)
	s.await(t, "held/first", all...)
	s.await(t, "turn", asking...)
	s.await(t, "upload", asking[0])
	old, oldLog := n.process.Pid, n.log

	// The new process has the configuration of that moment, and so a log of its own.
	n.log = filepath.Join(n.dir, "next.log")
	n.rewrite(t, oldLog, n.log)
	n.command(t, "upgrade")
	await(t, "the new process answers alone", func() bool { return n.follow(t) != old })
	for _, g := range asking {
		await(t, g.name+" asks the new process", func() bool { return g.count(readLog(t, n.log), "turn") > 3 })
	}
	time.Sleep(crossing) // the last GOAWAY comes while answers are under way, too
	close(s.first)
	await(t, "the old process has ended", func() bool { return gone(old) })

	// All ask for one thing more, and get it although the node is to end.
	close(s.done)
	s.await(t, "held/second", all...)
	if err := n.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(crossing)
	close(s.second)
	said := map[*guest]report{}
	for _, g := range all {
		said[g] = s.report(t, g)
	}
	select {
	case <-n.ended:
	case <-time.After(patience):
		t.Error("the node does not end")
	}
	for _, g := range all {
		g.check(t, said[g], readLog(t, oldLog), readLog(t, n.log))
	}
	if log := n.said.String(); strings.Count(log, "msg=stopped") != 2 || strings.Contains(log, "level=ERROR") || strings.Contains(log, "\nspillway: ") {
		t.Errorf("the node says:\n%s", log)
	}
}

// crossing is more than the node allows a request for its way, before it names the last
// that is answered.
const crossing = 3 * time.Second

// gone reports whether a process has ended.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// rewrite changes the configuration on the disk.
func (n *node) rewrite(t *testing.T, old, new string) {
	t.Helper()
	file := filepath.Join(n.dir, "spillway.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A stage is an origin for guests of a node, who ask for /drain/NAME/THING. It holds some
// answers back in the middle.
type stage struct {
	*httptest.Server
	first, second chan struct{} // closed when what is held goes on
	done          chan struct{} // closed when the guests are to ask no more

	mu     sync.Mutex
	asked  map[string]int // by path
	guests map[string]*guest
}

// heldBytes is more than fits into the windows between the origin and a guest.
const heldBytes = 4 << 20

func newStage(t *testing.T) *stage {
	s := &stage{
		first: make(chan struct{}), second: make(chan struct{}), done: make(chan struct{}),
		asked: map[string]int{}, guests: map[string]*guest{},
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// ServeHTTP implements http.Handler.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	name, thing, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/drain/"), "/")
	kind, how, _ := strings.Cut(thing, "/")
	g := s.note(name, thing)
	size, _ := strconv.Atoi(how)
	w.Header().Set("Cache-Control", "no-store")
	switch kind {
	case "page":
		w.Header().Set("Content-Type", "text/html")
		want, _ := json.Marshal(wanted)
		io.WriteString(w, strings.NewReplacer("NAME", name, "ORIGIN", s.URL, "WANT", string(want)).Replace(drainPage))
	case "kept": // by the node, and no browser
		w.Header().Set("CDN-Cache-Control", "max-age=3600")
		w.Write(pattern(size))
	case "passed":
		w.Write(pattern(size))
	case "echo":
		w.Write(body)
	case "turn":
		select {
		case <-s.done:
			io.WriteString(w, "done")
		default:
			io.WriteString(w, "go on")
		}
	case "held":
		s.hold(w, r, map[string]chan struct{}{"first": s.first, "second": s.second}[how])
	case "report":
		var said report
		if err := json.Unmarshal(body, &said); err != nil {
			said.Failed = []string{err.Error()}
		}
		g.reports <- said
	}
}

// note counts what a guest asks for.
func (s *stage) note(name, thing string) *guest {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[name+"/"+thing]++
	return s.guests[name]
}

// hold answers with half of the bytes, and later with the rest.
func (s *stage) hold(w http.ResponseWriter, r *http.Request, until <-chan struct{}) {
	w.Header().Set("Content-Length", strconv.Itoa(heldBytes))
	w.Write(pattern(heldBytes / 2))
	http.NewResponseController(w).Flush()
	select {
	case <-until:
		w.Write(pattern(heldBytes)[heldBytes/2:])
	case <-r.Context().Done():
		panic(http.ErrAbortHandler)
	}
}

// What guests ask for beside what is held: less than a packet and more of what the node
// keeps, and what it does not keep.
var drainThings = []string{"kept/200", "kept/20000", "passed/1024"}

// wanted are the digests of the answers.
var wanted = func() map[string]string {
	all := map[string]string{"held/first": digest(pattern(heldBytes)), "held/second": digest(pattern(heldBytes))}
	for _, thing := range drainThings {
		size, _ := strconv.Atoi(path.Base(thing))
		all[thing] = digest(pattern(size))
	}
	return all
}()

// await waits until all guests have asked for a thing, and what comes by turns three
// times.
func (s *stage) await(t *testing.T, thing string, guests ...*guest) {
	t.Helper()
	times := 1
	if thing == "turn" {
		times = 3
	}
	for _, g := range guests {
		await(t, fmt.Sprintf("%s asks for %s", g.name, thing), func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.asked[g.name+"/"+thing] >= times
		})
	}
}

// report waits for what a guest says in the end.
func (s *stage) report(t *testing.T, g *guest) report {
	t.Helper()
	select {
	case said := <-g.reports:
		return said
	case <-time.After(patience):
		t.Fatalf("%s never reported", g.name)
		return report{}
	}
}
