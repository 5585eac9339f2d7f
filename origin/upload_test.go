package origin

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/limit"
)

// A trickle is the body of a client who sends a piece a second, and leaves in the
// end.
type trickle struct {
	piece string
	left  int
}

func (c *trickle) Read(p []byte) (int, error) {
	if c.left--; c.left < 0 {
		return 0, errors.New("the client has left")
	}
	time.Sleep(time.Second)
	return copy(p, c.piece), nil
}

// A delay is a body that comes whole after a while.
type delay struct {
	io.Reader
	time.Duration
}

func (d delay) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if n > 0 {
		time.Sleep(d.Duration)
	}
	return n, err
}

func (o *Origin) upload(t *testing.T, body io.Reader) (*http.Response, error) {
	t.Helper()
	in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	return o.Do(Outgoing(t.Context(), in, visitor, body), o.acquire(t))
}

// TestUnfinishedUploads: whatever a server does while a client has yet to send,
// neither the breaker nor the limit hears of it.
func TestUnfinishedUploads(t *testing.T) {
	f := func(name, piece string, reason outcome.Reason, then func(c net.Conn)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{Timeout: uploadPatience / 2})
				o.dial = network{"a": func(c net.Conn) {
					http.ReadRequest(bufio.NewReader(c))
					then(c)
				}}.dial
				const n = 2 * streakToOpen
				for range n {
					resp, err := o.upload(t, &trickle{piece, 60})
					if resp != nil {
						_, err = io.ReadAll(resp.Body)
						resp.Body.Close()
					}
					checkFailure(t, err, reason, true)
				}
				if s := o.State(); s.Canceled != n || s.Servers[0].Failures > 0 || !s.Up {
					t.Errorf("%+v", s)
				}
				time.Sleep(2 * time.Minute) // all have left
				o.checkRest(t)
			})
		})
	}
	f("closed", "a", outcome.OriginFailed, func(net.Conn) {})
	f("half an answer", "a", outcome.OriginFailed, func(c net.Conn) { io.WriteString(c, ok+"Content-Le") })
	f("not read", strings.Repeat("a", 64<<10), outcome.OriginTimeout, func(net.Conn) { time.Sleep(time.Minute) })
	f("answered and closed", "a", outcome.OriginFailed, func(c net.Conn) {
		io.WriteString(c, ok+"Content-Length: 9\r\n\r\nabc")
	})
	f("answered and waited for", "a", outcome.OriginTimeout, func(c net.Conn) {
		io.WriteString(c, ok+"Content-Length: 9\r\n\r\nabc")
		io.Copy(io.Discard, c)
	})
}

// TestEarlyAnswer: one that does not wait for the body counts as any other, but
// an exchange that goes on with its upload holds no permit.
func TestEarlyAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": func(c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, ok+"Content-Length: 3\r\nConnection: close\r\n\r\nabc")
			io.Copy(io.Discard, c)
		}}.dial
		resp, err := o.upload(t, &trickle{"a", 60})
		if got := bodyOf(t, resp, err); got != "abc" {
			t.Errorf("got %q", got)
		}
		checkResult(t, o, limit.OK)
		time.Sleep(time.Minute)
		if s := o.State(); s.Crowded > 0 {
			t.Error("an exchange that has ended wanted a long-lived place")
		}
		o.checkRest(t)
	})
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": func(c net.Conn) {
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, ok+"\r\n")
			io.Copy(c, c)
		}}.dial
		resp, err := o.upload(t, &trickle{"a", 60})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * uploadPatience)
		synctest.Wait()
		if s := o.State().Limit; s.InFlight != 0 || s.LongLived != 1 {
			t.Errorf("%d in flight, %d long-lived", s.InFlight, s.LongLived)
		}
		resp.Body.Close()
		time.Sleep(time.Minute)
		o.checkRest(t)
	})
}

// TestAwaitedUpload: how long a client was waited for is not taken for the work of
// the origin, and what the origin takes after that is its own.
func TestAwaitedUpload(t *testing.T) {
	f := func(name string, client, origin time.Duration, want limit.Result, reason outcome.Reason) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
					time.Sleep(origin)
					io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
					return true
				})}.dial
				resp, err := o.upload(t, delay{strings.NewReader("abc"), client})
				if resp != nil {
					resp.Body.Close()
				}
				checkFailure(t, err, reason, true)
				checkResult(t, o, want)
				if blamed := o.State().Servers[0].Failures > 0; blamed != (reason != outcome.None) {
					t.Errorf("blamed: %v", blamed)
				}
				time.Sleep(time.Minute)
				o.checkRest(t)
			})
		})
	}
	f("slower than the origin", 500*time.Millisecond, 20*time.Millisecond, limit.Cancel, outcome.None)
	f("faster than the origin", 20*time.Millisecond, 100*time.Millisecond, limit.OK, outcome.None)
	f("quick, and a slow origin", 20*time.Millisecond, 3*time.Second, limit.OK, outcome.None)
	f("quick, and no answer", 20*time.Millisecond, 40*time.Second, limit.Drop, outcome.OriginTimeout)
}
