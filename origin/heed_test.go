package origin

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// waitForTick waits until the limiter has looked at what happened, in virtual
// time.
func waitForTick() { time.Sleep(30 * time.Millisecond) }

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	f := func(value, date string, want time.Duration) {
		t.Helper()
		h := http.Header{}
		if value != "" {
			h.Set("Retry-After", value)
		}
		if date != "" {
			h.Set("Date", date)
		}
		if got := retryAfter(h, now); got != want {
			t.Errorf("%q at %q: %v, want %v", value, date, got, want)
		}
	}
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	f("", "", 0)
	f("7", "", 7*time.Second)
	f("0", "", 0)
	f("-7", "", 0)
	f("7.5", "", 0)
	f("soon", "", 0)
	f("99999999999999999999", "", 0)
	f(at(time.Minute), "", time.Minute)
	f(at(-time.Minute), "", 0)
	f(at(time.Hour+time.Minute), at(time.Hour), time.Minute)
	f(at(time.Minute), "no date", time.Minute)
}

// asks answers with a status and Retry-After until it is told otherwise.
type asks struct {
	status  int
	every   int // another answer comes after so many
	n       int
	seconds int
}

func (a *asks) answer() string {
	if a.n++; a.every > 0 && a.n%a.every == 0 {
		return ok + "Content-Length: 0\r\n\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 %d No\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n", a.status, a.seconds)
}

// heeded sends an origin a number of requests one after the other, each of another
// visitor, and returns how many found a permit.
func heeded(t *testing.T, o *Origin, requests int) (admitted int) {
	t.Helper()
	for range requests {
		admitted += heededFor(t, o, netip.AddrFrom4([4]byte{10, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())}))
	}
	return admitted
}

// heededFor does so for one request of a visitor.
func heededFor(t *testing.T, o *Origin, addr netip.Addr) (admitted int) {
	t.Helper()
	if p, ok := o.limiter.Acquire(0, 1); ok {
		resp, err := o.Do(Outgoing(t.Context(), get(t, "/"), Client{Addr: addr}, nil), p)
		if err == nil {
			resp.Body.Close()
		}
		admitted++
	}
	waitForTick()
	return admitted
}

// When every answer asks for a pause the origin gets one, as long as it asks for
// and no longer, with requests that find out whether it goes on.
func TestOriginAsksForPause(t *testing.T) {
	f := func(status int) {
		synctest.Test(t, func(t *testing.T) {
			a := &asks{status: status, seconds: 20}
			o := pausing(t, a)
			if n := heeded(t, o, 20); n < 16 || n > 18 {
				t.Errorf("status %d: %d of 20 admitted", status, n)
			}
			if s := o.State().Limit; !s.Paused {
				t.Errorf("status %d: %+v", status, s)
			}
			began := time.Now()
			probes := 0
			for o.State().Limit.Paused && time.Since(began) < time.Minute {
				probes += heeded(t, o, 1)
			}
			if d := time.Since(began); d < 18*time.Second || d > 21*time.Second {
				t.Errorf("status %d: paused for %v", status, d)
			}
			if probes < 10 || probes > 90 {
				t.Errorf("status %d: %d requests in the pause", status, probes)
			}
		})
	}
	f(429)
	f(503)
}

func TestOrdinaryAnswerEndsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asks{status: 429, seconds: 3600}
		o := pausing(t, a)
		heeded(t, o, 20)
		if !o.State().Limit.Paused {
			t.Fatal("no pause")
		}
		a.every = 1
		began := time.Now()
		for o.State().Limit.Paused {
			heeded(t, o, 1)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("the pause went on for %v", d)
		}
	})
}

func TestPauseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asks{status: 503, seconds: 1 << 30}
		o := pausing(t, a)
		heeded(t, o, 20)
		time.Sleep(time.Minute)
		waitForTick()
		if s := o.State().Limit; s.Paused {
			t.Errorf("%+v", s)
		}
	})
}

// One visitor's 429s among the answers to others are about him.
func TestOneVisitorIsNotTheOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asks{status: 429, seconds: 60, every: 10}
		o := pausing(t, a)
		if n := heeded(t, o, 200); n != 200 {
			t.Errorf("%d of 200 admitted", n)
		}
	})
}

// However often few are refused, and whatever addresses they have in their networks,
// the others go on.
func TestFewVisitorsPauseNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := pausing(t, &asks{status: 429, seconds: 60})
		for i := range 200 {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 14)})
			if i%2 == 0 {
				addr = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 6: byte(i), 15: byte(i)})
			}
			if heededFor(t, o, addr) == 0 {
				t.Fatalf("request %d finds the origin shut: %+v", i, o.State().Limit)
			}
		}
	})
}

func TestRefusedVisitorsAreCountedOnce(t *testing.T) {
	var r refused
	f := func(visitor string, want bool) {
		t.Helper()
		if r.add(visitor) != want {
			t.Errorf("%q: %v", visitor, !want)
		}
	}
	f("", false) // nobody knows who
	f("192.0.2.1", true)
	f("192.0.2.1", false)
	f("192.0.2.2", true)
	f("2001:db8::1", true)
	f("2001:db8:0:1::2", false)
	f("2001:db8:1::1", true)
	for i := range len(r.last) - 4 {
		f(fmt.Sprintf("198.51.100.%d", i), true)
	}
	f("192.0.2.1", false)
	f("198.51.100.99", true)
	f("192.0.2.1", true) // it is the sixteenth again
}

// pausing returns an origin with one server that answers as a says.
func pausing(t *testing.T, a *asks) *Origin {
	o := newOrigin(t, Config{})
	o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
		io.WriteString(c, a.answer())
		return true
	})}.dial
	go o.limiter.Run(t.Context())
	return o
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("7", "")
	f.Add("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:30 GMT")
	f.Add("Friday, 31-Dec-99 23:59:59 GMT", "x")
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if d := retryAfter(h, time.Now()); d < 0 {
			t.Errorf("%q at %q: %v", value, date, d)
		}
	})
}
