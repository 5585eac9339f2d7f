package cache

import (
	"encoding/binary"
	"math"
	"net/http"
)

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
