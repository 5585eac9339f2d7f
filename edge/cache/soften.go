package cache

import (
	"encoding/binary"
	"time"
)

// Purged reports whether the entry was softly purged and not validated since.
func (e *Entry) Purged() bool { return e.purged }

// soften makes the entry of a slot stale: as if its freshness had ended now, so that
// every window for stale answers begins now as well. An Entry never changes: who has
// it already keeps it as it was. It reports whether there was anything to do.
func (sh *shard) soften(i uint32, now time.Time) bool {
	e := sh.entry(i)
	if e.purged {
		return false
	}
	head := sh.head(i)
	binary.LittleEndian.PutUint64(head[lifetimeAt:], uint64(min(e.lifetime, e.Age(now))))
	head[purgedAt] = 1
	sh.drop(i)
	return true
}
