package origin

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// patience is how long the caller alone reads a body. What is small is over by
// then, and has needed no memory, no goroutine and no copy. Not a knob: it is
// the most that a visitor can add to the time of a permit.
const patience = time.Millisecond

// A readAhead is the body of a response. At first the caller's Read goes to the
// server. When its patience is over, a goroutine (the pump) reads on as fast as
// the server sends, into chunks, and the caller takes from those.
//
// What arrives is handed out at once, in whatever pieces it comes.
//
// Who owns what, all of it under mu:
//
//   - src belongs to the caller in Read or to the pump while filling is set, and
//     to nobody otherwise; whoever calls src.Read sets reading around it. Only
//     src.Close may be called by others, to make a read fail that waits.
//   - The chunks belong to the list, and takers take from the first. Behind
//     filled, the last one belongs to the pump while it is busy: then it is
//     neither dropped nor given back, not even by Close.
//   - busy implies filling, and reading implies filling. The pump is filling and
//     not reading while it waits for room; then no chunk is busy.
//   - eager is set once. Only then is a pump started, one at a time; a caller is
//     filling after that only when there is no memory for the pump.
//   - err is set once, by end, when src is done; from then on nobody is reading
//     and no chunk is busy. Chunks that are left still go to the caller, and the
//     last of them may be empty.
type readAhead struct {
	e      *exchange
	src    io.ReadCloser
	stream bool // goes on for long: no reading ahead, no deadline
	timer  *time.Timer

	mu     sync.Mutex
	data   sync.Cond // there is something to take, or to read
	room   sync.Cond // there is a chunk to fill, or nobody wants more
	chunks chunkList

	eager   bool   // patience is over
	filling bool   // a caller or the pump is in charge of src
	busy    *chunk // the pump's, not to be given back
	reading bool
	since   time.Time // that it is reading
	givenUp error     // why the node ended src
	err     error     // how src ended
	closed  bool
}

func (b *readAhead) init(e *exchange, src io.ReadCloser, stream bool) {
	b.e, b.src, b.stream = e, src, stream
	b.data.L, b.room.L = &b.mu, &b.mu
	b.mu.Lock()
	defer b.mu.Unlock()
	if stream {
		e.detach()
	} else {
		b.timer = time.AfterFunc(patience, b.watch)
	}
}

// Read returns what is there, or waits for the next bytes.
func (b *readAhead) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if b.closed {
			return 0, http.ErrBodyReadAfterClose
		}
		n += b.take(p[n:])
		if b.err != nil && b.chunks.first == nil {
			if b.err == io.EOF {
				b.e.trailers()
			}
			return n, b.err
		}
		switch {
		case n > 0:
			return n, nil
		case b.filling:
			b.data.Wait()
		default:
			n = b.readInto(p)
		}
	}
}

// take moves bytes from the chunks to p.
func (b *readAhead) take(p []byte) (n int) {
	for c := b.chunks.first; c != nil && n < len(p); c = b.chunks.first {
		m := copy(p[n:], c.buf[c.read:c.filled])
		c.read += m
		n += m
		if !b.drop() {
			break
		}
	}
	return n
}

// drop gives the first chunk back if all of it was taken and nothing will be
// added to it.
func (b *readAhead) drop() bool {
	c := b.chunks.first
	if c == nil || c.read < c.filled || c == b.busy || c.filled < len(c.buf) && b.err == nil {
		return false
	}
	b.chunks.pop()
	b.e.o.buffers.put(c)
	b.room.Signal()
	return true
}

// readInto reads once from the server into the caller's own memory. It is
// called, and returns, with mu held.
func (b *readAhead) readInto(p []byte) int {
	b.filling = true
	b.begin()
	b.mu.Unlock()
	n, err := b.src.Read(p)
	b.mu.Lock()
	b.reading, b.filling = false, false
	switch {
	case b.closed:
		return 0
	case err != nil:
		b.end(err)
	case b.eager:
		b.startPump()
	}
	return n
}

// begin notes that the server is being read from.
func (b *readAhead) begin() {
	b.reading = true
	if !b.stream {
		b.since = time.Now()
	}
}

// startPump reads ahead from here on. Without memory the caller stays in charge,
// and the visitor sets the pace.
func (b *readAhead) startPump() {
	if c := b.grow(); c != nil {
		b.filling, b.busy = true, c
		go b.pump(c)
	} else {
		b.e.outgrow()
	}
}

