package origin

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

func TestRetryBudget(t *testing.T) {
	budget := func(share float64) *retryBudget {
		b := new(retryBudget)
		b.share.Store(&share)
		return b
	}
	// spend asks until it is refused.
	spend := func(b *retryBudget, now time.Duration) (n int) {
		for b.allow(now) {
			n++
		}
		return n
	}
	f := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d retries, want %d", what, got, want)
		}
	}
	b := budget(.2)
	f("without requests", spend(b, 0), retryBurst)
	f("at once again", spend(b, 999*time.Millisecond), 0)
	f("a second later", spend(b, time.Second), retryBurst)
	f("two seconds later", spend(b, 2*time.Second), 30-2*retryBurst)
	f("three seconds later", spend(b, 3*time.Second), 0)
	f("ten seconds later", spend(b, 10*time.Second), retryBurst)
	b = budget(.2)
	for i := range 1000 {
		b.request(time.Duration(i) * 10 * time.Millisecond) // 100 a second
	}
	f("a share", spend(b, 9999*time.Millisecond), 200)
	f("of the last ten seconds", spend(b, time.Minute), retryBurst)
	f("zero", spend(budget(0), 0), 0)
}

// TestRetriesBounded: when the budget is spent, a failure is returned as it is.
// Both kinds of retry count.
func TestRetriesBounded(t *testing.T) {
	t.Run("another server", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Servers: []string{"http://a", "http://dead"}})
			o.dial = network{"a": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
			for o.retries.allow(o.pool.now()) {
			}
			failed := 0
			for range 50 {
				in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\n\r\n")
				if _, err := o.Do(Outgoing(t.Context(), in, visitor, bytes.NewReader([]byte("hello"))), o.acquire(t)); err != nil {
					checkFailure(t, err, outcome.OriginDown, false)
					failed++
				}
			}
			if s := o.State(); failed != streakToOpen || s.RetriesRefused != streakToOpen || s.Retried != 0 {
				t.Errorf("%d failed, %d refused, %d retried", failed, s.RetriesRefused, s.Retried)
			}
			o.checkRest(t)
		})
	})
	t.Run("dead connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			var asked atomic.Int32
			o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
				if asked.Add(1)%2 == 0 { // the second request of a connection
					return false
				}
				io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
				return true
			})}.dial
			if _, err := o.ask(t); err != nil {
				t.Fatal(err)
			}
			for o.retries.allow(o.pool.now()) {
			}
			_, err := o.ask(t)
			checkFailure(t, err, outcome.OriginFailed, true)
			if s := o.State(); s.RetriesRefused != 1 || s.Retried != 0 || asked.Load() != 2 {
				t.Errorf("%+v, asked %d times", s, asked.Load())
			}
			o.checkRest(t)
		})
	})
}
