package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func echoProto(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.Host) }

func read(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return string(b)
}

// ask sends a request in the background. It returns what comes of it: the body of the
// answer, or an error.
func ask(c *http.Client, url string) <-chan string {
	answer := make(chan string, 1)
	go func() {
		resp, err := c.Get(url)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			b = []byte(err.Error())
		}
		answer <- string(b)
	}()
	return answer
}

func TestListenOnePortThreeProtocols(t *testing.T) {
	want := map[string]string{"h1": "HTTP/1.1", "h2": "HTTP/2.0", "h3": "HTTP/3.0"}
	edgetest.Run(t, http.HandlerFunc(echoProto), func(t *testing.T, v *edgetest.Visitor) {
		resp := v.Get(t, "/")
		if got := read(t, resp); !strings.HasPrefix(got, want[v.Proto]) {
			t.Errorf("answer %q, want %s", got, want[v.Proto])
		}
		altSvc := resp.Header.Get("Alt-Svc")
		if v.Proto == "h3" {
			if altSvc != "" {
				t.Errorf("Alt-Svc %q on HTTP/3", altSvc)
			}
			return
		}
		if want := fmt.Sprintf(`h3=":%d"; ma=3600`, edgetest.Port(v.Node.Listeners.Addr())); altSvc != want {
			t.Errorf("Alt-Svc %q, want %q", altSvc, want)
		}
	})
}

func TestListenWithoutHTTP3ClearsAltSvc(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Config.HTTP3.Enabled = false
	n := s.Start(t)
	resp := n.Visitor(t, "h2").Get(t, "/")
	read(t, resp)
	if got := resp.Header.Get("Alt-Svc"); got != "clear" {
		t.Errorf("Alt-Svc %q, want clear", got)
	}
}

// While handshakes hang in numbers nobody is invited to HTTP/3, and afterwards
// everybody is again.
func TestListenInvitesToHTTP3OnlyWithRoom(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Admit.HalfOpen = 2
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v := n.Visitor(t, "h2")
		await := func(invited bool) {
			t.Helper()
			for range 500 { // five seconds: no handshake may hang for longer than six
				resp := v.Get(t, "/")
				read(t, resp)
				if (resp.Header.Get("Alt-Svc") != "") == invited {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Fatalf("never invited=%v", invited)
		}
		await(true)
		var hanging []net.Conn
		for range 3 {
			c, err := n.DialTLS(t, "h2")
			if err != nil {
				t.Fatal(err)
			}
			hanging = append(hanging, c)
		}
		await(false)
		for _, c := range hanging {
			c.Close()
		}
		await(true)
	})
}

func TestListenHeaderLimit(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Config.Limits.HeaderBytes = 4 << 10
	s.Run(t, func(t *testing.T, v *edgetest.Visitor) {
		r, _ := http.NewRequest(http.MethodGet, v.URL, nil)
		r.Header.Set("Big", strings.Repeat("x", 16<<10))
		resp, err := v.Do(r)
		if err != nil {
			// Some clients keep to the limit that the node announced.
			if v.Proto == "h1" {
				t.Fatal(err)
			}
			return
		}
		read(t, resp)
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d, want 431", resp.StatusCode)
		}
	})
}

func TestListenBodyLimit(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		var tooLarge *http.MaxBytesError
		fmt.Fprint(w, n, " ", errors.As(err, &tooLarge))
	}
	s := edgetest.New(http.HandlerFunc(h))
	s.Config.Limits.BodyBytes = 10 << 10
	s.Run(t, func(t *testing.T, v *edgetest.Visitor) {
		f := func(size int, want string) {
			t.Helper()
			// Without a length, so that only reading tells.
			body := io.MultiReader(bytes.NewReader(make([]byte, size)))
			resp, err := v.Post(v.URL, "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != want {
				t.Errorf("%d bytes: %q, want %q", size, got, want)
			}
		}
		f(10, "10 false")
		f(10<<10, "10240 false")
		f(10<<10+1, "10240 true")
		f(40<<10, "10240 true")
	})
}

