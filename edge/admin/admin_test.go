package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// fixture is what the tests' listener shows.
type fixture struct {
	notReady error
	emptied  int
}

func (f *fixture) options() Options {
	return Options{
		Metrics: func(w io.Writer) { fmt.Fprintln(w, "spillway_up 1") },
		Ready:   func() error { return f.notReady },
		Status:  func() any { return map[string]int{"answer": 42} },
		Handlers: map[string]http.Handler{
			"/empty/": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { f.emptied++ }),
		},
	}
}

// start runs a listener until the test ends.
func start(t *testing.T, address string, f *fixture) *Server {
	t.Helper()
	s, err := New(Config{Address: address}, f.options(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// addresses are the two kinds of listeners; every test of answers runs on both.
func addresses(t *testing.T) map[string]string {
	return map[string]string{
		"unix":     "unix:" + filepath.Join(t.TempDir(), "run", "admin.sock"),
		"loopback": "127.0.0.1:0",
	}
}

func TestAnswers(t *testing.T) {
	for kind, address := range addresses(t) {
		t.Run(kind, func(t *testing.T) {
			var fix fixture
			client := NewClient(start(t, address, &fix).Addr())
			f := func(path, want string) {
				t.Helper()
				body, err := client.Get(t.Context(), path)
				if err != nil || !strings.Contains(string(body), want) {
					t.Errorf("%s answers %q, %v; want %q", path, body, err, want)
				}
			}
			f("/healthz", "ok\n")
			f("/readyz", "ready\n")
			f("/metrics", "spillway_up 1\n")
			f("/status", `"answer": 42`)
			f("/debug/pprof/", "goroutine")
			f("/debug/pprof/goroutine?debug=1", "goroutine profile")
			f("/debug/pprof/cmdline", "admin.test")

			var state map[string]int
			if err := client.Status(t.Context(), &state); err != nil || state["answer"] != 42 {
				t.Errorf("the status is %v, %v", state, err)
			}
			if _, err := client.Post(t.Context(), "/empty/spill"); err != nil || fix.emptied != 1 {
				t.Errorf("the control was used %d times, %v", fix.emptied, err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	fix := fixture{notReady: errors.New("draining")}
	s := start(t, "127.0.0.1:0", &fix)
	f := func(method, path, host string, header http.Header, want int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Close = host, true
		maps.Copy(req.Header, header)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %s at %s with %v answers %d, want %d", method, path, host, header, resp.StatusCode, want)
		}
	}
	f("GET", "/readyz", s.Addr(), nil, http.StatusServiceUnavailable)
	f("GET", "/", s.Addr(), nil, http.StatusNotFound)
	f("GET", "/debug", s.Addr(), nil, http.StatusNotFound)
	f("POST", "/status", s.Addr(), nil, http.StatusMethodNotAllowed)
	f("GET", "/empty/spill", s.Addr(), nil, http.StatusMethodNotAllowed)
	// A page whose name resolves to loopback.
	f("GET", "/status", "evil.example", nil, http.StatusForbidden)
	f("GET", "/status", "evil.example:9443", nil, http.StatusForbidden)
	f("GET", "/status", "10.0.0.1", nil, http.StatusForbidden)
	f("GET", "/status", "localhost", nil, http.StatusOK)
	f("GET", "/status", "[::1]:9443", nil, http.StatusOK)
	// A page from elsewhere that posts.
	f("POST", "/empty/spill", s.Addr(), http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden)
	f("POST", "/empty/spill", s.Addr(), http.Header{"Origin": {"null"}}, http.StatusForbidden)
	f("POST", "/empty/spill", s.Addr(), http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden)
	if fix.emptied != 0 {
		t.Error("a foreign page used a control")
	}
	f("POST", "/empty/spill", s.Addr(), http.Header{"Origin": {"http://" + s.Addr()}, "Sec-Fetch-Site": {"same-origin"}}, http.StatusOK)
}

func TestSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	options, log := (&fixture{}).options(), slog.New(slog.DiscardHandler)
	first, err := New(Config{Address: "unix:" + path}, options, log)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != socketMode {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	_, err = New(Config{Address: "unix:" + path}, options, log)
	if want := "open admin listener: another process answers on " + path; err == nil || err.Error() != want {
		t.Errorf("a second listener gives %v, want %s", err, want)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket outlives its listener")
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := New(Config{Address: "unix:" + path}, (&fixture{}).options(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestSocketOfAnotherNodeStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	options, log := (&fixture{}).options(), slog.New(slog.DiscardHandler)
	first, err := New(Config{Address: "unix:" + path}, options, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	second, err := New(Config{Address: "unix:" + path}, options, log)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket of the second went with the first: %v", err)
	}
}

func TestAddressesThatAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(address, want string) {
		t.Helper()
		_, err := New(Config{Address: address}, (&fixture{}).options(), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %s", address, err, want)
		}
	}
	f("0.0.0.0:0", "neither unix:PATH nor a loopback address")
	f(":0", "neither unix:PATH nor a loopback address")
	f("example.com:80", "neither unix:PATH nor a loopback address")
	f("unix:"+file, "exists and is not a socket")
}

func TestClientSaysThatNobodyAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	_, err := NewClient("unix:"+path).Get(t.Context(), "/status")
	want := "unix:" + path + ": no node answers there (connect: no such file or directory)"
	if !errors.Is(err, ErrNotRunning) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Two processes have one listener for a while: whoever ends first leaves the socket to
// the other.
func TestInheritedListener(t *testing.T) {
	for kind, address := range addresses(t) {
		t.Run(kind, func(t *testing.T) {
			options, log := (&fixture{}).options(), slog.New(slog.DiscardHandler)
			first, err := New(Config{Address: address}, options, log)
			if err != nil {
				t.Fatal(err)
			}
			heir := func() net.Listener {
				file, err := first.File()
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				l, err := net.FileListener(file)
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			failed, err := New(Config{Address: address, Inherited: heir()}, options, log)
			if err != nil {
				t.Fatal(err)
			}
			if err := failed.Close(); err != nil {
				t.Fatal(err)
			}
			second, err := New(Config{Address: address, Inherited: heir()}, options, log)
			if err != nil {
				t.Fatal(err)
			}
			if first.Addr() != second.Addr() {
				t.Errorf("the successor is at %s, want %s", second.Addr(), first.Addr())
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- second.Run(ctx) }()
			if _, err := NewClient(second.Addr()).Get(t.Context(), "/healthz"); err != nil {
				t.Error(err)
			}
			select {
			case <-second.Left():
				t.Error("the successor has left while it runs")
			default:
			}
			cancel()
			<-second.Left()
			if _, err := NewClient(second.Addr()).Get(t.Context(), "/healthz"); err == nil {
				t.Error("who has left answers")
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				if _, err := os.Stat(path); err == nil {
					t.Error("the socket outlives the last who had it")
				}
			}
		})
	}
}

// A listener with another address than the configuration's is not used.
func TestInheritedListenerElsewhere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Address: "unix:" + filepath.Join(t.TempDir(), "a.sock"), Inherited: l}, (&fixture{}).options(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the old listener gives %v", err)
	}
}
