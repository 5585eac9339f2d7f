package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

// A pair is the same node twice, with the fast path of HTTP/1.1 and without, in memory,
// so that no byte of an answer is lost when a node closes a connection.
type pair struct {
	world  *world
	served atomic.Int64 // through net/http, by both
	fast   pipedNode
	slow   pipedNode
}

type pipedNode struct {
	*edgetest.Node
	pipes pipes
}

// Pipes are a listener in memory.
type pipes struct {
	net.Listener // whose address it has
	conns        chan net.Conn
	closed       chan struct{}
	close        func()
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { p.close(); return nil }

// An addressed connection has addresses that admission knows.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }

func (n *pipedNode) start(t testing.TB, h http.Handler, fastPath string, change func(*edge.Config)) {
	at, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at.Close()
	n.pipes = pipes{Listener: at, conns: make(chan net.Conn), closed: make(chan struct{})}
	n.pipes.close = sync.OnceFunc(func() { close(n.pipes.closed) })
	setup := edgetest.New(h)
	setup.Config.HTTP1.FastPath, setup.Config.HTTP3.Enabled = fastPath, false
	change(&setup.Config)
	n.Node = setup.StartOn(t, edge.Sockets{TCP: n.pipes})
}

// visit connects a visitor.
func (n *pipedNode) visit(t testing.TB) *tls.Conn {
	ours, theirs := net.Pipe()
	n.pipes.conns <- addressed{theirs}
	conn := tls.Client(ours, n.Client)
	conn.SetDeadline(time.Now().Add(20 * time.Second)) // only a failing case gets there
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return conn
}

// newPair starts both, with an entry at /plain/a and a large one at /plain/large.
func newPair(t testing.TB, change func(*edge.Config)) *pair {
	p := &pair{world: newWorldWith(t, "h1", 1, func(c *edge.Config, _ []edge.RouteConfig) { c.Expose = "outcome" })}
	p.world.origin.says(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		body := "kept"
		if r.URL.Path == "/plain/large" {
			body = strings.Repeat("0123456789abcdef", 10<<10)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		cacheable(forever, body)(w, r)
	})
	for _, path := range []string{"/plain/a", "/plain/large"} {
		p.world.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "https://"+edgetest.Host+path))
	}
	h := edge.Echo{Server: p.world.server, Served: &p.served}
	p.fast.start(t, h, "on", change)
	p.slow.start(t, h, "off", change)
	return p
}

// says returns all that a node answers to bytes that come in pieces, each in a record of
// its own, and then no more.
func (n *pipedNode) says(t testing.TB, sent []byte, pieces []byte) string {
	conn := n.visit(t)
	defer conn.Close()
	go func() {
		for _, size := range pieces {
			size := min(int(size), len(sent))
			if _, err := conn.Write(sent[:size]); err != nil {
				return
			}
			sent = sent[size:]
		}
		conn.Write(sent)
		conn.CloseWrite()
	}()
	got, _ := io.ReadAll(conn)
	return passing.ReplaceAllString(string(got), "")
}

// passing are fields that change with the time.
var passing = regexp.MustCompile(`(?m)^(Date|Age|Cache-Status): .*\r\n`)

const (
	askHit   = "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\n\r\n"
	askLarge = "GET /plain/large?a HTTP/1.1\r\nHost: edge.test\r\n\r\n"
	askMiss  = "GET /plain/b HTTP/1.1\r\nHost: edge.test\r\nX: y\r\n\r\n"
	askPost  = "POST /plain/a HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 5\r\n\r\nGET /"
)

