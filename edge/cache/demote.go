package cache

import (
	"time"

	"spillway/edge/cache/disk"
)

// UseDisk puts a tier on a disk below the memory. It must be called before the cache
// is used, and the tier's Run by the caller.
func (c *Cache) UseDisk(tier *disk.Tier) {
	c.disk, c.clock, c.recalls.patience = tier, newClock(), readPatience
}

// An entry goes to the disk when it is asked for again, not when memory lets it go:
// then it outlives a crash, nobody writes under a shard's lock, and what is written
// is in memory anyway. What is asked for once, the bulk of any crowd's traffic and all
// of a scan's, is never written: S3-FIFO knows it by its counter, and what it has let
// go by its ghosts.

// retryMask lets one of so many hits of an entry try again what was refused, because
// the disk was busy or not read yet.
const retryMask = 1<<10 - 1

// leastUse is how long an entry that cannot be validated must be fresh yet to be
// written: it would be over before it is read. Not a knob.
const leastUse = 10 * time.Second

// demote puts an entry that memory holds on the disk, if that is of use. The entry is
// the caller's, pinned.
func (c *Cache) demote(t *target, e *Entry, now time.Time) {
	if c.disk == nil || !keepsOnDisk(t, e, now) {
		return
	}
	key := keysOnDisk(t)[variantPlace(e)]
	if c.disk.Has(key) || !c.disk.Willing(int64(len(e.body))) {
		return
	}
	epoch, asked, quiet := c.movesFrom(t)
	if !quiet || !c.store.has(t, e) { // what a purge has removed since it was found
		return
	}
	from := *t
	from.asked = asked
	c.disk.Put(disk.Item{
		Key: key, Expires: uselessFrom(e, now), Marks: marksOf(t, e.header),
		Head: c.clock.diskHead(t, e), Body: e.body, Release: e.retain(),
		Valid: func() bool { return c.flights.epoch(from.hash).Load() == epoch && !c.purgedSince(&from, e) },
	})
	if !c.store.has(t, e) { // a newer response, which was at the disk before
		c.disk.Delete(key)
	}
}

// keepsOnDisk reports whether an entry may be kept on the disk, and is worth it. Parts
// are not, since they are joined to others all the time; nor is what was made of another
// entry, or what No-Vary-Search has made the key of, which no other process makes alike;
// nor what has a visitor's credentials in its key.
func keepsOnDisk(t *target, e *Entry, now time.Time) bool {
	h := &e.hold
	switch {
	case t.varied, t.form != 0, t.sliced(), e.part != nil, e.personal(), e.purged, h.shard == nil, h.lent != nil, h.tight:
		return false
	case h.shard.pinned.Load() > h.shard.quota/pinShare: // what is to be written stays in memory until then
		return false
	}
	return e.validators() || e.TTL(now) >= leastUse
}

// uselessFrom says when an entry can answer nobody any more. One that can be validated
// is worth a round trip for ever.
func uselessFrom(e *Entry, now time.Time) time.Time {
	if e.validators() {
		return time.Time{}
	}
	return now.Add(e.TTL(now) + max(disconnectedMax, e.control.staleIfError.Duration, e.control.staleWhileRevalidate.Duration)).Round(0)
}

// overtake removes what an entry takes the place of from the disk: what is stored
// later is the newer truth. Without conditions it is that of all variants.
func (c *Cache) overtake(t *target, e *Entry) {
	if c.disk == nil || t.varied || t.form != 0 || t.sliced() {
		return
	}
	keys := keysOnDisk(t)
	if len(e.vary) == 0 {
		c.removeFromDisk(t, keys[:])
		return
	}
	for _, key := range [...]disk.Key{keys[variantPlace(e)], keys[0]} {
		if _, known := c.disk.DeleteAny(key); !known {
			c.disk.Delete(key)
		}
	}
}

// outdate removes an entry for which there is a newer truth that may not be stored. It
// may be on its way from the disk, or to it.
func (c *Cache) outdate(t *target, e *Entry) {
	c.overtake(t, e)
	c.store.removeEntry(t, e)
	c.overtake(t, e)
}

// removeFromDisk removes all variants of a target, and returns how many there were.
func (c *Cache) removeFromDisk(t *target, keys []disk.Key) (objects int) {
	objects, known := c.disk.DeleteAny(keys...)
	if !known {
		c.disk.Purge(urlMarkOf(t))
	}
	return objects
}

// has reports whether an entry that get returned is still kept, as it was.
func (s *store) has(t *target, e *Entry) bool {
	sh := s.shard(t.hash)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for i := sh.first(t); i != 0; i = sh.match(sh.slots[i].chain, t) {
		if sh.slots[i].id == e.hold.id {
			return sh.head(i)[purgedAt] == 0 || e.purged
		}
	}
	return false
}
