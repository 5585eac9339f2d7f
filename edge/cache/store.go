package cache

import (
	"encoding/binary"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxVariants bounds the entries under one key. What Vary makes out of one URI
// is chosen by visitors; without a bound one URI could push out all others.
const maxVariants = 16

// A store keeps entries in memory, at most as many bytes as it is given: records,
// index, ghosts and decoded heads together. It is cut into shards, each with its
// own lock, indexes, policy and share of the bytes, so that the bound holds without
// any lock over all of them. Nothing outside of this file, arena.go, pin.go,
// policy.go, record.go, purge.go and soften.go knows how entries are kept.
type store struct {
	shards []shard // a power of two; none when the store is off
	shift  uint    // the hash's bits above it choose the shard
	base   time.Time
	copies *budget // for what may not be pinned
	heads  sync.Pool
	// ignored counts the tags and groups that entries had too many of.
	ignored atomic.Uint64
}

// A shard holds records in an arena. A record is found by its bucket: a chain of
// slots, the newest first, without pointers. The records of one key are its
// variants.
type shard struct {
	mu sync.RWMutex
	arena
	policy
	buckets []uint32
	decoded []atomic.Pointer[Entry] // by slot; see entry
	keyed   inverted[uint32]        // by tags, groups and folders
	filed   int64                   // bytes that the keys of records count
	base    time.Time
	lastID  uint64
	bytes   atomic.Int64 // of records and their keys; written under mu
	entries atomic.Int64 // in the index; the same
	pinned  atomic.Int64 // bytes of records that are being sent
	evicts  atomic.Uint64
	_       [64]byte // keeps neighbours off this cache line
}

// A shard must have room for a few of the largest objects, else one of them
// would empty it, and for many pages.
const (
	maxShards       = 64
	objectsPerShard = 8
	leastShard      = 256 << 10
)

func newStore(memory, maxObject int64, copies *budget) *store {
	s := &store{base: time.Now(), copies: copies, heads: sync.Pool{New: func() any { return new([]byte) }}}
	if memory <= 0 {
		return s
	}
	n, bits := 1, uint(0)
	for n < maxShards && memory/int64(2*n) >= max(objectsPerShard*maxObject, leastShard) {
		n, bits = 2*n, bits+1
	}
	s.shards, s.shift = make([]shard, n), 64-bits
	for i := range s.shards {
		s.shards[i].init(memory/int64(n), maxDecoded/n, s.base)
	}
	return s
}

// bytesPerBucket is the size of the entries that the index is made for. With
// smaller ones its chains are longer.
const bytesPerBucket = 1 << 10

func (sh *shard) init(memory int64, decoded int, base time.Time) {
	places := max(1, min(int64(decoded), memory/decodedShare/decodedSize))
	buckets := max(1, memory/bytesPerBucket)
	sets := ghostSets(memory)
	extra := buckets*4 + sets*ghostWays*4
	limit := max(slotSize, memory-extra-places*decodedSize)
	sh.base, sh.decoded, sh.keyed = base, make([]atomic.Pointer[Entry], places), newInverted[uint32]()
	arena, rest := newArena(limit, extra)
	sh.arena = arena
	sh.buckets, rest = carve[uint32](rest, buckets)
	sh.policy = policy{nodes: sh.slots, quota: limit}
	sh.ghost.sets, _ = carve[[ghostWays]uint32](rest, sets)
}

// shard returns the shard of a hash, nil when the store is off.
func (s *store) shard(hash uint64) *shard {
	if len(s.shards) == 0 {
		return nil
	}
	return &s.shards[hash>>s.shift&uint64(len(s.shards)-1)]
}

// get is getUnder for whatever policy an entry was stored under.
func (s *store) get(t *target, r *http.Request) (e *Entry, known bool) {
	return s.getUnder(t, r, underAny)
}

func underAny(*Entry) bool { return true }

// getUnder returns the newest entry that may answer r and is good, pinned, and whether
// the key is known at all. What cannot be pinned is known, and not returned.
func (s *store) getUnder(t *target, r *http.Request, good func(*Entry) bool) (e *Entry, known bool) {
	sh := s.shard(t.hash)
	if sh == nil {
		return nil, false
	}
	e, known, roomy := sh.get(t, r, good)
	if e != nil && !roomy {
		e = s.copied(e)
	}
	return e, known
}

// glimpse is get for who releases the entry at once: what is pinned for a moment need
// be no copy, and is there however much is pinned.
func (s *store) glimpse(t *target, r *http.Request) *Entry {
	sh := s.shard(t.hash)
	if sh == nil {
		return nil
	}
	e, _, _ := sh.get(t, r, underAny)
	return e
}

func (sh *shard) get(t *target, r *http.Request, good func(*Entry) bool) (e *Entry, known, roomy bool) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for _, e := range sh.variants(t) {
		if known = true; e.mayAnswer(r) && good(e) {
			return e, known, sh.pin(&e.hold)
		}
	}
	for _, e := range sh.variants(t) {
		if e.suits(r) && good(e) {
			return e, known, sh.pin(&e.hold)
		}
	}
	return nil, known, false
}

