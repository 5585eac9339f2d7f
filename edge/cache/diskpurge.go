package cache

import (
	"context"
	"time"
)

// purgeDisk purges what a selection names on the disk, URLs aside. Objects are not
// looked for: they are compared with the purge when they are read. So a prefix that
// ends within a name reaches all of its folder: more than was named, and never less.
func (c *Cache) purgeDisk(s *Selection, soft bool) {
	switch {
	case c.disk == nil:
	case soft:
		c.disk.PurgeSoft(s.mark)
	case s.kind == KindAll:
		c.disk.PurgeAll()
	default:
		c.disk.Purge(s.mark)
	}
}

// purgeTargetOnDisk purges the variants of a key, and returns how many objects that
// were for good. What is deleted leaves nothing behind in memory: anybody who may send
// an unsafe request does it.
func (c *Cache) purgeTargetOnDisk(t *target, soft bool) (objects int) {
	if c.disk == nil || t.varied {
		return 0
	}
	if soft {
		c.disk.PurgeSoft(urlMarkOf(t))
		return 0
	}
	keys := keysOnDisk(t)
	return c.removeFromDisk(t, keys[:])
}

// SyncPatience is how long an operator's purge waits for Sync: a disk that hangs, or is
// still being read at the start, must not keep from him that memory is purged.
const SyncPatience = 5 * time.Second

// Sync returns when purges that were asked for before outlive the process and the
// machine. Its error says that the disk does not work or that ctx ended: then they may
// not, and hold in this process.
func (c *Cache) Sync(ctx context.Context) error {
	if c.disk == nil {
		return nil
	}
	return c.disk.Sync(ctx)
}
