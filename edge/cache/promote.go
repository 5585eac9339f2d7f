package cache

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/cache/disk"
)

const (
	// mostReads bounds the objects that are read from the disk at once; what comes on
	// top is a miss. Not a knob: a disk that answers has them read in a moment, and one
	// that hangs must not hold more.
	mostReads = 64
	// readPatience bounds how long a request waits for the disk. Then it is a miss, and
	// the object comes into memory when it comes. Not a knob: an origin is not slower.
	readPatience = time.Second
)

// recalls are the objects that are being read from the disk: each once, however many
// ask for it.
type recalls struct {
	patience time.Duration // how long a request waits

	mu    sync.Mutex
	reads map[diskKeys]chan struct{} // closed when what there is is in memory

	hits, misses, late, bytes atomic.Uint64
}

// recall looks for what memory does not have on the disk. What may answer the request
// is brought into memory first, where it is found as if it had been there. No lock is
// held while the disk is at work.
func (c *Cache) recall(r *http.Request, now time.Time, res *Result) {
	t := c.exact(&res.target)
	keys := keysOnDisk(&t)
	if !c.disk.HasAny(keys[:]...) {
		return
	}
	patience := time.NewTimer(c.recalls.patience)
	defer patience.Stop()
	for range 2 { // who comes to another's read may want another variant
		done, mine := c.read(&t, keys, r, res.Policy)
		if done == nil {
			c.recalls.late.Add(1)
			return
		}
		select {
		case <-done:
		case <-patience.C:
			c.recalls.late.Add(1)
			return
		case <-r.Context().Done():
			return
		}
		e, known := c.usable(&t, r, res.Policy)
		if e != nil {
			c.recalls.hits.Add(1)
			res.target = t
			c.settle(r, now, res, e, known)
			return
		}
		if mine {
			break
		}
	}
	c.recalls.misses.Add(1)
}

// recallable reports whether the disk may know more than memory.
func (c *Cache) recallable(res *Result) bool {
	return c.disk != nil && (res.State == Miss || res.State == Unavailable) && res.Entry == nil && res.partial == nil
}

// read brings the object that may answer r into memory, in a goroutine of its own,
// unless that is under way. It returns nil when too many are.
func (c *Cache) read(t *target, keys diskKeys, r *http.Request, p *Policy) (done chan struct{}, mine bool) {
	rs := &c.recalls
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if done = rs.reads[keys]; done != nil {
		return done, false
	}
	if len(rs.reads) >= mostReads {
		return nil, false
	}
	if rs.reads == nil {
		rs.reads = map[diskKeys]chan struct{}{}
	}
	done = make(chan struct{})
	rs.reads[keys] = done
	own := t.clone()
	go func() {
		defer func() {
			rs.mu.Lock()
			delete(rs.reads, keys)
			rs.mu.Unlock()
			close(done)
		}()
		c.promote(&own, keys, r, p)
	}()
	return done, true
}

// promote reads an object and puts it into memory, unless it is purged or overtaken
// meanwhile.
func (c *Cache) promote(t *target, keys diskKeys, r *http.Request, p *Policy) {
	epoch, asked, quiet := c.movesFrom(t)
	if !quiet {
		return
	}
	t.asked = asked
	// Who missed it in memory may come when the read that brought it there has ended.
	if there, _ := c.usable(t, r, p); there != nil {
		there.release()
		return
	}
	o, e := c.choose(t, keys, r, p)
	if o == nil {
		return
	}
	defer o.Close()
	if !c.fills.take(o.Size()) { // what a disk that hangs can hold of the memory
		return
	}
	defer c.fills.give(o.Size())
	if newer, _ := c.usable(t, r, p); newer != nil {
		newer.release()
		return
	}
	// A newer response is at the disk before it is in memory: what does not stand any
	// more must not take its place.
	body := bodyOf{size: o.Size(), read: func(into []byte) error {
		_, err := o.ReadAt(into, 0) // the tier removes what it cannot read
		return err
	}}
	kept := c.store.putRead(t, e, r, body, func() bool {
		return c.flights.epoch(t.hash).Load() == epoch && !c.purgedSince(t, e) && c.disk.Stands(o)
	})
	if kept != nil {
		c.recalls.bytes.Add(uint64(o.Size()))
		kept.release()
	}
}

// movesFrom is asked before an entry is moved between memory and disk: how many
// purges there have been, of the key and in all. Who finds none since, at the last
// moment and under the lock of where the entry goes, may put it there: a purge that
// comes later comes by there, too. While one is under way, which may have been where
// the entry comes from or not, nothing is moved.
func (c *Cache) movesFrom(t *target) (epoch uint32, asked uint64, quiet bool) {
	epoch, asked = c.flights.epoch(t.hash).Load(), c.purges.count.Load()
	return epoch, asked, c.purging.Load() == 0
}

// choose returns the newest object that may answer r, and its entry without the body.
// One that the request's own fields choose goes before one that it can make do with.
func (c *Cache) choose(t *target, keys diskKeys, r *http.Request, p *Policy) (best *disk.Object, entry *Entry) {
	exact := false
	c.objects(t, keys, func(o *disk.Object, e *Entry) (keep bool) {
		fits := e.mayAnswer(r)
		if setsCookie(e.header) && !c.config.ShareCookies { // they were, when it was written
			return false
		}
		if !p.hasParts(e.vary) || !fits && (exact || !e.suits(r)) || fits == exact && entry != nil && !e.received.After(entry.received) {
			return false
		}
		if best != nil {
			best.Close()
		}
		best, entry, exact = o, e, fits
		return true
	})
	return best, entry
}

// objects calls f with each object of a target and its entry without the body. What f
// keeps it closes.
func (c *Cache) objects(t *target, keys diskKeys, f func(o *disk.Object, e *Entry) (keep bool)) {
	for _, key := range keys {
		if !c.disk.Has(key) {
			continue
		}
		o := c.disk.Get(key)
		if o == nil {
			continue
		}
		e, ok := c.clock.fromDisk(o.Head, t, o.Soft, time.Now())
		if !ok || !f(o, e) {
			o.Close()
		}
	}
}
