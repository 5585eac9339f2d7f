package cache

import "sync/atomic"

// purges number the purges by key, and remember the number of the last one of each
// key. A request knows how many there were when it asked; so what it brings is known
// to be from before a purge, although its tags come only with its answer. URLs have
// epochs of their own, of flights; their paths are numbered here for answers that prove
// to be those of other queries as well.
type purges struct {
	count atomic.Uint64
	// last has a place for many keys. Two in one place cost a store at most.
	last [1 << 14]atomic.Uint64
}

// begin numbers a purge. What is in the index then is still to be removed: a fetch
// that stores later sees that it must not, one that has stored is found.
func (p *purges) begin(key uint64) {
	n := p.count.Add(1)
	place := &p.last[key%uint64(len(p.last))]
	for {
		was := place.Load()
		if was >= n || place.CompareAndSwap(was, n) {
			return
		}
	}
}

// since reports whether any of the keys was purged after the purge of that number.
func (p *purges) since(keys []uint64, number uint64) bool {
	for _, key := range keys {
		if p.last[key%uint64(len(p.last))].Load() > number {
			return true
		}
	}
	return false
}

// purgedSince reports whether an entry has been purged since its target was asked
// for.
func (c *Cache) purgedSince(t *target, e *Entry) bool {
	if c.purges.count.Load() == t.asked {
		return false // as nearly always
	}
	keys, _ := entryKeys(t, e.header)
	if t.varied {
		keys = append(keys, c.path(t)) // it answers other queries, too: one of them may have been purged
	}
	return c.purges.since(keys, t.asked)
}

// outlived reports whether a purge has come between a flight and a request that
// would join it: what the flight brings is from before, and the request from
// after. Tags are known when it has landed. The flight's shard is locked, or it has
// landed.
func (c *Cache) outlived(f *flight, found *Result) bool {
	if f.target.asked >= found.target.asked {
		return false
	}
	keys := targetKeys(&f.target)
	if e := f.landing.verdict.entry; f.settled && e != nil {
		keys, _ = entryKeys(&f.target, e.header)
	}
	return c.purges.since(keys, f.target.asked)
}
