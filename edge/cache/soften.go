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
	head := sh.head(i)
	if head[purgedAt] == 1 {
		return false
	}
	age := currentAge(duration(head[initialAgeAt:]), now.Sub(sh.base)-duration(head[receivedAt:]))
	binary.LittleEndian.PutUint64(head[lifetimeAt:], uint64(min(duration(head[lifetimeAt:]), age)))
	head[purgedAt] = 1
	sh.drop(i)
	return true
}