// pump reads to the end of the body, or until there is no memory.
func (b *readAhead) pump(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c != nil {
		b.begin()
		b.mu.Unlock()
		n, err := b.src.Read(c.buf[c.filled:])
		b.mu.Lock()
		b.busy, b.reading = nil, false
		c.filled += n
		switch {
		case b.closed:
			b.free()
			return
		case err != nil:
			b.filling = false
			b.end(err)
			b.drop()
			b.data.Signal()
			return
		}
		b.data.Signal()
		c = b.reserve()
		b.busy = c
	}
	b.filling = false
	b.data.Signal()
}

// reserve returns a chunk with room. It waits for one as long as the response
// holds others; nil means that there is none, or that the body was ended.
func (b *readAhead) reserve() *chunk {
	for !b.closed && b.err == nil {
		if c := b.chunks.last; c != nil && c.filled < len(c.buf) {
			if c.read == c.filled {
				c.read, c.filled = 0, 0
			}
			return c
		}
		if c := b.grow(); c != nil {
			return c
		}
		// The visitor is slower than the origin and the response larger than its
		// read-ahead.
		b.e.outgrow()
		if b.chunks.n == 0 {
			return nil
		}
		b.room.Wait()
	}
	return nil
}

// grow adds a chunk if the response's share and the origin's total allow it.
func (b *readAhead) grow() *chunk {
	if b.chunks.n > 0 && int64(b.chunks.n+1)*chunkSize > b.e.link.config.ReadAhead.PerResponse {
		return nil
	}
	c := b.e.o.buffers.get()
	if c != nil {
		b.chunks.push(c)
	}
	return c
}

// end notes how the body ended. The origin has done its work, whatever of it the
// visitor has got so far; or it is told to stop, before somebody else gets the
// permit.
func (b *readAhead) end(err error) {
	if b.timer != nil {
		b.timer.Stop()
	}
	b.src.Close()
	b.err = b.e.ended(err, b.givenUp)
}

// Close gives up what was not read. A response that the server is still sending
// is aborted: the connection or stream is reset, so that the server can stop.
func (b *readAhead) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
	}
	b.free()
	b.data.Broadcast()
	b.room.Broadcast()
	abort, line := b.err == nil, b.e.line
	if b.reading {
		line = nil // at its end just now, perhaps, and another request's by now
	}
	b.mu.Unlock()
	if abort {
		if line != nil {
			line.Close() // the transport does so only after its Close has returned
		}
		b.src.Close()
		b.e.aborted()
	}
	return nil
}

// free gives back all chunks but one that is being read into: the pump calls it
// again for that one.
func (b *readAhead) free() {
	for c := b.chunks.first; c != nil && c != b.busy; c = b.chunks.first {
		b.chunks.pop()
		b.e.o.buffers.put(c)
	}
}

// watch runs when the timer fires: first when the patience is over, then
// whenever something may have lasted for too long. That is never later than one
// timeout from now.
func (b *readAhead) watch() {
	b.mu.Lock()
	if b.err != nil || b.closed {
		b.mu.Unlock()
		return
	}
	if !b.eager {
		b.eager = true
		if !b.filling {
			b.startPump()
		}
	}
	if b.e.occupies() {
		b.e.detach() // a place may have become free
	}
	left, why := b.patienceLeft()
	if left > 0 {
		b.timer.Reset(left)
	} else {
		b.giveUp(why)
	}
	b.mu.Unlock()
}

// patienceLeft returns how long the exchange may go on as it does, and what it
// is that must not last: the server's silence while the node waits for it, or
// holding a permit for a visitor who is slow.
func (b *readAhead) patienceLeft() (left time.Duration, why error) {
	left = b.e.link.config.Timeout
	if b.reading {
		left, why = left-time.Since(b.since), errStalled
	}
	if b.e.occupies() {
		if held := b.e.link.config.Timeout - time.Since(b.e.outgrown); held < left {
			left, why = held, errCrowded
		}
	}
	return left, why
}

// giveUp ends the response. If it is being read, closing it makes the read fail
// that waits, and whoever reads ends it.
func (b *readAhead) giveUp(why error) {
	b.givenUp = why
	if b.reading {
		b.src.Close()
		return
	}
	b.end(why)
	b.drop()
	b.room.Signal()
	b.data.Signal()
}
