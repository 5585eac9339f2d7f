package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

const (
	// Records are gathered until there are so many bytes, or nothing else is to be
	// written, so that a small one does not cost a system call.
	gatherBytes = 256 << 10
	// A larger body is written from where it is.
	copiedBody = 64 << 10
	// The bodies of updated objects up to here are written again, which is cheaper
	// than to read two places from then on.
	rewrittenBody = 16 << 10
)

// How long a tier that does not work waits before it tries again, one whose
// folder another process uses, and one that had to shrink before it grows again.
// Not knobs.
const (
	retryAfter = 30 * time.Second
	takenAfter = time.Second
	growAfter  = 10 * time.Minute
)

// A writer is the part of the tier that only Run uses.
type writer struct {
	lock    *os.File
	current *segment // nil: the next record begins one
	ordinal uint32   // of the newest segment that ever was
	// limit is of all files: the configured size, or less while the disk is full.
	limit   atomic.Int64
	full    bool // the disk had no room, and it was said
	shrunk  time.Time
	fresh   bool  // nothing of what is on the disk counts
	movable int64 // bytes of objects that may still be moved to the next segment
	batch   []*operation

	buffer  []byte
	from    int64 // where the buffer goes
	end     int64 // where the next record goes
	commits []commit
}

// A commit lets a record that was written take effect.
type commit struct {
	o    *operation // nil: an object was moved
	kind kind
	hash uint64
	at   entry
	was  place // of an object that was moved
}