// streams are what visitors may send.
var streams = []string{
	askHit,
	askHit + askHit + askMiss + askHit + askMiss + askMiss + askHit,
	askPost + askHit + "\r\n" + askHit,
	askHit + askPost + askHit + askPost + askMiss + askHit,
	strings.Repeat(askHit, 40),
	strings.Replace(askLarge, "?a", "", 1) + askHit + askLarge + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.0\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.0\r\nHost: edge.test\r\nConnection: keep-alive\r\n\r\n" + askHit,
	askHit + "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n" + askHit,
	askHit + "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + askHit,
	askHit + "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n" + askHit,
	askHit + "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\r\n" + askHit + askHit,
	askHit + "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 46\r\nExpect: 100-continue\r\n\r\n" + askHit + askHit,
	askHit + "\r\n" + askHit,
	askPost + "\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\nHost: edge.test\n\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\n a: b\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nX:\r\n y\r\n\r\n" + askHit,
	askHit + "GET https://edge.test/plain/a HTTP/1.1\r\nHost: other\r\n\r\n" + askHit,
	askHit + "GET /plain/%61 HTTP/1.1\r\nHost: edge.test\r\n\r\nGET /plain/./a HTTP/1.1\r\nHost: edge.test\r\n\r\n" + askHit,
	askHit + "HEAD /plain/a HTTP/1.1\r\nHost: edge.test\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nRange: bytes=1-2\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nPragma: no-cache\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nConnection: keep-alive\r\nCookie: a=b\r\ncookie: c\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nCookie: " + strings.Repeat("c", 5000) + "\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" + askHit,
	askHit + "CONNECT /plain/a HTTP/1.1\r\nHost: edge.test\r\n\r\n" + askHit,
	askHit + "OPTIONS * HTTP/1.1\r\nHost: edge.test\r\n\r\n" + askHit,
	askHit + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nX: \x00\r\n\r\n" + askHit,
	askHit + "nonsense\r\n" + askHit,
	askHit + "GET /plain/a HTTP/1.1\r\nHost: edge.te",
	askHit + "\x00\x01",
}

// TestHTTP1AnswersAlike: with the fast path and without, the same bytes get the same
// answers, wherever they are cut.
func TestHTTP1AnswersAlike(t *testing.T) {
	p := newPair(t, func(*edge.Config) {})
	for i, s := range streams {
		want := p.slow.says(t, []byte(s), nil)
		if !strings.HasPrefix(want, "HTTP/1.1 200 OK\r\n") {
			t.Fatalf("%.200q: got %.200q without the fast path", s, want)
		}
		cuts := []int{0, len(askHit) + 1, len(askHit) + 20, len(s) - 1}
		if i == 1 || i == 3 {
			cuts = nil
			for cut := range 250 {
				cuts = append(cuts, cut)
			}
		}
		for _, cut := range cuts {
			if got := p.fast.says(t, []byte(s), []byte{byte(min(cut, 255))}); got != want {
				t.Errorf("%.200q, cut at %d: got\n%.3000s\nwant\n%.3000s", s, cut, got, want)
			}
		}
		if got := p.fast.says(t, []byte(s), bytes.Repeat([]byte{1}, min(len(s), 400))); got != want {
			t.Errorf("%.200q, byte by byte: got\n%.3000s\nwant\n%.3000s", s, got, want)
		}
	}
}

// TestHTTP1FieldsInOrder: with the fast path and without, the fields of a hit come in the
// same order, also that which differs with each request.
func TestHTTP1FieldsInOrder(t *testing.T) {
	w := newWorldWith(t, "h1", 1, func(c *edge.Config, _ []edge.RouteConfig) { c.Expose = "full" })
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Content-Type", "Server-Timing", "X-Content-Type-Options", "X-Request-Id", "X-Xss-Protection", "Zz"} {
			rw.Header().Set(name, "text/plain")
		}
		cacheable(3600, "kept")(rw, nil)
	})
	w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "https://"+edgetest.Host+"/plain/a"))
	var fast, slow pipedNode
	fast.start(t, edge.Counted{Server: w.server, Arrived: &w.arrived, Fast: &w.fast}, "on", asIs)
	slow.start(t, edge.Counted{Server: w.server, Arrived: &w.arrived, Fast: &w.fast}, "off", asIs)
	ask := []byte("GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nX-Request-Id: mine\r\n\r\n")
	got, want := fast.says(t, ask, nil), slow.says(t, ask, nil)
	if got != want || !strings.Contains(got, "X-Request-Id: mine\r\nX-Xss") || w.fast.Load() != 1 {
		t.Errorf("%d with the fast path; got\n%s\nwant\n%s", w.fast.Load(), got, want)
	}
}

