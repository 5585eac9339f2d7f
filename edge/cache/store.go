package cache

import (
	"encoding/binary"
	"iter"
	"math"
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

// fits reports whether an entry of this size could ever be kept.
func (s *store) fits(bytes int64) bool {
	if len(s.shards) == 0 {
		return false
	}
	sh := &s.shards[0]
	return bytes >= 0 && bytes <= min(sh.limit-2*sh.page-4*slotSize, math.MaxUint32) // a slot has no more bits for it
}

// put keeps an entry that answered r. It takes the place of the variants that
// would have answered r: they are out of date.
func (s *store) put(t *target, e *Entry, r *http.Request) bool {
	h, ok := s.write(t, e, r, copyOf(e.body), nil)
	if ok {
		h.shard.unpin(h.slot, h.size)
	}
	return ok
}

// putPinned is put, and returns the entry as get would, or nil. valid is asked at the
// last moment, under the shard's lock: what makes it untrue and then looks for entries
// finds this one, or it is not there.
func (s *store) putPinned(t *target, e *Entry, r *http.Request, valid func() bool) *Entry {
	return s.putRead(t, e, r, copyOf(e.body), valid)
}

// A bodyOf is a body of so many bytes that is read into the memory where it is kept.
type bodyOf struct {
	bytes []byte
	size  int64
	read  func(into []byte) error // nil: it is bytes
}

func copyOf(b []byte) bodyOf { return bodyOf{bytes: b, size: int64(len(b))} }

// putRead is putPinned for a body that comes from elsewhere. No lock is held while it
// is read; if that fails nothing is kept.
func (s *store) putRead(t *target, e *Entry, r *http.Request, body bodyOf, valid func() bool) *Entry {
	h, ok := s.write(t, e, r, body, valid)
	if !ok {
		return nil
	}
	kept := *e
	kept.hold, kept.body = h, h.shard.body(h.slot)
	return &kept
}

// write makes a record of an entry, pinned. The body is copied or read, and no lock is
// held meanwhile.
func (s *store) write(t *target, e *Entry, r *http.Request, body bodyOf, valid func() bool) (h hold, ok bool) {
	scratch := s.heads.Get().(*[]byte)
	defer s.heads.Put(scratch)
	head := appendHead((*scratch)[:0], t, e, s.base)
	*scratch = head
	keys, ignored := entryKeys(t, e.header)
	size, filed := int64(len(head))+body.size, int64(len(keys))*keyBytes
	if !s.fits(size + filed) {
		return hold{}, false
	}
	sh := s.shard(t.hash)
	i := sh.reserve(size, filed)
	if i == 0 {
		return hold{}, false
	}
	record := sh.arena.bytes(i, size)
	rest := record[copy(record, head):]
	if body.read == nil {
		copy(rest, body.bytes)
	} else if body.read(rest) != nil {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		sh.giveUp(i, filed)
		return hold{}, false
	}
	at := &sh.slots[i]
	at.hash, at.head, at.body = t.hash, uint32(len(head)), uint32(body.size)
	s.ignored.Add(uint64(ignored))
	return sh.publish(i, t, e, r, keys, valid)
}

// head is that of a record.
func (sh *shard) head(i uint32) []byte { return sh.arena.bytes(i, int64(sh.slots[i].head)) }

// body is that of a record. Nobody can append to it.
func (sh *shard) body(i uint32) []byte {
	s := &sh.slots[i]
	return sh.arena.bytes(i, int64(s.head)+int64(s.body))[s.head:]
}

// taken is what counts against the limit.
func (sh *shard) taken() int64 { return sh.arena.taken() + sh.filed }

// reserve makes room for a record and for so many bytes of its keys, and returns a
// slot for it, or none.
func (sh *shard) reserve(size, filed int64) uint32 {
	n := uint32((size + unit - 1) / unit)
	needs := int64(n)*unit + filed
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if size+filed > sh.limit-int64(sh.made)*slotSize-2*sh.page-sh.pinned.Load() {
		return 0 // however much is evicted
	}
	for {
		i, over := sh.find(n), needs
		if i != 0 {
			over = sh.taken() + sh.cost(i, n) + filed - sh.limit
		}
		switch {
		case i != 0 && over <= 0:
			sh.take(i, n)
			sh.filed += filed
			sh.bytes.Add(sh.slots[i].size() + filed)
			return i
		case i != 0 && sh.loose && sh.shed(over, i, n) > 0:
		case !sh.makeRoom(min(over, needs)):
			return 0
		}
	}
}

// makeRoom evicts until so many bytes more are free, and reports whether any
// are.
func (sh *shard) makeRoom(bytes int64) bool {
	freed := int64(0)
	for freed < bytes {
		victim := sh.policy.evict()
		if victim == 0 {
			break
		}
		freed += sh.slots[victim].size() + sh.forget(victim)
		sh.evicts.Add(1)
	}
	return freed > 0
}

// publish puts a written record into the index, and pins it; one that is not valid any
// more it gives up.
func (sh *shard) publish(
	i uint32, t *target, e *Entry, r *http.Request, keys []uint64, valid func() bool,
) (h hold, ok bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if valid != nil && !valid() {
		sh.giveUp(i, int64(len(keys))*keyBytes)
		return hold{}, false
	}
	sh.replace(i, t, e, r)
	sh.insert(i, keys)
	h = sh.hold(i)
	h.tight = !sh.pin(&h)
	h.again = sh.slots[i].proven || sh.slots[i].frequency.Load() > 0
	return h, true
}

// giveUp takes back what reserve has given, under the shard's lock.
func (sh *shard) giveUp(i uint32, filed int64) {
	sh.filed -= filed
	sh.bytes.Add(-filed)
	sh.reclaim(i)
}

// replace removes the variants that the new one stands in for, which inherits
// their place in the policy, and the oldest beyond the bound.
func (sh *shard) replace(i uint32, t *target, e *Entry, r *http.Request) {
	variants := 1
	for old, older := range sh.variants(t) {
		superseded := matches(older.vary, r.Header) || e.yieldsTo(older)
		if superseded {
			sh.slots[i].inherit(&sh.slots[old])
		}
		if superseded || variants == maxVariants {
			sh.remove(old)
		} else {
			variants++
		}
	}
}

// insert puts a slot into both indexes and the policy.
func (sh *shard) insert(i uint32, keys []uint64) {
	s := &sh.slots[i]
	sh.lastID++
	s.id = sh.lastID
	bucket := sh.bucket(s.hash)
	s.chain, *bucket = *bucket, i
	sh.policy.add(i)
	binary.LittleEndian.PutUint32(sh.head(i)[linksAt:], sh.keyed.add(i, keys))
	sh.entries.Add(1)
}

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
