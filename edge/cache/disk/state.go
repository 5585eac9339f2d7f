package disk

import (
	"errors"
	"sync/atomic"
)

// errOff is the state of a tier that is not wanted.
var errOff = errors.New("the disk tier is switched off")

type counts struct {
	hits, misses, evicted, damaged                       atomic.Uint64
	refusedQueue, refusedSize, refusedOff, refusedPinned atomic.Uint64
	asked, written, moved                                atomic.Uint64
}

// A State is a snapshot for metrics and the status view. Counts begin with the
// process.
type State struct {
	Path string `json:"path"`
	// Phase is opening, on, or off. Error says why it is not on.
	Phase string `json:"phase"`
	Error string `json:"error,omitempty"`

	Objects int `json:"objects"`
	// Bytes are what the files take of the disk, Limit what they may take: the
	// configured Size, or less while the disk is full.
	Bytes    int64 `json:"bytes"`
	Size     int64 `json:"size"`
	Limit    int64 `json:"limit"`
	Segments int   `json:"segments"`
	// Lingering segments are removed and still read.
	Lingering int64 `json:"lingering"`
	Queued    int64 `json:"queued_bytes"`
	Purges    int   `json:"purges"` // marks that are remembered

	Hits    uint64 `json:"hits"`
	Misses  uint64 `json:"misses"`
	Evicted uint64 `json:"evicted"`
	Damaged uint64 `json:"damaged"` // objects and segments that were not as they were written
	// Refused are objects that were not taken: the queue was full, they were too
	// large, the tier was not on, or what would make room was being read.
	RefusedQueue  uint64 `json:"refused_queue"`
	RefusedSize   uint64 `json:"refused_size"`
	RefusedOff    uint64 `json:"refused_off"`
	RefusedPinned uint64 `json:"refused_pinned"`
	// Asked are the bytes that were to be kept, Written those that were written for
	// it: records, their headers, and the Moved of objects that were written again.
	Asked   uint64 `json:"asked_bytes"`
	Written uint64 `json:"written_bytes"`
	Moved   uint64 `json:"moved_bytes"`
}

// State returns a snapshot.
func (t *Tier) State() State {
	c := &t.counts
	s := State{
		Path: t.c.Path, Size: t.c.Size, Objects: t.index.len(), Bytes: t.segments.total.Load(), Limit: t.limit.Load(),
		Segments: len(t.segments.all()), Lingering: t.segments.lingering.Load(), Purges: t.purges.len(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Evicted: c.evicted.Load(), Damaged: c.damaged.Load(),
		RefusedQueue: c.refusedQueue.Load(), RefusedSize: c.refusedSize.Load(),
		RefusedOff: c.refusedOff.Load(), RefusedPinned: c.refusedPinned.Load(),
		Asked: c.asked.Load(), Written: c.written.Load(), Moved: c.moved.Load(),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Queued = t.queued
	switch {
	case t.trouble != nil:
		s.Phase, s.Error = "off", t.trouble.Error()
	case t.phase == opening:
		s.Phase = "opening"
	default:
		s.Phase = "on"
	}
	return s
}

// start lets the tier be used. What was asked for before the disk was read takes
// effect now.
func (t *Tier) start(last uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trouble != nil && !errors.Is(t.trouble, errClosed) {
		t.log.Info("disk cache works again")
	}
	early := t.queue
	t.sequence = max(t.sequence, last)
	t.queue, t.small = nil, 0
	t.phase, t.trouble = on, nil
	for _, o := range early {
		t.enqueue(o)
	}
	t.ready.Store(true)
}

// fail lets go of everything after an error. Nobody knows what is on the disk
// then: unless nothing was used of it yet, it is removed, now if possible, and
// in any case before the tier starts again.
func (t *Tier) fail(err error) {
	t.mu.Lock()
	if t.trouble == nil || t.trouble.Error() != err.Error() {
		t.log.Warn("disk cache does not work", "error", err)
	}
	t.trouble = err
	t.ready.Store(false)
	if t.phase == on {
		t.phase, t.fresh = broken, true
		t.empty()
	}
	t.answer(err)
	t.mu.Unlock()
	if t.fresh {
		removeAll(t.c.Path) // what stays is removed by the next start
	}
	t.letGo()
}

// answer ends the waiting of all that cannot be reached any more, and the
// operations that the writer has begun. mu must be held.
func (t *Tier) answer(err error) {
	waiting := t.queue
	t.queue = nil
	for _, o := range waiting {
		if o.kind != reached {
			t.queue = append(t.queue, o)
			continue
		}
		o.done <- err
	}
	for _, o := range t.batch {
		if !o.finished && o.kind == reached {
			o.done <- err
		}
		t.settle(o)
	}
	t.batch = nil
}

// letGo closes all files.
func (t *Tier) letGo() {
	t.current, t.buffer, t.commits = nil, nil, nil
	t.index.clear()
	t.purges.clear()
	t.segments.forget()
	if t.lock != nil {
		t.lock.Close()
		t.lock = nil
	}
}

// close writes what is left and lets another process have the folder.
func (t *Tier) close() error {
	t.mu.Lock()
	t.phase, t.trouble = opening, errClosed // what comes now is for the next start
	t.batch, t.queue = t.queue, nil
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		t.ready.Store(false)
		clear(t.pending)
		t.answer(errClosed)
		t.mu.Unlock()
		t.letGo()
	}()
	for _, o := range t.batch {
		if err := t.do(o); err != nil {
			return err
		}
	}
	return t.seal()
}
