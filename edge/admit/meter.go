package admit

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// A Source is whom a new connection is charged to: an IPv4 address, or the /56
// of an IPv6 address, which is what one household or one machine of a hoster
// holds.
//
// Proved tells connections whose address was proved (by a TCP handshake or a
// QUIC token) from those whose address anybody may have written into a packet.
// The two are metered apart: a forger can send a victim to Retry, and no
// further. TCP tells the protocol, which the kernel meters apart.
type Source struct {
	Addr   netip.Addr
	Proved bool
	TCP    bool
}

func newSource(a netip.Addr, proved bool) Source {
	return Source{Addr: group(a), Proved: proved}
}

// group returns the address that a is charged under: itself, or the first of
// its /56.
func group(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if !a.Is6() {
		return a
	}
	b := a.As16()
	clear(b[7:])
	return netip.AddrFrom16(b)
}

// A Standing says how deep a source is in debt. Standings are ordered.
type Standing uint8

// The standings of a source.
const (
	Fine Standing = iota
	Soft          // must prove its address while the node is short
	Hard          // is refused while the node is short
)

// A Receipt says what a charge took, so that a refund gives back that and
// nothing else.
type Receipt uint8

// The limits of a source. They are generous, and not knobs: thousands of
// visitors share the address of a mobile network, each owes one charge for the
// duration of a handshake, and slow networks and a busy node make handshakes
// last seconds. At 200 a second and three seconds each, an address owes 600.
const (
	chargeCost = 5 * time.Millisecond // 200 unfinished connections a second pass for ever
	softDebt   = 1000 * chargeCost
	hardDebt   = 2000 * chargeCost
	mostDebt   = 2 * hardDebt // which costs of complete connections may add up to
)

// sketchSlots is the length of a row. Two rows of 64 Ki words are 1 MiB and
// hold apart several thousand sources in debt at once.
const sketchSlots = 1 << 16

// A sketch holds what sources owe for connections that they began and did not
// complete; where a kernel does, those alone that proved their address. It is two hashed rows of leaky buckets, so that a
// flood of addresses makes it less exact, never larger. A word is the time at which
// its sources will have paid off their debt (the theoretical arrival time of the
// generic cell rate algorithm, ITU-T I.371). A source stands where the better of its
// two words stands, so that it takes two collisions with sources in debt to harm it.
//
// Times are monotonic and since an arbitrary start. All methods may be called
// concurrently and take no lock.
type sketch struct {
	seed maphash.Seed
	rows [2][sketchSlots]atomic.Int64
}

// newSketch returns an empty sketch. Its hash is keyed, so that nobody can
// choose addresses that collide with a victim.
func newSketch() *sketch { return &sketch{seed: maphash.MakeSeed()} }

// words returns the two words of a source.
func (k *sketch) words(s Source) [2]*atomic.Int64 {
	var b [17]byte
	a := s.Addr.As16()
	copy(b[:], a[:])
	if s.Proved {
		b[16] = 1
	}
	h := maphash.Bytes(k.seed, b[:])
	return [2]*atomic.Int64{
		&k.rows[0][uint32(h)%sketchSlots],
		&k.rows[1][uint32(h>>32)%sketchSlots],
	}
}

// Charge adds to both words, except to one that is over the hard limit: it
// belongs to somebody else's flood, and charging it would only prolong that.
func (k *sketch) Charge(s Source, now time.Duration) Receipt {
	var r Receipt
	for i, w := range k.words(s) {
		if charge(w, now, chargeCost) {
			r |= 1 << i
		}
	}
	return r
}

func charge(w *atomic.Int64, now, cost time.Duration) bool {
	for {
		old := w.Load()
		base := max(time.Duration(old), now)
		if base-now > hardDebt {
			return false
		}
		if w.CompareAndSwap(old, int64(base+cost)) {
			return true
		}
	}
}

// Add charges any cost, without a receipt.
func (k *sketch) Add(s Source, now, cost time.Duration) {
	for _, w := range k.words(s) {
		charge(w, now, min(cost, mostDebt-hardDebt))
	}
}

func (k *sketch) forget() {
	for i := range k.rows {
		for j := range k.rows[i] {
			k.rows[i][j].Store(0)
		}
	}
}

// Refund subtracts what Charge added. A word may so fall behind the present;
// that is no credit, because the next charge starts at the present.
func (k *sketch) Refund(s Source, r Receipt) {
	for i, w := range k.words(s) {
		if r&(1<<i) != 0 {
			w.Add(-int64(chargeCost))
		}
	}
}

// Over returns where a source stands.
func (k *sketch) Over(s Source, now time.Duration) Standing {
	debt := time.Duration(1<<63 - 1)
	for _, w := range k.words(s) {
		debt = min(debt, time.Duration(w.Load())-now)
	}
	switch {
	case debt > hardDebt:
		return Hard
	case debt > softDebt:
		return Soft
	}
	return Fine
}

// bucket is a token bucket in one word, by the same algorithm as the sketch.
type bucket struct {
	word  atomic.Int64
	cost  time.Duration
	depth time.Duration
}

// newBucket returns a bucket that passes perSecond events a second, and at most
// as many at once as a twentieth of a second brings (but 16).
func newBucket(perSecond int) *bucket {
	cost := time.Second / time.Duration(perSecond)
	return &bucket{cost: cost, depth: max(50*time.Millisecond, 16*cost)}
}

// take notes one event. An empty bucket sinks by no more than a beat further: it
// recovers soon when the rate falls, and yet does not fill while a busy process takes no
// events in that have come.
func (b *bucket) take(now time.Duration) {
	for {
		old := b.word.Load()
		next := min(max(time.Duration(old), now)+b.cost, now+b.depth+beat)
		if b.word.CompareAndSwap(old, int64(next)) {
			return
		}
	}
}

// empty reports whether more events came than the bucket passes.
func (b *bucket) empty(now time.Duration) bool {
	return time.Duration(b.word.Load())-now > b.depth
}