// Run opens the tier and writes until ctx ends, then writes what is left. When the
// disk fails, it says so, lets go of everything and tries again after a time.
func (t *Tier) Run(ctx context.Context) error {
	for t.c.on() {
		err := t.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		t.fail(err)
		pause := retryAfter
		if errors.Is(err, errTaken) {
			pause = takenAfter
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
	<-ctx.Done()
	return nil
}

// serve opens the tier and writes until ctx ends or something fails.
func (t *Tier) serve(ctx context.Context) error {
	if err := t.open(ctx); err != nil {
		return err
	}
	grow := time.NewTicker(time.Minute)
	defer grow.Stop()
	for {
		if err := t.drain(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return t.close()
		case <-t.wake:
		case <-grow.C:
			t.grow(time.Now())
		}
	}
}

// drain writes all that is to be written.
func (t *Tier) drain() error {
	for {
		t.batch = t.take()
		if len(t.batch) == 0 {
			return nil
		}
		for _, o := range t.batch {
			if err := t.do(o); err != nil {
				return err
			}
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
}

// do carries an operation out. It may take effect as late as the next flush.
func (t *Tier) do(o *operation) error {
	switch o.kind {
	case putItem, updateHead:
		if !t.newest(o) {
			t.finish(o)
			return nil
		}
		if o.kind == updateHead {
			return t.update(o)
		}
		return t.put(o, o.item.Body)
	case deleteKey:
		return t.bury(o, header{kind: deleteRecord, key: o.item.Key})
	case purgeMarks:
		return t.bury(o, header{kind: purgeRecord, marks: len(o.item.Marks), soft: o.soft})
	case removeEverything:
		if err := t.removeEverything(); err != nil {
			return err
		}
	case reached:
		if err := t.flush(); err != nil {
			return err
		}
		o.done <- nil
	}
	t.finish(o)
	return nil
}

// newest reports whether nothing newer was asked for under the hash.
func (t *Tier) newest(o *operation) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending[o.item.Key.hash()] == o.sequence
}

func (t *Tier) finish(o *operation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settle(o)
}

// put writes an object.
func (t *Tier) put(o *operation, body []byte) error {
	h := o.item.record()
	h.body = len(body)
	m := appendMarks(make([]byte, 0, h.metaBytes()), o.item.Marks)
	m = append(appendSums(m, body), o.item.Head...)
	return t.keep(o, h, m, body)
}

// update writes a new head. Whatever stands in its way, the object must not come
// back with its old one. If one of its old marks was purged meanwhile, nobody knows
// any more whether that was before the update as well: then it is gone.
func (t *Tier) update(o *operation) error {
	old, err := t.load(o.was)
	if err != nil {
		return t.bury(o, header{kind: deleteRecord, key: o.item.Key})
	}
	if old.body <= rewrittenBody {
		body, err := t.loadBody(&old)
		if err != nil {
			return t.bury(o, header{kind: deleteRecord, key: o.item.Key})
		}
		return t.put(o, body)
	}
	h := o.item.record()
	h.kind, h.body, h.bodyAt = headRecord, old.body, old.from
	m := appendMarks(make([]byte, 0, h.metaBytes()), o.item.Marks)
	m = append(append(m, old.meta.sums(&old.header)...), o.item.Head...)
	return t.keep(o, h, m, nil)
}

// keep writes a record of an object. When there is no room, what was kept under
// its key must not come back either.
func (t *Tier) keep(o *operation, h header, m meta, body []byte) error {
	h.sequence = o.sequence
	t.counts.asked.Add(uint64(len(m) + len(body)))
	err := t.write(h, m, body, commit{o: o, kind: h.kind, hash: h.key.hash()})
	if errors.Is(err, errNoRoom) {
		t.counts.refusedPinned.Add(1)
		return t.bury(o, header{kind: deleteRecord, key: h.key})
	}
	return err
}

// bury writes a delete or a purge, unless nothing of the key is on the disk. If not
// even that has room, all segments were evicted, and there is nothing left that it
// could be about.
func (t *Tier) bury(o *operation, h header) error {
	h.sequence = o.sequence
	done := commit{o: o, kind: h.kind, hash: h.key.hash()}
	if h.kind == deleteRecord && !o.replaces {
		t.commit(done)
		return nil
	}
	err := t.write(h, appendMarks(nil, o.item.Marks[:h.marks]), nil, done)
	if errors.Is(err, errNoRoom) {
		t.commit(done)
		return nil
	}
	return err
}

// write appends a record; done takes effect when it is in the file.
func (t *Tier) write(h header, m meta, body []byte, done commit) error {
	h.metaSum = m.sum()
	need := h.bytes()
	if t.current == nil || t.end+need > t.segmentBytes {
		if err := t.turn(h.kind == deleteRecord || h.kind == purgeRecord); err != nil {
			return err
		}
	}
	done.at.place = place{t.current.ordinal, uint32(t.end)}
	done.at.length, done.at.split = readLength(need), h.kind == headRecord
	t.buffer = append(h.append(t.buffer), m...)
	if len(body) > copiedBody {
		return t.writeBody(body, done, t.end+need)
	}
	t.buffer = append(t.buffer, body...)
	t.end = align(t.end + need)
	t.buffer = append(t.buffer, make([]byte, t.end-t.from-int64(len(t.buffer)))...)
	t.commits = append(t.commits, done)
	if len(t.buffer) >= gatherBytes {
		return t.flush()
	}
	return nil
}

// writeBody writes what is gathered, and then the body of the record at its end.
func (t *Tier) writeBody(body []byte, done commit, end int64) error {
	if err := t.flush(); err != nil {
		return err
	}
	if err := t.writeAt(body, t.from); err != nil {
		return err
	}
	t.end = align(end)
	t.from = t.end
	t.commit(done)
	return nil
}

// flush writes what is gathered and lets it take effect.
func (t *Tier) flush() error {
	if len(t.buffer) > 0 {
		if err := t.writeAt(t.buffer, t.from); err != nil {
			return err
		}
		t.from += int64(len(t.buffer))
		t.buffer = t.buffer[:0]
	}
	for _, done := range t.commits {
		t.commit(done)
	}
	clear(t.commits)
	t.commits = t.commits[:0]
	return nil
}

func (t *Tier) writeAt(b []byte, offset int64) error {
	if _, err := t.current.file.WriteAt(b, offset); err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	t.current.size = offset + int64(len(b))
	t.counts.written.Add(uint64(len(b)))
	return nil
}

// commit lets a record take effect, unless something newer was asked for since.
func (t *Tier) commit(c commit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.o == nil {
		t.index.move(c.hash, c.was, c.at)
		return
	}
	if t.current != nil && (c.kind == deleteRecord || c.kind == purgeRecord) {
		t.current.graves.Store(true)
	}
	if c.kind == purgeRecord {
		t.commitPurge(c)
	} else if t.pending[c.hash] == c.o.sequence {
		delete(t.pending, c.hash)
		if c.kind != deleteRecord {
			t.index.set(c.hash, c.at)
		}
	}
	t.settle(c.o)
}

func (t *Tier) commitPurge(c commit) {
	marks := c.o.item.Marks
	if t.current == nil { // there is nothing left that it could be about
		t.purges.wrote(marks, c.o.sequence, 0, nil)
		t.purges.evict(marks, 0)
		return
	}
	t.current.marks = t.purges.wrote(marks, c.o.sequence, c.at.segment, t.current.marks)
}
