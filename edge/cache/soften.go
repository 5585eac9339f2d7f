package cache

import (
	"slices"
	"time"
)

// softened returns the entry as it is after a soft purge: as if its freshness had
// ended now, so that every window for stale answers begins now as well.
func (e *Entry) softened(now time.Time) *Entry {
	stale := *e
	stale.lifetime = min(e.lifetime, e.Age(now))
	stale.purged = true
	return &stale
}

// Purged reports whether the entry was softly purged and not validated since.
func (e *Entry) Purged() bool { return e.purged }

// soften puts a slot with the softened entry into the place of another, in the
// index and in the policy. An entry never changes: readers may hold it. It reports
// whether there was anything to do.
func (sh *shard) soften(old *slot, now time.Time) bool {
	if old.entry.purged {
		return false
	}
	sl := &slot{
		entry: old.entry.softened(now), owner: old.owner, bytes: old.bytes, chain: old.chain, proven: old.proven,
	}
	sl.frequency.Store(old.frequency.Load())
	old.owner.variants[slices.Index(old.owner.variants, old)] = sl
	sh.keyed.refer(sl.chain, sl)
	old.queue.exchange(old, sl)
	return true
}

// exchange puts a slot of the same size into the place of another.
func (q *queue) exchange(old, s *slot) {
	s.queue, s.prev, s.next = q, old.prev, old.next
	if s.prev != nil {
		s.prev.next = s
	} else {
		q.head = s
	}
	if s.next != nil {
		s.next.prev = s
	} else {
		q.tail = s
	}
	old.queue, old.prev, old.next = nil, nil, nil
}
