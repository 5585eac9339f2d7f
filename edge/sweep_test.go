package edge

import (
	"net"
	"slices"
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

func TestLongestIdleGoFirst(t *testing.T) {
	f := func(ages []time.Duration, most int, want ...time.Duration) {
		t.Helper()
		var idle []idler
		for _, age := range ages {
			idle = append(idle, idler{&connection{}, age})
		}
		var got []time.Duration
		for _, i := range longestIdle(idle, most) {
			got = append(got, i.age)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%v, %d at most: %v go, want %v", ages, most, got, want)
		}
	}
	f(nil, 1)
	f([]time.Duration{3, 1, 4, 1, 5}, 2, 4, 5)
	f([]time.Duration{3, 1, 4, 1, 5}, 5, 1, 1, 3, 4, 5)
	f([]time.Duration{2, 2, 2}, 1, 2)
}

func TestClosingsHaveAPace(t *testing.T) {
	f := func(connections int, surplus int64, tick time.Duration, want int) {
		t.Helper()
		if got := closings(connections, surplus, tick); got != want {
			t.Errorf("%d connections, %d too many, after %v: %d, want %d", connections, surplus, tick, got, want)
		}
	}
	f(1, 0, time.Second, 1)
	f(1000, 0, time.Second, 250)
	f(1000, 0, 100*time.Millisecond, 25)
	f(1000, 0, 0, 1)
	f(1000, 100, time.Second, 250)
	f(1000, 250, time.Second, 500)
	f(1000, 250, 100*time.Millisecond, 500)
}

// Who asks for something while a sweep looks at the others is not in the way any more.
func TestWhoAsksIsNotCrowdedOut(t *testing.T) {
	f := func(what string, change func(*connection), want uint64) {
		t.Helper()
		visitor, conn := net.Pipe()
		defer visitor.Close()
		defer conn.Close()
		c := &connection{tcp: conn, starts: 1, seen: 1}
		change(c)
		var l Listeners
		l.crowdOut(c)
		if got := l.conns.crowded.Load(); got != want {
			t.Errorf("%s: %d are crowded out, want %d", what, got, want)
		}
	}
	f("idle", func(*connection) {}, 1)
	f("a request is handled", func(c *connection) { c.enter(&guard{}); c.seen = c.starts }, 0)
	f("a request was answered", (*connection).answered, 0)
}