// FuzzHTTP1 asks the same of any bytes.
func FuzzHTTP1(f *testing.F) {
	for _, s := range streams {
		if len(s) < 1000 {
			f.Add([]byte(s), []byte{20, 0, 40})
		}
	}
	p := newPair(f, func(*edge.Config) {})
	f.Fuzz(func(t *testing.T, sent, pieces []byte) {
		if len(pieces) > 64 {
			return
		}
		if got, want := p.fast.says(t, sent, pieces), p.slow.says(t, sent, pieces); got != want {
			t.Errorf("%q in %v: got\n%s\nwant\n%s", sent, pieces, got, want)
		}
	})
}

// TestHTTP1StaysFast: what is no hit goes through net/http, and the hits behind it do
// not. What does not end where all agree that it ends is the last that is looked at.
func TestHTTP1StaysFast(t *testing.T) {
	p := newPair(t, func(*edge.Config) {})
	conn := p.fast.visit(t)
	in := bufio.NewReader(conn)
	ask := func(sent string, served int64, status string) {
		t.Helper()
		before := p.served.Load()
		io.WriteString(conn, sent)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.Status != status || len(body) == 0 || p.served.Load()-before != served {
			t.Errorf("%.60q: got %s, %d went through net/http, want %s, %d", sent, resp.Status, p.served.Load()-before, status, served)
		}
	}
	for range 3 {
		ask(askHit, 0, "200 OK")
		ask(askMiss, 1, "200 OK")
		ask(askHit, 0, "200 OK")
		ask(askPost, 1, "200 OK")
		ask(askHit, 1, "200 OK") // net/http must forget the POST
		ask(strings.Replace(askLarge, "?a", "", 1), 0, "200 OK")
		ask("GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nIf-None-Match: \"a\"\r\n\r\n", 1, "200 OK")
		ask("GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nConnection: keep-alive\r\n\r\n", 0, "200 OK")
	}
	ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1, "200 OK")
	ask(askHit, 1, "200 OK")
	if n := p.world.server.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// TestHTTP1WaitsAsLong: after hits, a visitor has as much time for the next request as
// ever, and for the rest of one that has begun.
func TestHTTP1WaitsAsLong(t *testing.T) {
	p := newPair(t, asIs)
	h := edge.Echo{Server: p.world.server, Served: &p.served}
	// What is sent later comes when all before was answered.
	says := func(fastPath, sent, later string, idle, header time.Duration) (answers string, took time.Duration) {
		s := edgetest.New(h)
		s.Config.HTTP1.FastPath, s.Config.Timeouts.Idle, s.Config.Timeouts.Header = fastPath, idle, header
		s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
			conn, err := n.DialTLS(t, "http/1.1")
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			io.WriteString(conn, sent)
			if later != "" {
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil || resp.ContentLength != int64(len("kept")) {
					t.Fatal(resp, err)
				}
				io.WriteString(conn, later)
			}
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Errorf("%q, %q: %v after %q", sent, later, err, got)
			}
			answers, took = passing.ReplaceAllString(string(got), ""), time.Since(begun)
		})
		return answers, took
	}
	const soon, never = 5 * time.Second, time.Hour
	f := func(sent, later string, idle, header time.Duration) {
		t.Helper()
		want, _ := says("off", sent, later, idle, header)
		got, took := says("on", sent, later, idle, header)
		if got != want || took < soon || took > soon*9/8 { // see hitConn.await
			t.Errorf("%q, %q: got %q, the end of it after %v, want %q after %v", sent, later, got, took, want, soon)
		}
	}
	f(askHit, "", soon, never)
	f(askHit+askMiss+askHit, "", soon, never)
	f(askHit+askHit[:20], "", never, soon)
	f(askHit[:20], "", never, soon)
	f(askHit+"GET / HTTP/1.1\r\n a", "", never, soon)
	f(askHit, askHit[:20], never, soon)
	f(askHit, "GET / HTTP/1.1\r\nConnection: close\r\nHost", never, soon)
}

