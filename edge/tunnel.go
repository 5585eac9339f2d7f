package edge

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// A WebSocket is opened by a GET with Upgrade over HTTP/1.1 (RFC 6455), by an
// extended CONNECT over HTTP/2 (RFC 8441) and HTTP/3 (RFC 9220). Origins are asked
// in the first form, so the path turns the others into it: the same routes, logs
// and limits hold for all three. No other protocol is switched to: what the node
// does not know it could not tell from the next request.

// socketStream is the stream of an extended CONNECT: the visitor's side of the
// tunnel comes out of body.
type socketStream struct{ body io.ReadCloser }

// extendedConnect returns a WebSocket's extended CONNECT as the GET that it stands
// for, and its stream. Other requests come back as they are.
func extendedConnect(r *http.Request) (*http.Request, *socketStream) {
	if r.Method != http.MethodConnect || r.ProtoMajor < 2 {
		return r, nil
	}
	protocol := r.Proto // HTTP/3's server puts it there
	if values := r.Header[":protocol"]; len(values) == 1 {
		protocol = values[0]
	}
	if protocol != "websocket" {
		return r, nil
	}
	get := *r
	get.Method, get.Body, get.ContentLength = http.MethodGet, http.NoBody, 0
	get.Proto = "HTTP/2.0"
	if r.ProtoMajor == 3 {
		get.Proto = "HTTP/3.0"
	}
	get.Header = maps.Clone(r.Header)
	delete(get.Header, ":protocol")
	var key [16]byte
	rand.Read(key[:])
	// RFC 8441 section 5: these fields have no part in HTTP/2's handshake.
	get.Header["Connection"], get.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	get.Header["Sec-Websocket-Key"] = []string{base64.StdEncoding.EncodeToString(key[:])}
	return &get, &socketStream{r.Body}
}

// opensSocket reports whether a request opens a WebSocket (RFC 6455 section 4.1).
func opensSocket(r *http.Request) bool {
	if r.Method != http.MethodGet || !r.ProtoAtLeast(1, 1) {
		return false
	}
	return hasToken(r.Header["Connection"], "upgrade") && hasToken(r.Header["Upgrade"], "websocket") &&
		len(r.Header["Sec-Websocket-Key"]) == 1
}

func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for member := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(member), token) {
				return true
			}
		}
	}
	return false
}

// accepts reports whether the header of a 101 answers the request's key (RFC 6455
// section 4.2.2): then the server speaks WebSocket, and did not only echo.
func accepts(h http.Header, key string) bool {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return hasToken(h["Upgrade"], "websocket") &&
		h.Get("Sec-Websocket-Accept") == base64.StdEncoding.EncodeToString(sum[:])
}

// socket opens a WebSocket at the origin and carries it until one side ends it.
func (x *exchange) socket(rt *route) {
	x.found = cache.Result{State: cache.Bypass, Why: cache.FwdBypass}
	x.enterRoom(rt) // it never waits, and may belong to the page of a visitor with a pass
	l := x.ladder(rt, x.given(rt), requestBody{})
	l.upgrade = true
	resp, err := l.climb(x.r.Context(), x.r)
	x.course = &l.course
	if err != nil {
		x.giveUp(err)
		return
	}
	x.outcome, x.reason, x.backend = l.outcome, l.reason, l.backend
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols && x.connect != nil && resp.StatusCode < 300:
		// RFC 8441 section 4: over a stream a 2xx would open the tunnel.
		resp.Body.Close()
		x.fail(outcome.OriginFailed)
	case resp.StatusCode != http.StatusSwitchingProtocols:
		x.response(&cache.Response{
			Status: resp.StatusCode, Header: resp.Header, Body: resp.Body, ContentLength: resp.ContentLength,
			Trailer: resp.Trailer, FwdStatus: resp.StatusCode,
		}, x.found.Status(x.start))
	case !accepts(resp.Header, x.r.Header.Get("Sec-Websocket-Key")):
		resp.Body.Close()
		x.fail(outcome.OriginFailed)
	default:
		x.carry(resp.Header, resp.Body.(io.ReadWriteCloser))
	}
}

// A tunnelEnd is the visitor's side of a tunnel.
type tunnelEnd interface {
	io.ReadWriter
	// hangUp makes Read fail, also one that waits, and cut Write as well.
	hangUp()
	cut()
}

// A streamEnd is a stream of HTTP/2 or HTTP/3.
type streamEnd struct {
	io.Reader
	w       http.ResponseWriter
	control *http.ResponseController
}

// Write sends p at once.
func (s *streamEnd) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

func (s *streamEnd) hangUp() { s.control.SetReadDeadline(past) }

func (s *streamEnd) cut() {
	s.hangUp()
	s.control.SetWriteDeadline(past)
}

// A connEnd is a connection of HTTP/1.1 that was taken over. Its reader may have
// read ahead.
type connEnd struct {
	io.Reader
	conn net.Conn
}

func (c *connEnd) Write(p []byte) (int, error) { return c.conn.Write(p) }

func (c *connEnd) hangUp() { c.conn.Close() }
func (c *connEnd) cut()    { c.conn.Close() }

// closing is how long the origin has to follow when the visitor has ended; not a
// knob: it is for the last frame of a closing handshake (RFC 6455 section 7).
const closing = 5 * time.Second

// carry switches protocols and copies both ways.
func (x *exchange) carry(h http.Header, far io.ReadWriteCloser) {
	defer far.Close()
	near, err := x.switchProtocols(h)
	if err != nil {
		x.cancel(outcome.ClientGone)
		return
	}
	t := newTunnel(x.s.settings.Load().tunnel, func() {
		near.cut()
		far.Close()
	})
	upward := make(chan error, 1)
	go func() {
		_, err := t.copy(far, near)
		t.silent(err)
		upward <- err
	}()
	n, err := t.copy(near, far)
	x.bytes += n
	t.finish()
	// Nothing can follow what the origin said last.
	near.hangUp()
	far.Close()
	if back := <-upward; x.connect != nil && err != nil && back != nil {
		// RFC 8441 section 5: an end that was not clean resets the stream.
		panic(http.ErrAbortHandler)
	}
}

// A tunnel is a pair of copies that end together, and when nothing moves.
type tunnel struct {
	mu       sync.Mutex
	timer    *time.Timer
	patience time.Duration // without a byte
	over     bool
}

// newTunnel returns a tunnel that is cut when nothing has moved for patience. cut
// is not called after finish has returned: the visitor's side is not ours then.
func newTunnel(patience time.Duration, cut func()) *tunnel {
	t := &tunnel{patience: patience}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(patience, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.over {
			cut()
		}
	})
	return t
}

// tunnelBuffer is small: a tunnel holds two of them, and mostly is silent.
const tunnelBuffer = 8 << 10

// moved starts the wait anew.
func (t *tunnel) moved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.timer.Reset(t.patience)
	}
}

// silent notes that the visitor says no more: without a fault the origin may
// finish, with one both are cut at once.
func (t *tunnel) silent(err error) {
	t.mu.Lock()
	t.patience = min(t.patience, closing)
	if err != nil {
		t.patience = 0
	}
	t.mu.Unlock()
	t.moved()
}

// finish ends the wait.
func (t *tunnel) finish() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	t.timer.Stop()
}

// copy copies until the end of from.
func (t *tunnel) copy(to io.Writer, from io.Reader) (n int64, err error) {
	buf := make([]byte, tunnelBuffer)
	for {
		m, err := from.Read(buf)
		if m > 0 {
			t.moved()
			if _, err := to.Write(buf[:m]); err != nil {
				return n, err
			}
			n += int64(m)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
