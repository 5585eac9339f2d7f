package admit

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// knownSlots is how many sources a node remembers to have completed a handshake, in
// 768 KiB. Each has one place; a later one replaces it.
const knownSlots = 1 << 16

// A knowledge is of sources that completed handshakes. A word is half of a hash, and
// the time in seconds.
type knowledge struct {
	seed maphash.Seed
	at   [knownSlots]atomic.Uint64
	// handshakes are how many were completed, of all sources that share a place.
	handshakes [knownSlots]atomic.Uint32
}

func newKnowledge() *knowledge { return &knowledge{seed: maphash.MakeSeed()} }

func (k *knowledge) hash(addr netip.Addr) uint64 {
	b := group(addr).As16()
	return maphash.Bytes(k.seed, b[:])
}

// note notes that a source completed a handshake.
func (k *knowledge) note(addr netip.Addr, now time.Duration) {
	h := k.hash(addr)
	// One more, so that no word is zero.
	k.at[h%knownSlots].Store(h>>32<<32 | uint64(now/time.Second+1))
	k.handshakes[h%knownSlots].Add(1)
}

// completed returns how many handshakes a source completed, or more; it wraps.
func (k *knowledge) completed(addr netip.Addr) uint32 {
	return k.handshakes[k.hash(addr)%knownSlots].Load()
}

// has reports whether it did lately.
func (k *knowledge) has(addr netip.Addr, now time.Duration) bool {
	h := k.hash(addr)
	word := k.at[h%knownSlots].Load()
	age := now/time.Second + 1 - time.Duration(uint32(word))
	return word != 0 && word>>32 == h>>32 && age <= knownFor/time.Second
}

func (k *knowledge) forget() {
	for i := range k.at {
		k.at[i].Store(0)
	}
}
