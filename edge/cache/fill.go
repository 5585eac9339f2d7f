package cache

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// A fill is a response body on its way in. One goroutine, the pump, reads it
// from the origin; any number of readers follow at their own pace, from the
// start, while it grows.
//
// A fill that outgrows the largest object, or for which there is no more memory,
// becomes a window: it takes no new readers, is not stored, and holds no more
// than it held at that moment. The pump then waits for the slowest reader. If
// readers that have caught up had to wait for it lagPatience in all, those that
// hold the window's end are cut off, for a crowd must not crawl at the pace of
// its slowest member.
type fill struct {
	source io.ReadCloser
	length int64 // as announced, -1 when unknown
	max    int64 // the largest body that is kept
	budget *budget
	cancel context.CancelFunc

	mu       sync.Mutex
	first    *segment // nil for a window
	last     *segment
	size     int64 // bytes that have arrived
	taken    int64 // from the budget
	keep     bool  // to be stored: goes on without readers
	window   bool
	ended    bool
	err      error         // why it ended early
	whole    []byte        // the body, once complete
	kept     *Entry        // whose body the whole is, pinned
	closed   bool          // the whole is released
	pending  int           // readers that will come: they wait for their turn to attach
	readers  []*reader     // those that have come
	arrived  chan struct{} // closed when bytes arrive or the fill ends; nil while nobody waits
	moved    chan struct{} // closed when a reader moves on or leaves; nil while the pump does not wait
	blocking time.Duration // how long caught-up readers have waited for the slowest
}

// A segment is a piece of the body. What has been written to it never changes.
// Readers hold the segment they are in, so that segments that all have left
// are garbage.
type segment struct {
	start int64
	data  []byte
	next  *segment
}

func (s *segment) end() int64 { return s.start + int64(len(s.data)) }

// Bodies of unknown length grow by segments that double, so that small ones
// waste little and large ones take few steps.
const (
	firstSegment = 16 << 10
	lastSegment  = 256 << 10
)

const lagPatience = 2 * time.Second

// Errors of Body.Read.
var (
	// ErrLagging cuts off a reader that has held up others for too long.
	ErrLagging = errors.New("reader lags too far behind the others of a shared response")
	errClosed  = errors.New("read from a closed body")
	errTooLong = errors.New("response body is longer than announced")
	errUnread  = errors.New("nobody reads the response any more")
)

// newFill starts a fill for a number of readers to come. It returns nil when
// there is no memory for it.
func newFill(source io.ReadCloser, length, maxObject int64, b *budget, keep bool, pending int) *fill {
	first := length
	if length < 0 {
		first = min(firstSegment, maxObject+1)
	}
	if !b.take(first) {
		return nil
	}
	start := &segment{}
	start.next = &segment{data: make([]byte, first)}
	return &fill{
		source: source, length: length, max: maxObject, budget: b, keep: keep, pending: pending,
		first: start, last: start.next, taken: first,
	}
}

// pump reads the source to its end. It returns the whole body, or an error when
// there is none; nil without an error means that the body went by in a window.
// end must follow.
func (f *fill) pump() ([]byte, error) {
	defer f.source.Close()
	var probe [1]byte
	for {
		space, err := f.space()
		if err != nil {
			return nil, err
		}
		full := len(space) == 0 // only with a length: the end must come now
		if full {
			space = probe[:]
		}
		n, err := f.source.Read(space)
		if full && n > 0 {
			return nil, errTooLong
		}
		f.advance(n)
		if errors.Is(err, io.EOF) {
			return f.assemble()
		}
		if err != nil {
			return nil, err
		}
	}
}

// space returns room for the next bytes, and waits for it in a window.
func (f *fill) space() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if free := f.last.end() - f.size; free > 0 {
		return f.last.data[int64(len(f.last.data))-free:], nil
	}
	if f.length >= 0 {
		return nil, nil
	}
	if !f.window {
		size := min(max(int64(len(f.last.data))*2, firstSegment), lastSegment, f.max+1-f.size)
		if size > 0 && f.budget.take(size) {
			f.taken += size
			return f.grow(size), nil
		}
		f.becomeWindow()
	}
	for {
		if len(f.readers)+f.pending == 0 {
			return nil, errUnread
		}
		if free := f.taken - (f.size - f.slowest()); free > 0 {
			return f.grow(min(free, lastSegment)), nil
		}
		f.waitForReaders()
	}
}

