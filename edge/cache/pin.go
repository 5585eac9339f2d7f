package cache

import (
	"bytes"
	"sync/atomic"
)

// A record is pinned while somebody reads its body: its memory is not used for
// anything else before the last of them has released it. Only what is in the
// index can be pinned, under the shard's lock; so once a record has left the
// index its pins only fall, and exactly one release sees that it was the last.

// A hold is an entry's claim on the memory of its body. The zero hold is that of
// an entry whose body is on the heap.
type hold struct {
	shard *shard
	slot  uint32
	id    uint64  // of the record
	size  int64   // of the memory, or of the copy
	lent  *budget // the body is a copy on the heap, of this budget's bytes
	tight bool    // it is beyond what may be pinned, and must not last
	again bool    // it was asked for before it was stored
}

const (
	// detached: the record has left the index. The other bits count the pins.
	detached = 1 << 31

	// A record may be pinned if it is at most a quarter of what is not pinned yet,
	// or alone. So a few who read large objects slowly leave room for many small
	// ones. Not a knob.
	pinShare = 4
)

// pin keeps a record of this shard, under its lock, until release.
// It reports whether that is within the share of the memory that may be pinned;
// what others have pinned already costs no more.
func (sh *shard) pin(h *hold) (roomy bool) {
	if sh.slots[h.slot].pins.Add(1) > 1 {
		return true
	}
	others := sh.pinned.Add(h.size) - h.size
	return others == 0 || h.size <= (sh.quota-others)/pinShare
}

// hold returns the claim on a slot's memory; pin makes it good.
func (sh *shard) hold(i uint32) hold {
	s := &sh.slots[i]
	return hold{shard: sh, slot: i, id: s.id, size: s.size()}
}

// release ends a pin. It must be called exactly once for each entry that get
// returned; the body must not be read after it.
func (e *Entry) release() {
	if e == nil {
		return
	}
	h := &e.hold
	switch {
	case h.lent != nil:
		h.lent.give(h.size)
	case h.shard != nil:
		h.shard.unpin(h.slot, h.size)
	}
}

// retain pins again what its caller has pinned. The caller releases it with what
// is returned.
func (e *Entry) retain() (release func()) {
	if e == nil || e.hold.shard == nil || e.hold.lent != nil {
		return func() {} // the heap's
	}
	e.hold.shard.slots[e.hold.slot].pins.Add(1)
	return e.release
}

func (sh *shard) unpin(i uint32, size int64) {
	// Without a pin of ours the slot may be another record's at any moment.
	left := sh.slots[i].pins.Add(^uint32(0))
	if left&^detached > 0 {
		return
	}
	sh.pinned.Add(-size)
	if left == detached {
		sh.mu.Lock()
		sh.reclaim(i)
		sh.mu.Unlock()
	}
}

// detach gives up a record that has left the index: at once, or by its last
// reader.
func (sh *shard) detach(i uint32) {
	if sh.slots[i].pins.Or(detached) == 0 {
		sh.reclaim(i)
	}
}

func (sh *shard) reclaim(i uint32) {
	sh.bytes.Add(-sh.slots[i].size())
	sh.arena.release(i)
}

// copied returns an entry whose body is a copy on the heap, in place of one that
// may not stay pinned; none if the copies of others take all that there is for
// them.
func (s *store) copied(e *Entry) *Entry {
	defer e.release()
	if !s.copies.take(int64(len(e.body))) {
		return nil
	}
	c := *e
	c.body, c.hold.lent, c.hold.size = bytes.Clone(e.body), s.copies, int64(len(e.body))
	return &c
}

// Stored reports whether the entry is as the store has it, and its body in the store's
// memory. Otherwise the body is on the heap, and stays there as long as the entry is known
// to anybody.
func (e *Entry) Stored() bool { return e.hold.shard != nil && e.hold.lent == nil }

// same reports whether two entries are of one record.
func (e *Entry) same(other *Entry) bool {
	return e != nil && other != nil && e.hold.shard == other.hold.shard && e.hold.id == other.hold.id
}

// To decode a head costs several allocations. Those of the entries that are
// asked for most are kept, each in a place by its slot, so that a hit on what a
// crowd wants allocates nothing. They are the only part of an entry that the
// collector sees.
const (
	// maxDecoded bounds the decoded heads, so that marking them takes the collector
	// a millisecond or two. Not a knob.
	maxDecoded = 4096
	// decodedShare is the part of the memory that they may take.
	decodedShare = 32
	// decodedSize is what one of them counts; heads that are longer than half of it
	// are decoded for each hit.
	decodedSize = 2 << 10
)

// entry returns the entry of a record, under the shard's lock. It is not pinned.
func (sh *shard) entry(i uint32) *Entry {
	s := &sh.slots[i]
	place := sh.place(i)
	if e := place.Load(); e != nil && e.hold.id == s.id {
		return e
	}
	e := decodeHead(sh.arena.bytes(i, int64(s.head)), sh.base)
	e.body, e.hold = sh.body(i), sh.hold(i)
	if s.head <= decodedSize/2 && s.frequency.Load() > 0 {
		place.Store(e)
	}
	return e
}

func (sh *shard) place(i uint32) *atomic.Pointer[Entry] {
	return &sh.decoded[i%uint32(len(sh.decoded))]
}

// drop forgets the decoded head of a slot.
func (sh *shard) drop(i uint32) {
	place := sh.place(i)
	if e := place.Load(); e != nil && e.hold.slot == i {
		place.Store(nil)
	}
}

// touch counts a hit, and reports whether it is the first since the entry was stored,
// or since the policy has seen it asked for no more. The slot of an entry whose body is a
// copy may be another record's by now.
func (e *Entry) touch() (first bool) {
	sh := e.hold.shard
	if sh == nil {
		return false
	}
	s := &sh.slots[e.hold.slot]
	if e.hold.lent != nil {
		sh.mu.RLock()
		defer sh.mu.RUnlock()
		if s.id != e.hold.id {
			return false
		}
	}
	return s.touch()
}