// variants are the slots and entries of a key, the newest first, under the shard's
// lock. The entries are not pinned.
func (sh *shard) variants(t *target) iter.Seq2[uint32, *Entry] {
	return func(yield func(uint32, *Entry) bool) {
		for i := sh.first(t); i != 0; {
			next := sh.match(sh.slots[i].chain, t) // the slot may go
			if !yield(i, sh.entry(i)) {
				return
			}
			i = next
		}
	}
}

// vary returns the fields by which the newest response to a key was chosen.
func (s *store) vary(t *target) []nominated {
	sh := s.shard(t.hash)
	if sh == nil {
		return nil
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if i := sh.first(t); i != 0 {
		return sh.entry(i).vary
	}
	return nil
}

// first returns the newest record of a key, or none.
func (sh *shard) first(t *target) uint32 { return sh.match(*sh.bucket(t.hash), t) }

// match returns the first record of a key in the rest of a chain.
func (sh *shard) match(i uint32, t *target) uint32 {
	for i != 0 {
		s := &sh.slots[i]
		if s.hash == t.hash && hasKey(sh.arena.bytes(i, int64(s.head)), t) {
			return i
		}
		i = s.chain
	}
	return 0
}

func (sh *shard) bucket(hash uint64) *uint32 { return &sh.buckets[hash%uint64(len(sh.buckets))] }

// head is that of a record.
func (sh *shard) head(i uint32) []byte { return sh.arena.bytes(i, int64(sh.slots[i].head)) }

// body is that of a record. Nobody can append to it.
func (sh *shard) body(i uint32) []byte {
	s := &sh.slots[i]
	return sh.arena.bytes(i, int64(s.head)+int64(s.body))[s.head:]
}

// taken is what counts against the limit.
func (sh *shard) taken() int64 { return sh.arena.taken() + sh.filed }

// remove takes a slot out of the policy and of the indexes.
func (sh *shard) remove(i uint32) {
	sh.policy.unlink(i)
	sh.forget(i)
}

// forget takes a slot that is in no queue any more out of the indexes, and returns
// what its keys counted. Its memory comes free when nobody reads it.
func (sh *shard) forget(i uint32) (filed int64) {
	link := sh.bucket(sh.slots[i].hash)
	for *link != i {
		link = &sh.slots[*link].chain
	}
	*link = sh.slots[i].chain
	filed = sh.keyed.remove(binary.LittleEndian.Uint32(sh.head(i)[linksAt:])) * keyBytes
	sh.filed -= filed
	sh.bytes.Add(-filed)
	sh.entries.Add(-1)
	sh.drop(i)
	sh.detach(i)
	return filed
}

// removeEntry forgets one variant that get returned, if it is still kept, or again: it
// may have been evicted and come back from the disk since.
func (s *store) removeEntry(t *target, e *Entry) {
	sh := s.shard(t.hash)
	if sh == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for i := sh.first(t); i != 0; i = sh.match(sh.slots[i].chain, t) {
		if sh.entry(i).number == e.number {
			sh.remove(i)
			return
		}
	}
}
