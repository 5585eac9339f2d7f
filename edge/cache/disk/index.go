package disk

import "sync"

// An entry is where an object's record is. It has no pointers, so that the
// garbage collector does not look at millions of them, and takes 24 bytes of the
// index with its key, up to 40 with the free room of the tables.
type entry struct {
	place
	length uint32 // of the record where it stands
	hits   uint8  // since it was written, up to maxHits
	split  bool   // the body is in another place
}

const maxHits = 3

const shardCount = 64

// An index finds entries by hash. It is safe for concurrent use.
type index struct {
	shards [shardCount]shard
}

type shard struct {
	mu      sync.Mutex
	entries map[uint64]entry
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
	e, ok := sh.entries[hash]
	if ok && e.hits < maxHits {
		e.hits++
		sh.entries[hash] = e
	}
	return e, ok
}

func (x *index) get(hash uint64) (entry, bool) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.entries[hash]
	return e, ok
}

func (x *index) set(hash uint64, e entry) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.entries[hash] = e
}

func (x *index) remove(hash uint64) (entry, bool) {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.entries[hash]
	delete(sh.entries, hash)
	return e, ok
}

// removeAt removes the entry if it is still in that place.
func (x *index) removeAt(hash uint64, at place) bool {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.entries[hash]
	if !ok || e.place != at {
		return false
	}
	delete(sh.entries, hash)
	return true
}

// move puts an entry in the place of one, if that is still there.
func (x *index) move(hash uint64, from place, to entry) bool {
	sh := x.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.entries[hash]
	if !ok || e.place != from {
		return false
	}
	sh.entries[hash] = to
	return true
}

// drop removes all entries of a segment and of those before it.
func (x *index) drop(ordinal uint32) (n int) {
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.Lock()
		for hash, e := range sh.entries {
			if e.segment <= ordinal {
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
		sh.entries = map[uint64]entry{}
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
