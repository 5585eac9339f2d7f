package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"spillway/edge/admin"
)

// A manager is what systemd is to a service: it hears what processes say, and keeps
// their files.
type manager struct {
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := t.TempDir() + "/notify"
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{conn, path}
}

// hear waits for what a process says first that has the words in it, and returns all,
// and the files that came until then by name.
func (m *manager) hear(t *testing.T, words string) (string, map[string]*os.File) {
	t.Helper()
	files := map[string]*os.File{}
	m.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		body, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		n, rn, _, _, err := m.conn.ReadMsgUnix(body, rights)
		if err != nil {
			t.Fatalf("nobody said %q: %v", words, err)
		}
		said := string(body[:n])
		if name, ok := strings.CutPrefix(said, "FDSTORE=1\nFDNAME="); ok {
			came, err := filesOf(rights[:rn], []string{name})
			if err != nil || len(came) != 1 {
				t.Fatalf("%q came with %d files, %v", said, len(came), err)
			}
			files[name] = came[0]
		}
		if strings.Contains(said, words) {
			return said, files
		}
	}
}

// Over a restart the sockets stay open: who comes while no process runs is answered by
// the next one. The manager follows the process that serves.
func TestRestartKeepsSockets(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	p := prepare(t, "http: off", "http: 127.0.0.1:0")
	program, state := p.launch(t)
	ready, _ := m.hear(t, "READY=1")
	if want := fmt.Sprintf("READY=1\nMAINPID=%d", program.Process.Pid); ready != want {
		t.Errorf("said %q, want %q", ready, want)
	}
	_, first := m.hear(t, "FDSTORE=1\nFDNAME=https")
	_, second := m.hear(t, "FDSTORE=1\nFDNAME=http")
	program.Process.Signal(syscall.SIGTERM)
	m.hear(t, "STOPPING=1")
	if err := program.Wait(); err != nil {
		t.Fatal(err)
	}

	answer := make(chan error, 1)
	go func() {
		v := &visitors{t: t, listen: state.Listeners[0]}
		c, end := v.client("h1")
		defer end()
		answer <- v.get(c, "/", int64(len("ok")))
	}()
	// The shell knows what number the program will have.
	next := exec.Command("sh", "-c", "LISTEN_PID=$$ exec spillway run --config "+p.file("spillway.yaml"))
	next.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=https:http")
	next.ExtraFiles = []*os.File{first["https"], second["http"]}
	next.Stderr = p.log
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	defer next.Wait()
	defer next.Process.Signal(syscall.SIGTERM)
	if err := <-answer; err != nil {
		t.Errorf("who came in between: %v", err)
	}
	var now nodeState
	if err := admin.NewClient("unix:"+p.file("a.sock")).Status(t.Context(), &now); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(now.Listeners, state.Listeners) {
		t.Errorf("the node listens on %v, want %v", now.Listeners, state.Listeners)
	}
}

// The manager follows the successor before the process that it has followed may end, and
// drops the socket of an address that is served no more.
func TestManagerFollowsUpgrade(t *testing.T) {
	m := newManager(t)
	t.Setenv("NOTIFY_SOCKET", m.path)
	p := prepare(t, "http: off", "http: 127.0.0.1:0")
	s := p.succeed(t)
	m.hear(t, "FDSTORE=1\nFDNAME=https")
	m.hear(t, "FDSTORE=1\nFDNAME=http")
	text, err := os.ReadFile(p.file("spillway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p.put(t, "spillway.yaml", strings.Replace(string(text), "http: 127.0.0.1:0", "http: off", 1))
	s.upgrade(t)
	want := []string{fmt.Sprintf("MAINPID=%d", s.pid()), "FDSTOREREMOVE=1\nFDNAME=http"}
	for len(want) > 0 {
		said, _ := m.hear(t, "")
		want = slices.DeleteFunc(want, func(words string) bool { return words == said })
	}
}
