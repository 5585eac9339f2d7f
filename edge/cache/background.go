package cache

import (
	"context"
	"sync"
)

// backgroundMost is how many fetches may go on in the background at once. Not a knob:
// each holds a permit of its origin, whose limit bounds them long before; this bounds
// what hung origins can make the node hold.
const backgroundMost = 256

// A background bounds and ends the fetches that nobody may be waiting for.
type background struct {
	mu      sync.Mutex
	ctx     context.Context // nil while there is none
	taken   int
	running sync.WaitGroup
}

// Revalidate lets fetches go on in the background until ctx ends, and returns when the
// last of them has ended. Without it entries that may answer while they are being
// revalidated do so, and are not.
func (c *Cache) Revalidate(ctx context.Context) error {
	b := &c.behind
	b.mu.Lock()
	b.ctx = ctx
	b.mu.Unlock()
	<-ctx.Done()
	b.mu.Lock()
	b.ctx = nil // none begins any more
	b.mu.Unlock()
	b.running.Wait()
	return nil
}

// begin takes a place for a fetch, which ends when the context does. end gives it
// back.
func (b *background) begin() (ctx context.Context, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil || b.taken >= backgroundMost {
		return nil, false
	}
	b.taken++
	b.running.Add(1)
	return b.ctx, true
}

func (b *background) end() {
	b.mu.Lock()
	b.taken--
	b.mu.Unlock()
	b.running.Done()
}

func (b *background) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.taken)
}

// detach lets a flight go on when nobody waits for it. The shard of the flight is
// locked.
func (c *Cache) detach(f *flight) bool {
	ctx, ok := c.behind.begin()
	if !ok {
		return false
	}
	stop := context.AfterFunc(ctx, f.cancel)
	f.detached, f.release = true, func() {
		stop()
		c.behind.end()
	}
	return true
}

// arrive is the end of a flight, its body included.
func (c *Cache) arrive(f *flight) {
	sh := c.flights.shard(f.key)
	sh.mu.Lock()
	release := f.release
	sh.mu.Unlock()
	if release != nil {
		release()
	}
}