func TestListenReadsWholeLargeResponse(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // several steps of a guard
	h := func(w http.ResponseWriter, _ *http.Request) {
		if n, err := w.Write(body); n != len(body) || err != nil {
			t.Errorf("wrote %d bytes, %v", n, err)
		}
	}
	edgetest.Run(t, http.HandlerFunc(h), func(t *testing.T, v *edgetest.Visitor) {
		if got := read(t, v.Get(t, "/")); got != string(body) {
			t.Errorf("got %d bytes, want %d and the same", len(got), len(body))
		}
	})
}

func TestListenFlushAndHijack(t *testing.T) {
	release := make(chan struct{})
	h := func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.URL.Path == "/hijack" {
			conn, _, err := rc.Hijack()
			if err != nil {
				fmt.Fprint(w, "not hijacked")
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhijacked")
			conn.Close()
			return
		}
		fmt.Fprint(w, "first ")
		if err := rc.Flush(); err != nil {
			t.Error(err)
		}
		<-release
		fmt.Fprint(w, "second")
	}
	edgetest.Run(t, http.HandlerFunc(h), func(t *testing.T, v *edgetest.Visitor) {
		resp := v.Get(t, "/")
		b := make([]byte, 6)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "first " {
			t.Errorf("before the handler's end: %q, %v", b, err)
		}
		release <- struct{}{}
		if got := read(t, resp); got != "second" {
			t.Errorf("after the handler's end: %q", got)
		}
		want := "not hijacked"
		if v.Proto == "h1" {
			want = "hijacked"
		}
		if got := read(t, v.Get(t, "/hijack")); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestListenPanicCutsOneRequestOnly(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "ok")
	}
	edgetest.Run(t, http.HandlerFunc(h), func(t *testing.T, v *edgetest.Visitor) {
		if resp, err := v.Client.Get(v.URL + "/panic"); err == nil {
			t.Errorf("status %d of a handler that panicked", resp.StatusCode)
		}
		if got := read(t, v.Get(t, "/")); got != "ok" {
			t.Errorf("then: %q", got)
		}
	})
}

func TestListenAdoptedSockets(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Config.HTTP = "127.0.0.1:0"
	opened, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	add := func(f *os.File, err error) {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	plain, err := opened.HTTP.(*net.TCPListener).File()
	add(plain, err)
	add(opened.TCP.(*net.TCPListener).File())
	add(opened.UDP[0].(*net.UDPConn).File())
	// A name as the service manager gives it puts the redirect in its place,
	// although it comes first.
	named := os.NewFile(dup(t, plain), "http")
	files[0] = named
	adopted, err := edge.AdoptSockets(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, plain) {
		f.Close()
	}
	if got, want := adopted.TCP.Addr().String(), opened.TCP.Addr().String(); got != want {
		t.Errorf("TCP on %s, want %s", got, want)
	}
	if got, want := adopted.HTTP.Addr().String(), opened.HTTP.Addr().String(); got != want {
		t.Errorf("HTTP on %s, want %s", got, want)
	}
	opened.Close()
	n := s.StartOn(t, adopted)
	for _, proto := range edgetest.Protocols {
		if got := read(t, n.Visitor(t, proto).Get(t, "/")); !strings.HasPrefix(got, "HTTP/") {
			t.Errorf("%s: %q", proto, got)
		}
	}
}

func TestListenAdoptRefuses(t *testing.T) {
	f := func(want string, files ...*os.File) {
		t.Helper()
		if _, err := edge.AdoptSockets(files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
		for _, f := range files {
			f.Close()
		}
	}
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	file, err := udp.File()
	if err != nil {
		t.Fatal(err)
	}
	f("no stream socket", file)
	f("socket operation on non-socket", openFile(t))
}

func dup(t *testing.T, f *os.File) uintptr {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return uintptr(fd)
}

func openFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestListenSecondNodeOnSamePortFails(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	n := s.Start(t)
	s.Config.Listen = n.Listeners.Addr().String()
	socks, err := edge.OpenSockets(t.Context(), s.Config)
	if err == nil {
		socks.Close()
		t.Fatal("two nodes share a port and its visitors")
	}
	if !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("error %q does not say what to do", err)
	}
}

func TestListenShutdownFinishesRequestsInFlight(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			entered, release := make(chan struct{}), make(chan struct{})
			n := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/held" {
					close(entered)
					<-release
				}
				fmt.Fprint(w, "done")
			})).Start(t)
			v := n.Visitor(t, proto)
			answer := ask(v.Client, v.URL+"/held")
			<-entered
			down := make(chan error, 1)
			go func() { down <- n.Listeners.Shutdown(context.Background()) }()
			refusedSoon(t, n, proto)
			close(release)
			if got := <-answer; got != "done" {
				t.Errorf("request in flight: %q", got)
			}
			v.Close()
			if err := <-down; err != nil {
				t.Errorf("shutdown: %v", err)
			}
		})
	}
}

