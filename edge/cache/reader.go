package cache

import (
	"context"
	"io"
	"slices"
	"time"
)

// A reader is one visitor's view of a fill: an io.ReadCloser that also hands out
// the bytes without copying them (io.WriterTo).
type reader struct {
	fill *fill
	ctx  context.Context // of the visitor

	// Guarded by the fill's mu.
	segment *segment
	offset  int64
	err     error // it was closed or cut off
}

// expect announces one more reader, unless the fill takes none any more.
func (f *fill) expect() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Without readers, and not to be kept, it has been stopped already.
	if f.window || f.closed || f.err != nil || !f.keep && !f.ended && len(f.readers)+f.pending == 0 {
		return false
	}
	f.pending++
	return true
}

// attach turns an announced reader into one.
func (f *fill) attach(ctx context.Context) *reader {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &reader{fill: f, ctx: ctx, segment: f.first}
	f.readers = append(f.readers, r)
	f.pending--
	if f.window && f.pending == 0 {
		f.first = nil
	}
	return r
}

// renounce takes an announcement back.
func (f *fill) renounce() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending--
	if f.window && f.pending == 0 {
		f.first = nil
	}
	f.leaveIfUnread()
	f.wakePump()
}

// needs returns the offset from which on the reader needs the bytes.
func (r *reader) needs() int64 {
	if r.offset >= r.segment.end() {
		return r.offset
	}
	return r.segment.start
}

// Read waits for bytes. It ends with io.EOF only when the body was complete.
func (r *reader) Read(p []byte) (int, error) {
	b, err := r.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, b)
	r.consume(n)
	return n, nil
}

// WriteTo writes what is there, waits, and goes on until the end.
func (r *reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		b, err := r.next()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(b)
		written += int64(n)
		r.consume(n)
		if err != nil {
			return written, err
		}
	}
}

// next returns the bytes at the reader's offset. They never change.
func (r *reader) next() ([]byte, error) {
	for {
		b, arrived, err := r.peek()
		if len(b) > 0 || err != nil {
			return b, err
		}
		select {
		case <-arrived:
		case <-r.ctx.Done():
			return nil, context.Cause(r.ctx)
		}
	}
}

// peek returns the bytes that are there, or what to wait for.
func (r *reader) peek() ([]byte, <-chan struct{}, error) {
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.err != nil {
		return nil, nil, r.err
	}
	if f.whole != nil {
		r.segment = nil
		if r.offset == int64(len(f.whole)) {
			return nil, nil, io.EOF
		}
		return f.whole[r.offset:], nil, nil
	}
	for r.offset >= r.segment.end() && r.segment.next != nil {
		r.segment = r.segment.next
	}
	if s := r.segment; r.offset < min(f.size, s.end()) {
		return s.data[r.offset-s.start : min(f.size, s.end())-s.start], nil, nil
	}
	switch {
	case f.ended && f.err != nil:
		return nil, nil, f.err
	case f.ended:
		return nil, nil, io.EOF
	case f.arrived == nil:
		f.arrived = make(chan struct{})
	}
	return nil, f.arrived, nil
}

func (r *reader) consume(n int) {
	f := r.fill
	f.mu.Lock()
	r.offset += int64(n)
	f.wakePump()
	f.mu.Unlock()
}

// Close leaves the fill. The last to leave stops a fill that is not to be
// stored.
func (r *reader) Close() error {
	f := r.fill
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.err == nil {
		r.err = errClosed
		f.drop(r)
		f.wake() // a Read that waits
	}
	return nil
}

// drop takes a reader off the list.
func (f *fill) drop(r *reader) {
	if i := slices.Index(f.readers, r); i >= 0 {
		f.readers = slices.Delete(f.readers, i, i+1)
	}
	r.segment = nil
	f.leaveIfUnread()
	f.wakePump()
}

// Next returns the bytes at the reader's offset, which never change, and moves behind
// them. It waits for them as coding.Source has it.
func (r *reader) Next(patience time.Duration) ([]byte, error) {
	var expired <-chan time.Time
	for r.ctx.Err() == nil {
		b, arrived, err := r.peek()
		if err != nil {
			return nil, err
		}
		if len(b) > 0 {
			r.consume(len(b))
			return b, nil
		}
		if expired == nil && patience >= 0 {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-arrived:
		case <-expired:
			return nil, nil
		case <-r.ctx.Done():
		}
	}
	return nil, context.Cause(r.ctx)
}

// settleTime is how long an answer of unknown length is waited for, to see whether it is
// more than a few bytes. Not a knob.
const settleTime = 25 * time.Millisecond

// reaches reports whether a fill has so many bytes, or goes on and may come to have
// them.
func (f *fill) reaches(size int64) bool {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	for {
		f.mu.Lock()
		if f.size >= size || f.ended {
			defer f.mu.Unlock()
			return f.size >= size
		}
		if f.arrived == nil {
			f.arrived = make(chan struct{})
		}
		arrived := f.arrived
		f.mu.Unlock()
		select {
		case <-arrived:
		case <-timer.C:
			return true
		}
	}
}
