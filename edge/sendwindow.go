package edge

import (
	"math"
	"sync/atomic"
)

// A sendWindow shares what the visitor lets the node send on a connection of HTTP/2
// (RFC 9113 section 5.2) between the library, which counts for itself and knows nothing
// of the fast path, and the fast path. The library learns only of what it is given: so
// whatever the two do, they never send more than was granted.
//
// Whoever has a window small enough for its size to matter leaves all to the library,
// and from any other it can have the rest whenever it runs short, but amid a frame of
// the visitor: otherwise it sends as if it were alone. One goroutine grants, takes and gives; the library's frames may be
// counted by another.
type sendWindow struct {
	own     atomic.Int64 // what the fast path may send
	library atomic.Int64 // what the library may
}

const (
	// firstWindow is what both sides begin with (RFC 9113 section 6.9.2), and largestWindow
	// what neither may exceed (section 6.9.1).
	firstWindow   = 65535
	largestWindow = math.MaxInt32
	// ample is what a window must be more than for the fast path to have a share:
	// twice what all begin with. Browsers, curl and Go grant 10 MiB and more at once.
	ample = 128 << 10
	// shortWindow is when the library is given more without waiting for the next frame
	// of the visitor.
	shortWindow = ample / 2
)

// init begins a connection.
func (w *sendWindow) init() { w.library.Store(firstWindow) }

// grant adds what the visitor allows.
func (w *sendWindow) grant(n uint32) { w.own.Add(int64(n)) }

// left is what the fast path may send now.
func (w *sendWindow) left() int64 { return w.own.Load() }

// take books what the fast path sends, which is not more than what is left, or gives it
// back, if it is less than nothing.
func (w *sendWindow) take(n int) { w.own.Add(-int64(n)) }

// sent books what the library has sent.
func (w *sendWindow) sent(n int) { w.library.Add(-int64(n)) }

// short reports whether the library should be given more at once.
func (w *sendWindow) short() bool { return w.library.Load() < shortWindow && w.due(false) > 0 }

// give takes from the fast path what the library is to have, and returns it.
func (w *sendWindow) give(all bool) int64 {
	n := w.due(all)
	w.own.Add(-n)
	w.library.Add(n)
	return n
}

// due is how much the library is to be given: all there is if that is not ample, or if the
// visitor granted more than he may, which the library is to find; otherwise what it lacks
// to half of it all, unless that is less than an eighth.
func (w *sendWindow) due(all bool) int64 {
	own, library := w.own.Load(), w.library.Load()
	total := own + library
	n := total/2 - library
	switch {
	case all || total <= ample || total > largestWindow:
		return own
	case n < total/8:
		return 0
	}
	return n
}
