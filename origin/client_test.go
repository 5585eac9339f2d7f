package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/limit"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// TestTLS: HTTP/2 by ALPN, certificates are checked, and a failed handshake is
// known not to have reached the origin.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Target", r.RequestURI)
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "1")
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()

	in := incoming(t, "POST /a%2Fb//c;d HTTP/1.1\r\nHost: example.com\r\n\r\n")
	ask := func(o *Origin) (*http.Response, error) {
		return o.Do(Outgoing(t.Context(), in, visitor, bytes.NewReader(pattern(300<<10))), o.acquire(t))
	}
	o := newOrigin(t, Config{Servers: []string{server.URL}, Host: "example.com", TLS: trust(t, server)})
	for range 3 {
		resp, err := ask(o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, pattern(300<<10)) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		if proto, target := resp.Header.Get("X-Proto"), resp.Header.Get("X-Target"); proto != "HTTP/2.0" || target != "/a%2Fb//c;d" {
			t.Errorf("%s %s", proto, target)
		}
		if resp.Trailer.Get("X-Sum") != "1" {
			t.Errorf("trailer %v", resp.Trailer)
		}
		resp.Body.Close()
	}
	if s := o.State(); s.OK != 3 {
		t.Errorf("%+v", s)
	}
	o.checkRest(t)

	for _, bad := range []*Origin{
		newOrigin(t, Config{Servers: []string{server.URL}, Host: "example.com"}),                          // unknown authority
		newOrigin(t, Config{Servers: []string{server.URL}, Host: "other.example", TLS: trust(t, server)}), // wrong name
	} {
		_, err := ask(bad)
		checkFailure(t, err, outcome.OriginDown, false)
		checkResult(t, bad, limit.Drop)
		bad.checkRest(t)
	}
}

// TestHTTP2Abort: over HTTP/2 too a truncated body ends with an error, and a
// closed one tells the server.
func TestHTTP2Abort(t *testing.T) {
	told := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "abc")
		w.(http.Flusher).Flush()
		if r.URL.Path == "/truncated" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
		close(told)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	o := newOrigin(t, Config{Servers: []string{server.URL}, Host: "example.com", TLS: trust(t, server)})

	resp, err := o.Do(Outgoing(t.Context(), get(t, "/truncated"), visitor, nil), o.acquire(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if string(got) != "abc" {
		t.Errorf("got %q", got)
	}
	checkFailure(t, err, outcome.OriginFailed, true)
	resp.Body.Close()

	resp, err = o.Do(Outgoing(t.Context(), get(t, "/closed"), visitor, nil), o.acquire(t))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-told
	if s := o.State(); s.Dropped != 1 || s.Canceled != 1 {
		t.Errorf("%+v", s)
	}
	o.checkRest(t)
}

// TestHTTP2Memory: what a visitor does not take piles up nowhere, and the other
// streams of the connection go on.
func TestHTTP2Memory(t *testing.T) {
	var sent atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			return
		}
		piece := make([]byte, 16<<10)
		for r.Context().Err() == nil {
			n, err := w.Write(piece)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	o := newOrigin(t, Config{Servers: []string{server.URL}, Host: "example.com", TLS: trust(t, server), ReadAhead: ReadAheadConfig{PerResponse: 64 << 10}})
	resp, err := o.Do(Outgoing(t.Context(), get(t, "/endless"), visitor, nil), o.acquire(t))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() // else the server waits for its end for ever
	for o.State().Limit.LongLived == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		small, err := o.Do(Outgoing(t.Context(), get(t, "/small"), visitor, nil), o.acquire(t))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, small.Body)
		small.Body.Close()
	}
	if n := sent.Load(); n > 1<<20 {
		t.Errorf("the server could send %d bytes", n)
	}
	resp.Body.Close()
	o.checkRest(t)
}

// TestReuse: one connection serves requests in turn, and is closed before usual
// servers close it.
func TestReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var connections, closed atomic.Int64
		start := time.Now()
		o := newOrigin(t, Config{})
		serve := says(true, ok+"Content-Length: 3\r\n\r\nabc")
		o.dial = network{"a": func(c net.Conn) {
			connections.Add(1)
			serve(c)
			closed.Store(int64(time.Since(start)))
		}}.dial
		for range 10 {
			resp, err := o.ask(t)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if n := connections.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}
		time.Sleep(time.Minute)
		if d := time.Duration(closed.Load()); d != idleTimeout {
			t.Errorf("closed after %v", d)
		}
		o.checkRest(t)
	})
}

// TestNoRedirect: redirects are the visitor's.
func TestNoRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, "HTTP/1.1 302 Found\r\nLocation: http://b/\r\nContent-Length: 0\r\n\r\n")}.dial
		resp, err := o.ask(t)
		if err != nil || resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "http://b/" {
			t.Errorf("%v, %v", resp, err)
		}
		o.checkRest(t)
	})
}

// TestConnWrite: the deadline is for progress, so a large write may take longer
// than one.
func TestConnWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() {
			defer far.Close()
			for range 4 {
				time.Sleep(8 * time.Second)
				io.CopyN(io.Discard, far, writeMost)
			}
			time.Sleep(time.Minute)
		}()
		c := &conn{Conn: near, timeout: 10 * time.Second}
		n, err := c.Write(make([]byte, 4*writeMost))
		if n != 4*writeMost || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		// Whoever sets a deadline himself, as TLS does when it says goodbye, has his
		// way.
		start := time.Now()
		c.SetWriteDeadline(start.Add(time.Second))
		if _, err := c.Write([]byte("x")); !timedOut(err) || time.Since(start) != time.Second {
			t.Errorf("took %v, %v", time.Since(start), err)
		}
		c = &conn{Conn: near, timeout: 10 * time.Second}
		n, err = c.Write([]byte("x"))
		if n != 0 || !timedOut(err) {
			t.Errorf("wrote %d, %v", n, err)
		}
		time.Sleep(time.Hour)
	})
}

