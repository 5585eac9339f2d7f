package edge_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

// echoSockets is an origin that says over a WebSocket what it hears.
func echoSockets(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		io.WriteString(w, "plain")
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(4 << 20)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if err := c.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// A socket is the visitor's side of a WebSocket, as bytes.
type socket struct {
	io.Reader
	io.Writer
	status int
	header http.Header
	close  func()
}

// openSocket asks for a WebSocket in the form of the visitor's protocol.
func (w *world) openSocket(t *testing.T, path string) (*socket, error) {
	t.Helper()
	if w.visitor.Proto == "h1" {
		return w.upgrade(t, path)
	}
	return w.connect(t, path, "websocket")
}

// connect sends an extended CONNECT.
func (w *world) connect(t *testing.T, path, protocol string) (*socket, error) {
	t.Helper()
	body, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodConnect, w.visitor.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-WebSocket-Version", "13")
	var client http.RoundTripper = w.visitor.Transport
	if w.visitor.Proto == "h2" {
		req.Header[":protocol"] = []string{protocol}
		client = w.extended().Transport
	} else {
		req.Proto = protocol
	}
	resp, err := client.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	s := &socket{resp.Body, writer, resp.StatusCode, resp.Header, func() { writer.Close(); resp.Body.Close() }}
	t.Cleanup(s.close)
	return s, nil
}

// extended is an HTTP/2 client that sends extended CONNECT, which net/http's own
// does not unless told by GODEBUG.
func (w *world) extended() *http.Client {
	//lint:ignore SA1019 see above
	return &http.Client{Transport: &http2.Transport{TLSClientConfig: w.node.Client.Clone()}}
}

// upgrade sends an Upgrade, with more lines of header.
func (w *world) upgrade(t *testing.T, path string, lines ...string) (*socket, error) {
	t.Helper()
	conn, err := w.node.DialTLS(t, "http/1.1")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: "+edgetest.Host+"\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+strings.Join(append(lines, "\r\n"), "\r\n"))
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	return &socket{in, conn, resp.StatusCode, resp.Header, func() { conn.Close() }}, nil
}

// say sends a text frame and returns the payload of the frame that comes back.
func (s *socket) say(text string) (string, error) {
	frame := append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...) // masked with zeros
	if _, err := s.Write(frame); err != nil {
		return "", err
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(s, head); err != nil {
		return "", err
	}
	payload := make([]byte, head[1])
	_, err := io.ReadFull(s, payload)
	return string(payload), err
}

// up waits until the node knows that the socket is open. Its header may come before:
// what is cut then is a request that was canceled, and no tunnel.
func (s *socket) up(t *testing.T) {
	t.Helper()
	if heard, err := s.say("up"); heard != "up" || err != nil {
		t.Fatalf("answered %d, heard %q (%v)", s.status, heard, err)
	}
}

// opened is the status that says that a WebSocket is open.
func opened(proto string) int {
	if proto == "h1" {
		return http.StatusSwitchingProtocols
	}
	return http.StatusOK
}

func TestWebSocketIsCarried(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(echoSockets)
		s, err := w.openSocket(t, "/spill/socket?a=%2F")
		if err != nil {
			t.Fatal(err)
		}
		if s.status != opened(w.visitor.Proto) || s.header.Get("Spillway") != "origin" {
			t.Fatalf("got %d, %q", s.status, s.header.Get("Spillway"))
		}
		for _, text := range []string{"hello", "", "again"} {
			if got, err := s.say(text); got != text || err != nil {
				t.Fatalf("said %q, heard %q (%v)", text, got, err)
			}
		}
		// The origin takes one request at a time; a socket is none of them.
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", "plain")
		// A closing handshake ends it cleanly.
		s.Write([]byte{0x88, 0x80, 0, 0, 0, 0})
		rest, err := io.ReadAll(s)
		if !bytes.HasPrefix(rest, []byte{0x88}) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %x (%v), want a close frame and the end", rest, err)
		}
		w.settled(t)
	})
}

// settled waits until no request is in flight, and no fetch: its visitors may have all of it
// before it is over, and until then nobody fetches the same anew.
func (w *world) settled(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); w.server.InFlight() > 0 || w.cache.State().Flights > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests and %d fetches are still in flight", w.server.InFlight(), w.cache.State().Flights)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWebSocketOfAForeignClient(t *testing.T) {
	w := newWorld(t, "h1", 1)
	w.origin.says(echoSockets)
	c, _, err := websocket.Dial(t.Context(), w.visitor.URL+"/plain/socket", &websocket.DialOptions{HTTPClient: w.visitor.Client})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(4 << 20)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := c.Write(t.Context(), websocket.MessageBinary, large); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, large) {
		t.Errorf("got %d bytes (%v), want %d", len(got), err, len(large))
	}
	if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("closing handshake: %v", err)
	}
	w.settled(t)
}

