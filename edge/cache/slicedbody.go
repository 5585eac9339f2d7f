package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A slicedBody reads slice behind slice. It holds the one that it reads and, once half
// of that is read, the next.
type slicedBody struct {
	assembly
	ctx    context.Context
	cancel context.CancelFunc
	head   *piece   // of the version that is sent
	spans  []span   // what is sent, the one that is read first
	texts  [][]byte // what stands before each span, and after the last
	text   []byte   // to be sent first
	at     int64    // the offset of what is sent next
	piece  *piece   // that is read; nil between two
	read   int64    // the offset up to which it was read
	err    error

	ahead   chan opened
	aheadAt int64
}

// An opened is what came of opening a slice.
type opened struct {
	piece *piece
	err   error
}

// Read ends with io.EOF only when all has been read; a slice of another version, and one
// that does not come, are errors.
func (b *slicedBody) Read(p []byte) (n int, err error) {
	for b.err == nil && n == 0 && len(p) > 0 {
		switch {
		case len(b.text) > 0:
			n = copy(p, b.text)
			b.text = b.text[n:]
		case len(b.spans) == 0:
			b.err = io.EOF
		case b.at == b.spans[0].end:
			b.spans = b.spans[1:]
			b.enter()
		default:
			n, b.err = b.readSlice(p)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// enter turns to the next span, and the text before it or after the last.
func (b *slicedBody) enter() {
	if len(b.texts) > 0 {
		b.text, b.texts = b.texts[0], b.texts[1:]
	}
	if len(b.spans) > 0 {
		b.at = b.spans[0].first
	}
}

// readSlice reads from the slice that the next byte is in.
func (b *slicedBody) readSlice(p []byte) (int, error) {
	end := min(b.spans[0].end, b.start(b.at)+b.length)
	if err := b.turnTo(b.start(b.at)); err != nil {
		return 0, err
	}
	if skip := b.at - b.read; skip > 0 {
		if _, err := io.CopyN(io.Discard, b.piece.body, skip); err != nil {
			return 0, cut(err)
		}
		b.read = b.at
	}
	n, err := b.piece.body.Read(p[:min(int64(len(p)), end-b.at)])
	b.at, b.read = b.at+int64(n), b.read+int64(n)
	switch {
	case b.at == end:
		err = nil
		if end == b.piece.span.end {
			err = b.finish()
		}
	case err != nil:
		err = cut(err)
	case b.at-b.piece.span.first >= b.length/2:
		b.lookAhead()
	}
	return n, err
}

// cut is the error for a slice that ends early: never io.EOF.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// finish waits for the end of a slice that was read: then it is stored, and who comes next
// finds it.
func (b *slicedBody) finish() error {
	defer b.drop()
	var more [1]byte
	for {
		switch n, err := b.piece.body.Read(more[:]); {
		case n > 0:
			return errTooLong
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (b *slicedBody) drop() {
	b.piece.close()
	b.piece = nil
}

// turnTo makes the slice of an offset the one that is read.
func (b *slicedBody) turnTo(offset int64) error {
	if b.piece != nil && (b.piece.span.first != offset || b.read > b.at) {
		b.drop()
	}
	if b.piece != nil {
		return nil
	}
	p, err := b.take(offset)
	if err != nil {
		return err
	}
	if !p.of(b.head) {
		if p.close(); !p.other {
			b.cache.overtaken(&b.target, p)
		}
		return fmt.Errorf("slice at %d: %w", offset, errChanged)
	}
	b.piece, b.read = p, offset
	return nil
}

// take opens a slice, unless it is on its way.
func (b *slicedBody) take(offset int64) (*piece, error) {
	if b.ahead != nil {
		o := <-b.ahead
		b.ahead = nil
		if b.aheadAt == offset {
			return o.piece, o.err
		}
		o.piece.close()
	}
	return b.openPatiently(offset)
}

// openPatiently is open for an answer that has begun: where too many wait for the slice,
// or wait in vain, it is asked for alone.
func (b *slicedBody) openPatiently(offset int64) (*piece, error) {
	p, err := b.open(b.ctx, offset)
	if !errors.Is(err, ErrCollapseFull) && !errors.Is(err, ErrCollapseTimeout) {
		return p, err
	}
	alone := Result{State: Bypass, Why: FwdBypass, Policy: b.found.Policy}
	resp, err := b.cache.Fetch(b.ctx, b.request(b.r, offset), alone, b.fetch)
	if err != nil {
		return nil, err
	}
	b.cache.counts.slices.fetched.Add(1)
	return b.fetched(resp, offset), nil
}

// lookAhead begins to open the slice that follows, if it is sent and not stored.
func (b *slicedBody) lookAhead() {
	offset := b.piece.span.end
	if b.ahead != nil || offset >= b.spans[0].end || b.kept(offset) {
		return
	}
	ahead := make(chan opened, 1)
	b.ahead, b.aheadAt = ahead, offset
	go func() {
		var o opened
		defer func() {
			if p := recover(); p != nil { // of the fetch: nobody watches over this goroutine
				o = opened{err: fmt.Errorf("fetch slice at %d: panic: %v", offset, p)}
			}
			ahead <- o
		}()
		o.piece, o.err = b.openPatiently(offset)
	}()
}

// kept reports whether a slice is stored and fresh.
func (b *slicedBody) kept(offset int64) bool {
	key := b.cache.sliceTarget(&b.target, offset)
	e, _ := b.cache.usable(&key, b.r, b.found.Policy)
	defer e.release()
	return e != nil && e.has(b.slicing.at(offset)) && e.satisfies(&b.found.control, time.Now())
}

// Close gives back what is open. What is on its way ends with the context, unless it is
// stored or others wait for it.
func (b *slicedBody) Close() error {
	b.cancel()
	b.drop()
	if b.ahead != nil {
		o := <-b.ahead
		b.ahead = nil
		o.piece.close()
	}
	if b.err == nil {
		b.err = errClosed
	}
	return nil
}
