package cache

// An inverted index finds the slots of a shard by what they have in common: a
// tag, a group, a folder. What that is stands as a 64-bit hash, the key. It knows
// nothing of slots but how to tell one from another, so that R may be a pointer
// or a number. It is guarded by the shard's lock.
//
// Each key has a ring of links, the oldest first, and each slot a chain of its
// links, one for each of its keys. So a slot is found, added and taken out
// without a look at any other, and taken out without a look into the map. A link
// costs no allocation of its own.
type inverted[R comparable] struct {
	numbers map[uint64]uint32 // of the rings, by key
	// Rings and links are named by their places, from 1. Those that are not in use
	// are chained, by first and by more.
	rings     []ring
	pages     [][]link[R]
	used      uint32 // links, in use or not any more
	freeRings uint32
	freeLinks uint32
}

// A ring is a list that leads back to its first link; the last is the one before.
type ring struct {
	key           uint64
	first, length uint32
}

type link[R comparable] struct {
	ref        R
	ring       uint32 // zero: not in use
	prev, next uint32 // in the ring
	more       uint32 // the next of the chain
}

// linksPerPage is small, so that small caches are small: 5 KiB without a pointer.
const linksPerPage = 256

// keyBytes is what a key of an entry counts as in memory: a link, and its ring and
// its part of the map where nobody shares it (at most 32 and 39 bytes, when they
// have just grown). Not a knob.
const keyBytes = 96

func newInverted[R comparable]() inverted[R] {
	return inverted[R]{numbers: make(map[uint64]uint32)}
}

// add files a slot under its keys, which are all different. The chain takes it out
// again.
func (x *inverted[R]) add(ref R, keys []uint64) (chain uint32) {
	for _, key := range keys {
		i := x.takeLink()
		*x.at(i) = link[R]{ref: ref, ring: x.ringOf(key), more: chain}
		x.push(i)
		chain = i
	}
	return chain
}

// remove takes a slot out from under all of its keys, and returns how many those are.
func (x *inverted[R]) remove(chain uint32) (keys int64) {
	for ; chain != 0; keys++ {
		l := x.at(chain)
		x.unlink(chain)
		next := l.more
		*l = link[R]{more: x.freeLinks}
		x.freeLinks, chain = chain, next
	}
	return keys
}

// length is how many slots a key has.
func (x *inverted[R]) length(key uint64) int {
	if n := x.numbers[key]; n != 0 {
		return int(x.rings[n-1].length)
	}
	return 0
}

// oldest returns the first slot of a key.
func (x *inverted[R]) oldest(key uint64) (ref R, ok bool) {
	n := x.numbers[key]
	if n == 0 {
		return ref, false
	}
	return x.at(x.rings[n-1].first).ref, true
}

// rotate makes the first slot of a key the last.
func (x *inverted[R]) rotate(key uint64) {
	if n := x.numbers[key]; n != 0 {
		r := &x.rings[n-1]
		r.first = x.at(r.first).next
	}
}

// after returns a slot of a key and its link, the one that follows a link, or the
// first if that link is zero or has come into other hands. It is not ok at the end.
func (x *inverted[R]) after(key uint64, i uint32) (ref R, at uint32, ok bool) {
	n := x.numbers[key]
	if n == 0 {
		return ref, 0, false
	}
	first := x.rings[n-1].first
	at = first
	if i != 0 && i <= x.used && x.at(i).ring == n {
		if at = x.at(i).next; at == first {
			return ref, 0, false
		}
	}
	return x.at(at).ref, at, true
}

// ringOf returns the ring of a key, an empty one if there is none yet.
func (x *inverted[R]) ringOf(key uint64) uint32 {
	n := x.numbers[key]
	if n != 0 {
		return n
	}
	if n = x.freeRings; n != 0 {
		x.freeRings = x.rings[n-1].first
		x.rings[n-1] = ring{key: key}
	} else {
		x.rings = append(x.rings, ring{key: key})
		n = uint32(len(x.rings))
	}
	x.numbers[key] = n
	return n
}

func (x *inverted[R]) push(i uint32) {
	l := x.at(i)
	r := &x.rings[l.ring-1]
	if r.length == 0 {
		l.prev, l.next, r.first = i, i, i
	} else {
		first := x.at(r.first)
		l.prev, l.next = first.prev, r.first
		x.at(first.prev).next = i
		first.prev = i
	}
	r.length++
}

func (x *inverted[R]) unlink(i uint32) {
	l := x.at(i)
	r := &x.rings[l.ring-1]
	if r.length == 1 {
		delete(x.numbers, r.key)
		*r = ring{first: x.freeRings}
		x.freeRings = l.ring
		return
	}
	x.at(l.prev).next = l.next
	x.at(l.next).prev = l.prev
	if r.first == i {
		r.first = l.next
	}
	r.length--
}

// takeLink returns a link that is not in use.
func (x *inverted[R]) takeLink() uint32 {
	if i := x.freeLinks; i != 0 {
		x.freeLinks = x.at(i).more
		return i
	}
	if int(x.used) == len(x.pages)*linksPerPage {
		x.pages = append(x.pages, make([]link[R], linksPerPage))
	}
	x.used++
	return x.used
}

func (x *inverted[R]) at(i uint32) *link[R] {
	return &x.pages[(i-1)/linksPerPage][(i-1)%linksPerPage]
}