// refusedSoon waits until newcomers are turned away: visitors of a node that
// drains must learn it, not wait. Who comes before it drains is answered.
func refusedSoon(t *testing.T, n *edgetest.Node, proto string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		v := n.Visitor(t, proto)
		v.Timeout = 10 * time.Second
		resp, err := v.Client.Get(v.URL)
		if err == nil {
			resp.Body.Close()
			v.Close()
			continue
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("newcomer while the node drains: %v, want a refusal", err)
		}
		return
	}
	t.Error("newcomers are still taken in")
}

func TestListenShutdownCutsOffAtTheDeadline(t *testing.T) {
	entered := make(chan struct{})
	h := func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	}
	edgetest.Run(t, http.HandlerFunc(h), func(t *testing.T, v *edgetest.Visitor) {
		failed := make(chan error, 1)
		go func() {
			_, err := v.Client.Get(v.URL)
			failed <- err
		}()
		<-entered
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := v.Node.Listeners.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("shutdown: %v, want that of its context", err)
		}
		if err := <-failed; err == nil {
			t.Error("a request that was cut off ended well")
		}
	})
}

// A handler that ignores the end of its request must not keep the node from
// ending.
func TestListenShutdownGivesUpOnHandlers(t *testing.T) {
	h := func(http.ResponseWriter, *http.Request) { time.Sleep(time.Hour) }
	edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		v := n.Visitor(t, "h3")
		go v.Client.Get(v.URL)
		time.Sleep(time.Second)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Listeners.Shutdown(ctx); err == nil || !strings.Contains(err.Error(), "handlers go on") {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(start); took != time.Minute+5*time.Second {
			t.Errorf("gave up after %s", took)
		}
		time.Sleep(time.Hour)
		if err := n.Listeners.Shutdown(t.Context()); err != nil {
			t.Errorf("second shutdown: %v", err)
		}
	})
}

func TestListenEarlyData(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Method, " ", edge.Early(r)) }
	s := edgetest.New(http.HandlerFunc(h))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		n.Client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		f := func(method, want string) {
			t.Helper()
			v := n.Visitor(t, "h3")
			defer v.Close()
			r, err := http.NewRequest(method, v.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := v.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if got := read(t, resp); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			time.Sleep(time.Second) // for the ticket
		}
		f(http.MethodGet, "GET false")
		f(http3.MethodGet0RTT, "GET true")
		if got := earlyPost(t, n); got != "POST false" {
			t.Errorf("got %q", got)
		}
		f(http.MethodPost, "POST false")
	})
}

// earlyPost sends a POST as early data, as a careless client does.
func earlyPost(t *testing.T, n *edgetest.Node) string {
	t.Helper()
	conn, err := n.Dial(t, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	str, err := new(http3.Transport).NewClientConn(conn).OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, n.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := str.SendRequestHeader(r); err != nil {
		t.Fatal(err)
	}
	str.Close()
	select {
	case <-conn.HandshakeComplete():
		t.Error("the request was not early")
	default:
	}
	resp, err := str.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	if !conn.ConnectionState().Used0RTT {
		t.Error("no early data was used")
	}
	return read(t, resp)
}

// BenchmarkRequest measures a whole exchange of 1 KiB on one connection, client
// included.
func BenchmarkRequest(b *testing.B) {
	body := make([]byte, 1024)
	h := func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }
	for _, proto := range edgetest.Protocols {
		b.Run(proto, func(b *testing.B) {
			v := edgetest.New(http.HandlerFunc(h)).Start(b).Visitor(b, proto)
			b.ReportAllocs()
			for b.Loop() {
				resp := v.Get(b, "/")
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