func (f *fill) grow(size int64) []byte {
	s := &segment{start: f.size, data: make([]byte, size)}
	f.last.next = s
	f.last = s
	return s.data
}

func (f *fill) becomeWindow() {
	f.window, f.keep = true, false
	if f.pending == 0 {
		f.first = nil
	}
}

// slowest returns the offset before which no reader needs anything.
func (f *fill) slowest() int64 {
	if f.pending > 0 {
		return 0
	}
	lowest := f.size
	for _, r := range f.readers {
		lowest = min(lowest, r.needs())
	}
	return lowest
}

// waitForReaders waits, without mu, until a reader moves, or cuts off those that
// have held up the others for too long.
func (f *fill) waitForReaders() {
	moved := make(chan struct{})
	f.moved = moved
	starving := f.starving()
	f.mu.Unlock()
	began := time.Now()
	timer := time.NewTimer(lagPatience - f.blocking)
	select {
	case <-moved:
	case <-timer.C:
	}
	timer.Stop()
	f.mu.Lock()
	if !starving {
		return
	}
	if f.blocking += time.Since(began); f.blocking >= lagPatience {
		f.blocking = 0
		f.cutSlowest()
	}
}

// starving reports whether a reader has caught up.
func (f *fill) starving() bool {
	for _, r := range f.readers {
		if r.offset == f.size {
			return true
		}
	}
	return false
}

func (f *fill) cutSlowest() {
	lowest := f.slowest()
	for _, r := range append([]*reader(nil), f.readers...) {
		if r.needs() == lowest && r.offset < f.size {
			r.err = ErrLagging
			f.drop(r)
		}
	}
	f.wake()
}

// advance publishes bytes that were read.
func (f *fill) advance(n int) {
	f.mu.Lock()
	f.size += int64(n)
	f.wake()
	f.mu.Unlock()
}

func (f *fill) wake() {
	if f.arrived != nil {
		close(f.arrived)
		f.arrived = nil
	}
}

func (f *fill) wakePump() {
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
}

// assemble makes one slice of a complete body. A body that is shorter than
// announced is an error, however cleanly it ended.
func (f *fill) assemble() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.length >= 0 && f.size != f.length:
		return nil, io.ErrUnexpectedEOF
	case f.length >= 0:
		return f.last.data, nil
	case f.window || f.size > f.max:
		return nil, nil
	case !f.budget.take(f.size):
		return nil, nil
	}
	f.taken += f.size
	body := make([]byte, 0, f.size)
	for s := f.first; s != nil; s = s.next {
		body = append(body, s.data[:min(f.size, s.end())-s.start]...)
	}
	return body, nil
}

// end tells the readers that the body is complete, or why it will never be. Where
// it was stored they go on in the store's copy, which is pinned until they have
// left, and the memory of the fill is given back.
func (f *fill) end(whole []byte, kept *Entry, err error) {
	f.mu.Lock()
	f.ended, f.whole, f.err = true, whole, err
	if kept != nil {
		f.whole, f.kept = kept.body, kept
		f.giveBack()
	}
	if whole != nil {
		f.first, f.last = nil, nil // readers go on in the whole
	}
	f.leaveIfUnread()
	f.wake()
	f.mu.Unlock()
}

// outgrown reports whether the body is larger than what is kept.
func (f *fill) outgrown() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size > f.max
}

func (f *fill) giveBack() {
	f.budget.give(f.taken)
	f.taken = 0
}

// unpin ends the readers' use of the store's copy. Who comes later finds that.
func (f *fill) unpin() {
	if f.kept != nil {
		f.kept.release()
		f.kept, f.whole, f.closed = nil, nil, true
	}
}

// leaveIfUnread stops a fill that nobody reads and nobody will store, and gives
// its memory back when it has ended.
func (f *fill) leaveIfUnread() {
	if len(f.readers)+f.pending > 0 {
		return
	}
	if f.ended {
		f.giveBack()
		f.unpin()
	} else if !f.keep {
		f.cancel()
		f.wakePump()
	}
}