// TestHTTP1HitIsCutOff: a visitor who takes nothing of a hit is cut off, and it counts as
// one that was not taken.
func TestHTTP1HitIsCutOff(t *testing.T) {
	p := newPair(t, func(c *edge.Config) { c.Timeouts.Stall = 300 * time.Millisecond })
	conn := p.fast.visit(t)
	before := p.world.server.Outcomes()[outcome.Canceled]
	io.WriteString(conn, strings.Replace(askLarge, "?a", "", 1))
	for end := time.Now().Add(20 * time.Second); p.world.server.Outcomes()[outcome.Canceled] == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it goes on")
		}
	}
	if got, err := io.ReadAll(conn); err == nil && len(got) > 100<<10 {
		t.Errorf("got %d bytes", len(got))
	}
	if p.served.Load() != 0 {
		t.Error("it was no hit of the fast path")
	}
}

// TestHTTP1HitsPart: when the node leaves, a hit is the last answer of its connection as
// any other, and says so; who asks no more is let go.
func TestHTTP1HitsPart(t *testing.T) {
	p := newPair(t, func(*edge.Config) {})
	conn, idle := p.fast.visit(t), p.fast.visit(t)
	in := bufio.NewReader(conn)
	io.WriteString(idle, askHit)
	if resp, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || resp.Close {
		t.Fatal(resp, err)
	}
	left := make(chan error)
	go func() { left <- p.fast.Listeners.Shutdown(context.Background()) }()
	for {
		io.WriteString(conn, askHit)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Close {
			break
		}
	}
	if _, err := in.ReadByte(); err == nil {
		t.Error("the connection goes on after its last answer")
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// TestHTTP1Panics: a panic costs its connection only. The hits before it that were not sent
// end, and nobody else gets them.
func TestHTTP1Panics(t *testing.T) {
	p := newPair(t, func(*edge.Config) {})
	var n pipedNode
	n.start(t, edge.Brittle{Server: p.world.server, Panics: new(atomic.Int64)}, "on", func(*edge.Config) {})
	for range 20 { // on many connections, whatever pools keep
		before := p.world.server.Outcomes()
		conn := n.visit(t)
		io.WriteString(conn, askHit+askHit+"GET /plain/a HTTP/1.1\r\nHost: edge.test\r\nX-Panic: find\r\n\r\n"+askHit)
		if got, _ := io.ReadAll(conn); len(got) > 0 {
			t.Errorf("got %q before a panic", got)
		}
		if got := p.world.server.Outcomes()[outcome.Failed] - before[outcome.Failed]; got != 2 {
			t.Errorf("%d failed, want 2", got)
		}
		other := n.visit(t)
		io.WriteString(other, strings.Replace(askLarge, "?a", "", 1))
		resp, err := http.ReadResponse(bufio.NewReader(other), nil)
		if err != nil || resp.ContentLength != 160<<10 {
			t.Fatalf("another visitor got %+v, %v", resp, err)
		}
		io.Copy(io.Discard, resp.Body)
		other.Close()
	}
	p.world.awaitUnpinned(t, "after a panic")
	if n := p.world.server.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// TestHTTP1WebSocketAfterHits: a connection that was asked for hits can become another
// protocol's, whose first bytes may come with the request.
func TestHTTP1WebSocketAfterHits(t *testing.T) {
	w := newWorld(t, "h1", 1)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			rw.Header().Set("Content-Type", "text/plain")
			cacheable(60, "kept")(rw, r)
			return
		}
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
		io.Copy(conn, buf)
	})
	conn, err := w.node.DialTLS(t, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(conn)
	ask := func(sent string, status int) {
		t.Helper()
		io.WriteString(conn, sent)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != status {
			t.Fatalf("got %v, %v", resp, err)
		}
		if status != http.StatusSwitchingProtocols {
			io.Copy(io.Discard, resp.Body)
		}
	}
	for range 3 {
		ask(askHit, 200)
	}
	ask("GET /plain/ws HTTP/1.1\r\nHost: edge.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", 101)
	for _, message := range []string{askHit, "hello"} {
		io.WriteString(conn, message)
		got := make([]byte, len(message))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != message {
			t.Errorf("got %q, %v, want %q", got, err, message)
		}
	}
}
