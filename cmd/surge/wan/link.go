package wan

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"time"
)

// A link is one direction of one flow. It has no clock of its own: times are
// since any beginning and must not go back.
//
// A rate is modelled as a wire that is busy until some time, and what waits for it
// as the wire's backlog; no timer is needed for what is arithmetic.
type link struct {
	delay  time.Duration
	jitter time.Duration
	loss   float64
	rate   int64 // bytes a second; 0 is no bound
	queue  int64 // bytes that may wait
	rng    *rand.Rand

	idle time.Duration // when the wire will be idle
	last time.Duration // when the last that was sent arrives
}

// A fate says what becomes of a datagram.
type fate int

const (
	passed  fate = iota
	lost         // by chance
	dropped      // the queue was full
)

// send puts size bytes on the link and returns when they arrive.
func (l *link) send(now time.Duration, size int) (time.Duration, fate) {
	if l.loss > 0 && l.rng.Float64() < l.loss {
		return 0, lost
	}
	if l.backlog(now)+int64(size) > l.queue && l.rate > 0 {
		return 0, dropped
	}
	return l.transmit(now, size), passed
}

// transmit is send for what is neither lost nor dropped.
func (l *link) transmit(now time.Duration, size int) time.Duration {
	left := now
	if l.rate > 0 {
		l.idle = max(l.idle, now) + time.Duration(int64(size)*int64(time.Second)/l.rate)
		left = l.idle
	}
	arrives := left + l.delay
	if l.jitter > 0 {
		arrives += time.Duration(l.rng.Int64N(int64(l.jitter)))
	}
	l.last = max(l.last, arrives) // no overtaking
	return l.last
}

// backlog is how many bytes wait for the wire.
func (l *link) backlog(now time.Duration) int64 {
	if l.rate == 0 || l.idle <= now {
		return 0
	}
	return int64(l.idle-now) * l.rate / int64(time.Second) // a float may lack the last byte
}

// full is how long until the backlog is within the queue.
func (l *link) full(now time.Duration) time.Duration {
	if l.rate == 0 {
		return 0
	}
	return max(0, l.idle-now-time.Duration(l.queue*int64(time.Second)/l.rate))
}

// A flow's identity decides its chances, so that a seed repeats a run.
func flowHash(seed uint64, client netip.AddrPort) uint64 {
	// SplitMix64's finalizer over the parts: any two addresses differ well.
	address := client.Addr().As16()
	h := seed
	for _, part := range []uint64{
		binary.BigEndian.Uint64(address[:8]), binary.BigEndian.Uint64(address[8:]), uint64(client.Port()),
	} {
		h += part + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// links makes the two directions of a client's flow, and says whether it is one of
// the slow.
func (c *Config) links(client netip.AddrPort) (up, down link, slow bool) {
	h := flowHash(c.Seed, client)
	l := link{delay: c.RTT / 2, jitter: c.Jitter, loss: c.Loss, queue: c.Queue}
	slow = c.Rate > 0 && float64(h>>11)/(1<<53) < c.Slow
	if slow {
		l.rate = c.Rate
	}
	up, down = l, l
	up.rng = rand.New(rand.NewPCG(h, 0))
	down.rng = rand.New(rand.NewPCG(h, 1))
	return up, down, slow
}
