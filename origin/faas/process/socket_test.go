package process

import (
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"spillway/origin/faas"
)

// Of hosts that start together one gets the socket, and the others say so.
func TestHostsThatStartTogether(t *testing.T) {
	for range 20 {
		path := filepath.Join(t.TempDir(), "s")
		var started atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if l, _, err := listen(path); err == nil {
					started.Add(1)
					t.Cleanup(func() { l.Close() })
				}
			})
		}
		wg.Wait()
		if n := started.Load(); n != 1 {
			t.Fatalf("%d hosts listen on one socket", n)
		}
	}
}

func TestSocketIsOpenToItsGroupOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, _, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

// A host that stops does not take the socket of its successor away.
func TestSocketOfTheNextHostStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, inode, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second, own, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := unlisten(path, inode); err != nil || !exists(path) {
		t.Errorf("the socket of the next host is gone, %v", err)
	}
	if err := unlisten(path, own); err != nil || exists(path) {
		t.Errorf("the host's own socket stays, %v", err)
	}
}

// A host that dies is not asked again on each idle connection to it.
func TestInvocationIsSentOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	const connections = 10
	var together, callers sync.WaitGroup
	var dying atomic.Bool
	var calls atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if dying.Load() {
			calls.Add(1)
			panic(http.ErrAbortHandler)
		}
		together.Done()
		together.Wait()
	}))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	defer server.Close()
	p := New(Config{Socket: path, Function: "f"})
	defer p.Close()
	together.Add(connections)
	for range connections {
		callers.Go(func() { fails(t, p, "/", faas.FunctionError, true, "") }) // an empty answer
	}
	callers.Wait()
	dying.Store(true)
	fails(t, p, "/", faas.Unavailable, true, "")
	if n := calls.Load(); n != 1 {
		t.Errorf("%d calls", n)
	}
}
