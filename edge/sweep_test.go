package edge

import (
	"testing"
	"time"
)

// A handshake over a slow network is not idleness.
func TestSweepIdlenessBeginsWithTheHandshakesEnd(t *testing.T) {
	c := &connection{}
	f := func(now, want time.Duration) {
		t.Helper()
		s := sight{now: now, tick: time.Second, stall: time.Minute, finish: time.Minute}
		if _, idle, age := c.sweep(s); !idle || age != want {
			t.Errorf("after %v: idle %v for %v, want %v", now, idle, age, want)
		}
	}
	f(time.Second, 0)
	f(5*time.Second, 0)
	c.served.Store(true)
	f(6*time.Second, 0)
	f(7*time.Second, time.Second)
	g := &guard{conn: c}
	c.enter(g)
	c.leave(g, false)
	f(20*time.Second, 0)
	f(23*time.Second, 3*time.Second)
}
