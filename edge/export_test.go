package edge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// Patient is what the path uses for streams of messages.
var Patient = patient

// Hit answers r as a fast path does, and returns what it would write. It is not ok
// when r is left to the path.
func (s *Server) Hit(r *http.Request) (status int, fields http.Header, body []byte, ok bool) {
	return s.HitAcross(r, func() {})
}

// HitAcross is Hit with something between that it is found and that it is written.
func (s *Server) HitAcross(r *http.Request, between func()) (status int, fields http.Header, body []byte, ok bool) {
	x := s.hit(r)
	if x == nil {
		return 0, nil, nil, false
	}
	between()
	head := x.appendHead(nil, protoHTTP1, nil, func(b []byte, status int, fields http.Header) []byte {
		out := bytes.NewBuffer(b)
		if status != 0 {
			fmt.Fprintf(out, "HTTP/1.1 %d \r\n", status)
		}
		fields.Write(out)
		return out.Bytes()
	})
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(head, "\r\n"...))), nil)
	if err != nil {
		panic(err)
	}
	body = append(body, x.body()...)
	x.finish(len(body), nil)
	return resp.StatusCode, resp.Header, body, true
}

// A Counted server counts the requests that it gets, and those that are hits of a fast
// path.
type Counted struct {
	*Server
	Arrived *atomic.Int64 // all
	Fast    *atomic.Int64 // hits of a fast path
}

// ServeHTTP implements http.Handler.
func (c Counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.Arrived.Add(1)
	c.Server.ServeHTTP(w, r)
}

func (c Counted) hit(r *http.Request) *exchange { return c.hitWithin(r, math.MaxInt) }

func (c Counted) hitWithin(r *http.Request, most int) *exchange {
	x := c.Server.hitWithin(r, most)
	if x != nil {
		c.Arrived.Add(1)
		c.Fast.Add(1)
	}
	return x
}

// A Brittle server has hits, and panics over those that X-Panic is said to: when it is to
// find one, when the answer is made, when it is logged, or when it is counted.
type Brittle struct {
	*Server
	Panics *atomic.Int64
}

func (b Brittle) hit(r *http.Request) *exchange { return b.hitWithin(r, math.MaxInt) }

func (b Brittle) hitWithin(r *http.Request, most int) *exchange {
	where := r.Header.Get("X-Panic")
	if where == "find" {
		b.Panics.Add(1)
		panic("a hit")
	}
	x := b.Server.hitWithin(r, most)
	if x == nil || where == "" {
		return x
	}
	b.Panics.Add(1)
	switch where {
	case "make":
		x.found.Release() // no entry
	case "log":
		x.r = nil
	case "count":
		x.route = nil
	}
	return x
}

// Busy returns how many connections there are, how many of their requests the sweep watches,
// and how many streams of HTTP/3 have goroutines.
func (l *Listeners) Busy() (connections, guards int, streams int64) {
	for _, c := range l.conns.snapshot(nil) {
		connections++
		c.mu.Lock()
		for g := c.guards; g != nil; g = g.next {
			guards++
		}
		c.mu.Unlock()
		streams += c.open.Load()
	}
	return connections, guards, streams
}

// HitInto returns what answers a request as a fast path does, into a buffer of its own.
func (s *Server) HitInto() func(*http.Request) (ok bool) {
	var b []byte
	encode := func(b []byte, _ int, fields http.Header) []byte { return append(b, fields.Get("Etag")...) }
	return func(r *http.Request) bool {
		x := s.hit(r)
		if x == nil {
			return false
		}
		b = append(x.appendHead(b[:0], protoHTTP1, nil, encode), x.body()...)
		x.finish(len(x.body()), nil)
		return true
	}
}

// An Echo is a server's hits, and repeats all else that it is asked for.
type Echo struct {
	*Server
	Served *atomic.Int64 // through the libraries
}

// ServeHTTP implements http.Handler.
func (e Echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.Served.Add(1)
	if x := e.hit(r); x != nil {
		x.finish(0, nil)
		e.Server.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	w.Header()["Content-Type"] = []string{"text/plain"}
	fmt.Fprintf(w, "%s %s %q %q %d %q %v\n", r.Method, r.RequestURI, r.Host, r.Header, r.ContentLength, body, err)
}

// HoldFirstPackets has sockets hold first packets back for as long as d, however long
// quic-go shows nobody, until the test ends.
func HoldFirstPackets(t testing.TB, d time.Duration) {
	held, stuck := heldFor, intakeStuck
	heldFor, intakeStuck = d, d
	t.Cleanup(func() { heldFor, intakeStuck = held, stuck })
}

// AwaitRetries has sockets wait for as long as d for a place for a Retry, until the test
// ends.
func AwaitRetries(t testing.TB, d time.Duration) {
	patience := retryPatience
	retryPatience = d
	t.Cleanup(func() { retryPatience = patience })
}
