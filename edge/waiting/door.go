package waiting

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A door stands before the origin. Those whose turn has come pass one by one, by
// the order of arrival, so that one at a time asks the origin for a permit and
// nobody has to ask against the others.
type door struct {
	mu    sync.Mutex
	taken bool
	since time.Time // when the one who has it came to the door
	line  []*caller // by arrival
}

type caller struct {
	arrival int64
	since   time.Time
	next    chan struct{} // holds one, so that calling never blocks
}

// await waits for the door, until the time is over or ctx ends. True means that
// leave must be called.
func (d *door) await(ctx context.Context, c *caller, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.next:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return d.abandon(c)
}

// stand takes the door and returns nil, or takes a place in front of it.
func (d *door) stand(arrival int64) *caller {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if !d.taken {
		d.taken, d.since = true, now
		return nil
	}
	c := &caller{arrival: arrival, since: now, next: make(chan struct{}, 1)}
	i, _ := slices.BinarySearchFunc(d.line, arrival+1, func(c *caller, at int64) int {
		if c.arrival < at {
			return -1
		}
		return 1
	})
	d.line = slices.Insert(d.line, i, c)
	return c
}

// abandon gives a place up. If the door came free meanwhile, it is the caller's.
func (d *door) abandon(c *caller) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.line, c); i >= 0 {
		d.line = slices.Delete(d.line, i, i+1)
		return false
	}
	return true
}

// leave lets the next one in.
func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.line) == 0 {
		d.taken = false
		return
	}
	next := d.line[0]
	d.line = slices.Delete(d.line, 0, 1)
	d.since = next.since
	next.next <- struct{}{}
}

// standing returns how many stand at the door, and since when the first of them.
func (d *door) standing() (n int, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.taken {
		return 0, since
	}
	since = d.since
	for _, c := range d.line {
		if c.since.Before(since) {
			since = c.since
		}
	}
	return 1 + len(d.line), since
}
