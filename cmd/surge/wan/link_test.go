package wan

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func client(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 16), byte(i >> 8)}), uint16(1024+i&0xff))
}

func TestLinkDelays(t *testing.T) {
	l := link{delay: 40 * ms}
	for _, now := range []time.Duration{0, 1 * ms, time.Hour} {
		if due, what := l.send(now, 1000); what != passed || due != now+40*ms {
			t.Fatalf("sent at %v: %v, fate %d", now, due, what)
		}
	}
}

// A slow link spaces what is sent at once by its rate, and drops what its queue
// cannot hold.
func TestLinkRateAndQueue(t *testing.T) {
	l := link{delay: 10 * ms, rate: 100_000, queue: 3000}
	for i, want := range []time.Duration{20 * ms, 30 * ms, 40 * ms} {
		if due, what := l.send(0, 1000); what != passed || due != want {
			t.Fatalf("datagram %d: %v, fate %d; want %v", i, due, what, want)
		}
	}
	if _, what := l.send(0, 1000); what != dropped {
		t.Fatalf("a datagram beyond the queue: fate %d", what)
	}
	if due, what := l.send(10*ms, 1000); what != passed || due != 50*ms {
		t.Fatalf("after a datagram's time: %v, fate %d", due, what)
	}
	if due, _ := l.send(time.Second, 1000); due != time.Second+20*ms {
		t.Fatalf("an idle link saved up for a burst: %v", due)
	}
}

// What fills the queue to its last byte leaves no room for one more: 0.29 s at a hundred
// bytes a second are 29 bytes, though 0.29*100 is less for a float.
func TestLinkCountsWholeBytes(t *testing.T) {
	l := link{rate: 100, queue: 1500}
	if _, what := l.send(0, 29); what != passed {
		t.Fatalf("the first datagram: fate %d", what)
	}
	if _, what := l.send(0, 1472); what != dropped {
		t.Fatalf("%d bytes wait, the queue holds %d: fate %d", l.backlog(0), l.queue, what)
	}
}

func TestLinkFull(t *testing.T) {
	l := link{rate: 1000, queue: 2000}
	f := func(now, want time.Duration) {
		t.Helper()
		if got := l.full(now); got != want {
			t.Fatalf("full for %v at %v, want %v", got, now, want)
		}
	}
	f(0, 0)
	l.transmit(0, 2500)
	f(0, 500*ms)
	f(400*ms, 100*ms)
	f(time.Second, 0)
	l.rate = 0
	f(0, 0)
}

// Over any stretch in which it is never idle, a link passes its rate, no more.
func TestLinkNeverExceedsItsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := link{
			delay: 5 * ms, rate: rapid.Int64Range(100, 1e6).Draw(t, "rate"),
			queue:  rapid.Int64Range(1500, 1e5).Draw(t, "queue"),
			jitter: time.Duration(rapid.Int64Range(0, 1e7).Draw(t, "jitter")),
			rng:    rand.New(rand.NewPCG(1, 1)),
		}
		now, last, sum := time.Duration(0), time.Duration(0), int64(0)
		for range rapid.IntRange(1, 100).Draw(t, "datagrams") {
			now += time.Duration(rapid.Int64Range(0, 2e7).Draw(t, "wait"))
			size := rapid.IntRange(1, maxPayload).Draw(t, "size")
			due, what := l.send(now, size)
			if what == dropped {
				continue
			}
			sum += int64(size)
			if due < now+l.delay || due < last {
				t.Fatalf("sent at %v, arrives at %v after one of %v", now, due, last)
			}
			last = due
			if waits := l.backlog(now); waits > l.queue {
				t.Fatalf("%d bytes wait, the queue holds %d", waits, l.queue)
			}
			if busy := (due - l.delay).Seconds() * float64(l.rate); float64(sum) > busy+1 {
				t.Fatalf("%d bytes passed by %v at %d a second", sum, due-l.delay, l.rate)
			}
		}
	})
}

func TestLossFollowsItsSeed(t *testing.T) {
	run := func(seed uint64) (fates [1000]fate, n int) {
		c := Config{Loss: 0.3, Seed: seed}
		up, _, _ := c.links(client(1))
		for i := range fates {
			if _, fates[i] = up.send(0, 100); fates[i] == lost {
				n++
			}
		}
		return fates, n
	}
	a, n := run(1)
	b, _ := run(1)
	c, _ := run(2)
	if a != b || a == c {
		t.Error("the same seed must lose the same datagrams, another seed others")
	}
	if n < 250 || n > 350 {
		t.Errorf("%d of 1000 lost at 30 %%", n)
	}
}

func TestJitterVariesWithoutOvertaking(t *testing.T) {
	c := Config{RTT: 20 * ms, Jitter: 10 * ms}
	up, _, _ := c.links(client(1))
	last, distinct := time.Duration(0), map[time.Duration]bool{}
	for i := range 200 {
		now := time.Duration(i) * ms
		due, _ := up.send(now, 100)
		if due < now+10*ms || due >= now+20*ms && due != last || due < last {
			t.Fatalf("sent at %v, arrives at %v after %v", now, due, last)
		}
		last = due
		distinct[due] = true
	}
	if len(distinct) < 20 {
		t.Errorf("%d distinct arrivals of 200", len(distinct))
	}
}

func TestShareOfSlowFlows(t *testing.T) {
	f := func(c Config, low, high int) {
		t.Helper()
		n := 0
		for i := range 10_000 {
			up, down, slow := c.links(client(i))
			if slow != (up.rate == c.Rate && c.Rate > 0) || up.rate != down.rate {
				t.Fatalf("flow %d: slow %v, rates %d and %d", i, slow, up.rate, down.rate)
			}
			if slow {
				n++
			}
		}
		if n < low || n > high {
			t.Errorf("%d of 10000 flows slow with %+v", n, c)
		}
	}
	f(Config{Rate: 16 << 10, Slow: 0.05}, 420, 580)
	f(Config{Rate: 16 << 10, Slow: 1}, 10_000, 10_000)
	f(Config{Slow: 1}, 0, 0)
}
