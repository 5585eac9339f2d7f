package cache

import (
	"sync/atomic"
	"time"
)

// purgeCounts are of purges by kind, and of what they found.
type purgeCounts struct{ url, prefix, tag, group, all, entries atomic.Uint64 }

func (p *purgeCounts) add(kind Kind, entries int) {
	p.entries.Add(uint64(entries))
	switch kind {
	case KindURL:
		p.url.Add(1)
	case KindPrefix:
		p.prefix.Add(1)
	case KindTag:
		p.tag.Add(1)
	case KindGroup:
		p.group.Add(1)
	case KindAll:
		p.all.Add(1)
	}
}

func (p *purgeCounts) state() PurgeState {
	return PurgeState{
		URL: p.url.Load(), Prefix: p.prefix.Load(), Tag: p.tag.Load(), Group: p.group.Load(), All: p.all.Load(),
	}
}

// Purge forgets everything.
func (c *Cache) Purge() { c.PurgeBy(SelectAll(), false) }

// PurgeBy forgets what a selection names, and returns how many entries that were.
// With soft they stay and are stale from now on: they must be validated before they
// answer, and may stand in where a stale answer may, for as long as if they had
// expired now. What was softly purged before, and not validated since, counts no
// more.
//
// Fetches that began before are joined by nobody who asks afterwards, and what they
// bring is not stored. It takes time as there are entries to find, no matter how
// many there are in all, and holds no lock for long.
func (c *Cache) PurgeBy(s Selection, soft bool) (entries int) {
	now := time.Now()
	switch s.kind {
	case "":
		return 0
	case KindURL:
		c.purges.begin(c.path(&s.target))
		for _, key := range c.keys(s.policy, &s.target) {
			entries += c.purgeTarget(&key, soft, now)
		}
	default:
		c.purging.Add(1)
		defer c.purging.Add(-1)
		c.purges.begin(s.key)
		c.purgeDisk(&s, soft)
		for i := range c.store.shards {
			entries += c.store.shards[i].sweep(&s, soft, now)
		}
	}
	c.counts.purges.add(s.kind, entries)
	return entries
}

// purgeTarget forgets the variants of a key, or makes them stale. The epoch is
// raised first: a fetch that stores after the removal then sees that it must not.
func (c *Cache) purgeTarget(t *target, soft bool, now time.Time) (entries int) {
	c.purging.Add(1)
	defer c.purging.Add(-1)
	c.flights.epoch(t.hash).Add(1)
	onDisk := c.purgeTargetOnDisk(t, soft)
	defer func() { entries = max(entries, onDisk) }()
	entries = c.purgeSlices(t, soft, now)
	sh := c.store.shard(t.hash)
	if sh == nil {
		return entries
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	entries += sh.purge(t, soft, now)
	for _, to := range forms {
		made := t.in(to)
		entries += sh.purge(&made, soft, now)
	}
	return entries
}

// purge is purgeTarget for one form.
func (sh *shard) purge(t *target, soft bool, now time.Time) (entries int) {
	for i := range sh.variants(t) {
		if !soft {
			sh.remove(i)
			entries++
		} else if sh.soften(i, now) {
			entries++
		}
	}
	return entries
}

// sweepBatch is how many entries are purged while a shard is locked: a fraction of
// a millisecond. Not a knob.
const sweepBatch = 512

// sweep purges what a selection names in a shard, as much as there is when it
// begins: the oldest first, and each that stays goes to the end of its ring, so
// that nothing is missed when entries come and go between two batches.
func (sh *shard) sweep(s *Selection, soft bool, now time.Time) (entries int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.kind == KindAll && !soft {
		sh.policy.ghost.clear()
		defer sh.shedAll()
	}
	for left := sh.keyed.length(s.key); left > 0; {
		batch := min(left, sweepBatch)
		for range batch {
			i, ok := sh.keyed.oldest(s.key)
			if !ok {
				return entries
			}
			named := sh.named(s, i)
			if named && !soft {
				sh.remove(i)
				entries++
				continue
			}
			sh.keyed.rotate(s.key)
			if named && sh.soften(i, now) {
				entries++
			}
		}
		if left -= batch; left > 0 {
			sh.mu.Unlock() // let visitors in
			sh.mu.Lock()
		}
	}
	return entries
}

// shedBatch is how many bytes go back to the kernel while a shard is locked: that
// takes it some milliseconds. Not a knob.
const shedBatch = 32 << 20

// shedAll gives all pages under free memory back, under the shard's lock, which is
// given up now and then.
func (sh *shard) shedAll() {
	for sh.shed(shedBatch, 0, 0) >= shedBatch {
		sh.mu.Unlock() // let visitors in
		sh.mu.Lock()
	}
}

// named reports whether a slot that was found by the key is meant.
func (sh *shard) named(s *Selection, i uint32) bool {
	if s.kind != KindPrefix {
		return true
	}
	t := sh.key(i)
	return s.names(&t)
}