func TestErrorText(t *testing.T) {
	e := &Error{Reason: outcome.OriginTimeout, Err: errors.New("read: no route")}
	if got := e.Error(); got != "origin-timeout: read: no route" || errors.Unwrap(e) != e.Err {
		t.Errorf("%v", got)
	}
	if got := (&Error{Reason: outcome.OriginDown}).Error(); got != "origin-down" {
		t.Errorf("%v", got)
	}
}

// TestSentOnce: a request that makes the server close its connection does not go
// through one connection after the other. The transport would do that.
func TestSentOnce(t *testing.T) {
	const warm = 30
	f := func(name, head string, body io.Reader, want int64) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var runs atomic.Int64
				o := newOrigin(t, Config{})
				o.dial = network{"a": requests(func(c net.Conn, r *http.Request) bool {
					if r.URL.Path == "/deadly" {
						runs.Add(1)
						return false
					}
					time.Sleep(time.Millisecond)
					_, err := io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
					return err == nil
				})}.dial
				var wg sync.WaitGroup
				for range warm {
					p := o.acquire(t)
					wg.Go(func() {
						if _, err := o.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), p); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				synctest.Wait()
				in := incoming(t, head+" HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\n\r\n")
				_, err := o.Do(Outgoing(t.Context(), in, visitor, body), o.acquire(t))
				checkFailure(t, err, outcome.OriginFailed, true)
				if n := runs.Load(); n != want {
					t.Errorf("ran %d times, want %d", n, want)
				}
				o.checkRest(t)
			})
		})
	}
	f("GET", "GET /deadly", nil, 2)
	f("HEAD", "HEAD /deadly", nil, 2)
	f("GET with a body", "GET /deadly", bytes.NewReader([]byte("abc")), 2)
	f("DELETE", "DELETE /deadly", nil, 1)
	f("POST", "POST /deadly", nil, 1)
	f("POST with a body", "POST /deadly", bytes.NewReader([]byte("abc")), 1)
}

// TestUsedConnectionCloses: a server may close a connection just when a request
// is on its way.
func TestUsedConnectionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		o := newOrigin(t, Config{})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			if n.Add(1) == 2 {
				return false
			}
			_, err := io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
			return err == nil
		})}.dial
		for range 3 {
			if _, err := o.ask(t); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if s := o.State(); s.Servers[0].Failures != 0 || s.Retried != 1 || s.OK != 2 || s.Canceled != 1 {
			t.Errorf("%+v", s)
		}
		o.checkRest(t)
	})
}

// TestLargeHead: a client cannot shut a server off with fields that it does not
// take.
func TestLargeHead(t *testing.T) {
	large := func() *http.Request {
		in := get(t, "/")
		in.Header.Set("Cookie", strings.Repeat("x", headUsual))
		return in
	}
	t.Run("HTTP/2", func(t *testing.T) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.EnableHTTP2 = true
		server.Config.MaxHeaderBytes = 4 << 10
		server.StartTLS()
		defer server.Close()
		o := newOrigin(t, Config{Servers: []string{server.URL}, Host: "example.com", TLS: trust(t, server)})
		if _, err := o.ask(t); err != nil { // brings the server's settings
			t.Fatal(err)
		}
		for range 2 * streakToOpen {
			_, err := o.Do(Outgoing(t.Context(), large(), visitor, nil), o.acquire(t))
			checkFailure(t, err, outcome.BadRequest, true)
		}
		if s := o.State(); !s.Up || s.Servers[0].Failures != 0 || s.Dropped != 0 {
			t.Errorf("%+v", s)
		}
		o.checkRest(t)
	})
	t.Run("HTTP/1.1", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			o.dial = network{"a": says(false)}.dial
			for range 2 * streakToOpen {
				_, err := o.Do(Outgoing(t.Context(), large(), visitor, nil), o.acquire(t))
				checkFailure(t, err, outcome.OriginFailed, true)
			}
			if s := o.State(); !s.Up || s.Servers[0].Failures != 0 || s.Dropped != 0 {
				t.Errorf("%+v", s)
			}
			o.checkRest(t)
		})
	})
}

// TestSentOnceTLS: below TLS too it is known whether a request has left.
func TestSentOnceTLS(t *testing.T) {
	const warm = 8
	var runs atomic.Int64
	var arrived sync.WaitGroup
	arrived.Add(warm)
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/deadly" {
			runs.Add(1)
			panic(http.ErrAbortHandler)
		}
		arrived.Done()
		arrived.Wait() // each has its own connection
	}))
	defer server.Close()
	o := newOrigin(t, Config{Servers: []string{server.URL}, Host: "example.com", TLS: trust(t, server)})
	var wg sync.WaitGroup
	for range warm {
		p := o.acquire(t)
		wg.Go(func() {
			if _, err := o.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), p); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := o.Do(Outgoing(t.Context(), get(t, "/deadly"), visitor, nil), o.acquire(t))
	checkFailure(t, err, outcome.OriginFailed, true)
	if n := runs.Load(); n > 2 {
		t.Errorf("ran %d times", n)
	}
	o.checkRest(t)
}
