package faas

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
)

// How far an answer is read ahead of its visitor: in all, so that a slow visitor
// keeps no slot and runs up no bill, but of one function not more than memory
// allows. Not knobs.
const (
	readAhead      = 1 << 20
	readAheadTotal = 64 << 20
	readAheadLeast = 32 << 10
)

// errClosed is what remains to be read of an answer that was closed.
var errClosed = errors.New("answer is closed")

// scratch are the buffers that answers pass through on their way.
var scratch = sync.Pool{New: func() any { return new([readAheadLeast]byte) }}

// A body is an answer that is being received. A goroutine of its own receives
// it, at the platform's pace; Read gives it to the visitor, at the visitor's.
type body struct {
	call   *call
	source io.ReadCloser

	mu      sync.Mutex
	change  sync.Cond // on mu
	ready   bytes.Buffer
	err     error // why nothing more is received; io.EOF at the end
	closed  error // why nobody reads any more
	dropped int64 // bytes received since then
}

func newBody(c *call, source io.ReadCloser) *body {
	b := &body{call: c, source: source}
	b.change.L = &b.mu
	return b
}

// receive runs until the answer has ended or was closed. The call is over then,
// though the visitor may still be reading.
func (b *body) receive() {
	part := scratch.Get().(*[readAheadLeast]byte)
	defer scratch.Put(part)
	defer context.AfterFunc(b.call.ctx, b.wake)()
	defer context.AfterFunc(b.call.visitor, b.left)()
	var err error
	for err == nil && b.room() {
		var n int
		n, err = b.source.Read(part[:])
		if err = b.call.received(n, err); errors.As(err, new(*Error)) {
			n = 0 // what is over the limit is not shown
		}
		b.put(part[:n], err)
	}
	b.source.Close()
	if err == nil {
		b.call.cancel(errClosed)
		err = b.call.aborted()
		b.put(nil, err)
	}
	b.call.end(err)
}

// wake lets room see that the call is over: a visitor that does not read must
// not hold a slot, and run up a bill, beyond the timeout.
func (b *body) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change.Broadcast()
}

// left lets go of a visitor that has gone.
func (b *body) left() {
	b.close(&Error{Class: Canceled, Executed: true, Err: context.Cause(b.call.visitor)})
}

// room waits until more may be received, and reports false when nobody wants it
// or the call is over.
func (b *body) room() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.closed == nil && b.call.ctx.Err() == nil && b.ready.Len() >= b.call.f.window() {
		b.change.Wait()
	}
	return b.call.ctx.Err() == nil && (b.closed == nil || b.finishes())
}

// finishes reports whether the rest is received though nobody reads it, so that
// the call's true cost is known. To send much more in vain would cost more than
// that is worth.
func (b *body) finishes() bool {
	if b.call.f.price.free() {
		return false
	}
	if b.call.declared >= 0 {
		return b.call.declared-b.call.bytes <= readAhead
	}
	return b.dropped < readAhead
}

func (b *body) put(part []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed == nil {
		b.ready.Write(part)
		b.call.f.held.Add(int64(len(part)))
	} else {
		b.dropped += int64(len(part))
	}
	b.err = err
	b.change.Broadcast()
}

// Read gives what was received. It returns an *[Error] when the answer broke off.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.ready.Len() == 0 && b.err == nil && b.closed == nil {
		b.change.Wait()
	}
	switch {
	case b.closed != nil:
		return 0, b.closed
	case b.ready.Len() == 0:
		return 0, b.err
	}
	n, _ := b.ready.Read(p) // never fails: the buffer is not empty
	b.call.f.held.Add(-int64(n))
	b.change.Broadcast()
	return n, nil
}

// Close drops what was not read. A call that goes on is finished if little is left
// of it and it is to be paid, else aborted.
func (b *body) Close() error {
	b.close(errClosed)
	return nil
}

func (b *body) close(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed != nil {
		return
	}
	b.closed = why
	b.call.f.held.Add(-int64(b.ready.Len()))
	b.ready = bytes.Buffer{}
	b.change.Broadcast()
	if b.call.f.price.free() {
		b.call.cancel(errClosed)
	}
}
