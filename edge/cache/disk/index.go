package disk

import "sync"

// An entry is where an object's record is.
type entry struct {
	place
	length uint32 // of what a read should ask for; 0 of a long record
	hits   uint8  // since it was written, up to maxHits
	split  bool   // the body is in another place
}

const maxHits = 3

// A packed entry takes 8 bytes, so that an object takes 20 to 39 of the index with
// its hash and the free room of the tables, and has no pointers, so that the
// garbage collector does not look at millions of them.
type packed uint64

const (
	offsetBits  = 25 // of alignment
	hitsBits    = 2
	lengthBits  = 12
	segmentBits = 24
	lengthUnit  = 32
	// lastOrdinal is after a petabyte. Then the tier begins anew.
	lastOrdinal = 1<<segmentBits - 1
)

func (e entry) pack() packed {
	p := packed(e.segment)<<lengthBits | packed(e.length/lengthUnit)
	p = p<<hitsBits | packed(e.hits)
	p <<= 1
	if e.split {
		p |= 1
	}
	return p<<offsetBits | packed(e.offset/alignment)
}

func (p packed) entry() (e entry) {
	take := func(bits uint) uint32 {
		v := uint32(p & (1<<bits - 1))
		p >>= bits
		return v
	}
	e.offset = take(offsetBits) * alignment
	e.split = take(1) == 1
	e.hits = uint8(take(hitsBits))
	e.length = take(lengthBits) * lengthUnit
	e.segment = take(segmentBits)
	return e
}

// readLength is how much a read of a record should ask for.
func readLength(bytes int64) uint32 {
	if bytes > wholeBytes {
		return 0
	}
	return uint32((bytes + lengthUnit - 1) &^ (lengthUnit - 1))
}

const shardCount = 64

// An index finds entries by hash. It is safe for concurrent use.
type index struct {
	shards [shardCount]shard
}

type shard struct {
	mu      sync.Mutex
	entries map[uint64]packed
	_       [48]byte // keeps neighbours off this cache line
}

func newIndex() *index {
	x := &index{}
	x.clear()
	return x
}

func (x *index) shard(hash uint64) *shard { return &x.shards[hash>>58] }

// hit returns the entry and counts that it was asked for.
func (x *index) hit(hash uint64) (entry, bool) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p, ok := sh.entries[hash]
	e := p.entry()
	if ok && e.hits < maxHits {
		e.hits++
		sh.entries[hash] = e.pack()
	}
	return e, ok
}

func (x *index) get(hash uint64) (entry, bool) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p, ok := sh.entries[hash]
	return p.entry(), ok
}

func (x *index) set(hash uint64, e entry) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.entries[hash] = e.pack()
}

func (x *index) remove(hash uint64) (existed bool) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	_, existed = sh.entries[hash]
	delete(sh.entries, hash)
	return existed
}

// removeAt removes the entry if it is still in that place.
func (x *index) removeAt(hash uint64, at place) bool {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p, ok := sh.entries[hash]
	if !ok || p.entry().place != at {
		return false
	}
	delete(sh.entries, hash)
	return true
}

// move puts an entry in the place of one, if that is still there.
func (x *index) move(hash uint64, from place, to entry) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if p, ok := sh.entries[hash]; ok && p.entry().place == from {
		sh.entries[hash] = to.pack()
	}
}

// drop removes all entries of a segment and of those before it.
func (x *index) drop(ordinal uint32) (n int) {
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.Lock()
		for hash, p := range sh.entries {
			if p.entry().segment <= ordinal {
				delete(sh.entries, hash)
				n++
			}
		}
		sh.mu.Unlock()
	}
	return n
}

func (x *index) clear() {
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.Lock()
		sh.entries = map[uint64]packed{}
		sh.mu.Unlock()
	}
}

func (x *index) len() (n int) {
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.Lock()
		n += len(sh.entries)
		sh.mu.Unlock()
	}
	return n
}