func TestWebSocketThatTheOriginDeclines(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		f := func(h http.HandlerFunc, status int) {
			t.Helper()
			w.origin.says(h)
			s, err := w.openSocket(t, "/plain/socket")
			if err != nil {
				t.Fatal(err)
			}
			if s.status != status {
				t.Errorf("got %d, want %d", s.status, status)
			}
		}
		f(func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "no", http.StatusForbidden) }, 403)
		plain := 200
		if w.visitor.Proto != "h1" {
			plain = 502 // a 200 would say that the tunnel is open
		}
		f(func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, "a page") }, plain)
		f(func(rw http.ResponseWriter, r *http.Request) {
			conn, _, _ := http.NewResponseController(rw).Hijack()
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: no\r\n\r\n")
		}, 502)
		w.settled(t)
	})
}

func TestWebSocketNeverSpills(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		s, err := w.openSocket(t, "/spill/socket")
		if err != nil {
			t.Fatal(err)
		}
		if s.status != 503 || w.first.requests.Load() != 0 {
			t.Errorf("got %d, and %d calls of a function", s.status, w.first.requests.Load())
		}
	})
}

func TestWebSocketEnds(t *testing.T) {
	hangUp := func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err == nil {
			c.CloseNow()
		}
	}
	f := func(name string, origin http.HandlerFunc, idle time.Duration, end func(t *testing.T, w *world, s *socket)) {
		for _, proto := range edgetest.Protocols {
			t.Run(name+"/"+proto, func(t *testing.T) {
				w := newWorldWith(t, proto, 1, func(c *edge.Config, _ []edge.RouteConfig) { c.Timeouts.Tunnel = idle })
				w.origin.says(origin)
				s, err := w.openSocket(t, "/plain/socket")
				if err == nil {
					end(t, w, s)
					io.Copy(io.Discard, s)
				} else if idle == time.Hour { // else the end of silence, a reset, may overtake the header
					t.Fatal(err)
				}
				w.settled(t)
				if n := w.server.Outcomes()[outcome.Origin]; n != 1 {
					t.Errorf("%d sockets were opened", n)
				}
			})
		}
	}
	nothing := func(*testing.T, *world, *socket) {}
	f("origin hangs up", hangUp, time.Hour, nothing)
	f("silence", echoSockets, 50*time.Millisecond, nothing)
	f("node stops", echoSockets, time.Hour, func(t *testing.T, w *world, s *socket) {
		s.up(t)
		w.node.Stop(t)
	})
}

// A tunnel's end and the visitor's reset may come at once. What is cut after the
// handler has ended is the server's own, and not to be touched.
func TestWebSocketsThatBothSidesEnd(t *testing.T) {
	w := newWorld(t, "h2", 1000)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(rw, r, nil)
		if err == nil {
			c.Read(r.Context())
			c.CloseNow()
		}
	})
	var visitors sync.WaitGroup
	for range 8 {
		visitors.Go(func() {
			client := w.extended()
			defer client.CloseIdleConnections()
			for range 50 {
				ctx, leave := context.WithCancel(t.Context())
				body, writer := io.Pipe()
				req, _ := http.NewRequestWithContext(ctx, http.MethodConnect, w.visitor.URL+"/plain/socket", body)
				req.Header[":protocol"], req.Header["Sec-Websocket-Version"] = []string{"websocket"}, []string{"13"}
				if resp, err := client.Transport.RoundTrip(req); err == nil {
					writer.Write([]byte{0x81, 0x80, 0, 0, 0, 0})
					leave()
					resp.Body.Close()
				}
				leave()
				writer.Close()
			}
		})
	}
	visitors.Wait()
	w.settled(t)
}

func TestShutdownWaitsForTheEndOfTunnels(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(echoSockets)
		for range 3 {
			s, err := w.openSocket(t, "/plain/socket")
			if err != nil {
				t.Fatal(err)
			}
			s.up(t)
		}
		w.node.Stop(t)
		if n, counted := w.server.InFlight(), w.server.Outcomes(); n != 0 || counted[outcome.Origin] != 3 {
			t.Errorf("%d are still in flight, %v were counted", n, counted)
		}
	})
}

func TestProtocolsThatAreNotSwitchedTo(t *testing.T) {
	for _, proto := range []string{"h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			w := newWorld(t, proto, 1)
			for _, protocol := range []string{"connect-udp", "webtransport"} {
				s, err := w.connect(t, "/plain/socket", protocol)
				if err != nil || s.status != 501 {
					t.Errorf("%s: got %+v (%v)", protocol, s, err)
				}
			}
		})
	}
}

func TestWebSocketWithABodyIsRefused(t *testing.T) {
	w := newWorld(t, "h1", 1)
	conn, err := w.node.DialTLS(t, "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /plain/a HTTP/1.1\r\nHost: "+edgetest.Host+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 5\r\n\r\nhello")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 400 || w.origin.requests.Load() != 0 {
		t.Errorf("got %v (%v), and %d requests at the origin", resp, err, w.origin.requests.Load())
	}
}
