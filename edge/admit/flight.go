package admit

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"spillway/edge/outcome"
)

// flightPerCore is how many requests in flight a core carries before address
// ranges are held to their share. A request that waits costs memory, not work:
// a thousand of them hold some 50 MiB.
const flightPerCore = 1024

// flightSlots is the length of a row: two rows of 16 Ki counters are 128 KiB.
const flightSlots = 1 << 14

// A flight counts requests in flight, in all and by address range, in two
// hashed rows. What a range holds is the smaller of its two counters, which is
// never less than the truth.
type flight struct {
	seed  maphash.Seed
	total atomic.Int64
	// ranges is about how many address ranges have requests in flight.
	ranges atomic.Int64
	rows   [2][flightSlots]atomic.Int32
}

func newFlight() *flight { return &flight{seed: maphash.MakeSeed()} }

// Enter admits a request, or says why not. An admitted request is followed by
// one Leave with the same address; a refused one by none.
func (c *Controller) Enter(addr netip.Addr) outcome.Reason {
	f := c.flight
	a, b := f.cells(addr)
	if c.crowds(a, b) {
		c.counts.refusedRequests.Add(1)
		if c.enforce {
			return outcome.TooManyRequests
		}
	}
	f.enter(a, b)
	return outcome.None
}

// TryEnter is Enter for who asks Enter as well if it returns false: then nothing has
// been counted.
func (c *Controller) TryEnter(addr netip.Addr) bool {
	a, b := c.flight.cells(addr)
	if c.crowds(a, b) {
		return false
	}
	c.flight.enter(a, b)
	return true
}

func (f *flight) enter(a, b *atomic.Int32) {
	f.total.Add(1)
	if a.Add(1) == 1 {
		f.ranges.Add(1)
	}
	b.Add(1)
}

// Look says what Enter would answer, and admits nothing.
func (c *Controller) Look(addr netip.Addr) outcome.Reason {
	if c.enforce && c.crowds(c.flight.cells(addr)) {
		return outcome.TooManyRequests
	}
	return outcome.None
}

// crowds reports whether the range with these counters holds more than its share
// of a full node.
func (c *Controller) crowds(a, b *atomic.Int32) bool {
	f := c.flight
	return f.total.Load() >= c.maxFlight && int64(min(a.Load(), b.Load())) >= f.share(c.maxFlight)
}

// Leave ends an admitted request.
func (c *Controller) Leave(addr netip.Addr) {
	f := c.flight
	a, b := f.cells(addr)
	f.total.Add(-1)
	if a.Add(-1) == 0 {
		f.ranges.Add(-1)
	}
	b.Add(-1)
}

// cells returns the counters of an address: those of its /24 or /48.
func (f *flight) cells(addr netip.Addr) (row0, row1 *atomic.Int32) {
	b := addr.As16()
	if addr.Is4() || addr.Is4In6() {
		b[15] = 0
	} else {
		clear(b[6:])
	}
	h := maphash.Bytes(f.seed, b[:])
	return &f.rows[0][uint32(h)%flightSlots], &f.rows[1][uint32(h>>32)%flightSlots]
}

// share is what one range may hold once the node is full: twice an even share,
// and never less than a quarter of all. A carrier whose one range holds most of
// a crowd is so left alone until it alone outgrows the node.
func (f *flight) share(limit int64) int64 {
	return max(limit/4, 2*limit/max(f.ranges.Load(), 1))
}
