package edge

import (
	"runtime"
	"sync/atomic"
)

// A precedence lets visitors who are here go before those who arrive: the work of a
// handshake is done when nobody else has any. How many handshakes compute at once is
// bounded by the processors in any case; what makes a crowd felt by everybody is the order,
// since the runtime takes goroutines in turn and looks at the network when none is left.
//
// Nobody is kept out by it, and nothing is held that a silent visitor could keep: with
// every sixty-first turn at the latest, each processor takes the first of those who gave way.
// The zero value is ready for use.
type precedence struct {
	waiting atomic.Int64 // for a processor
}

// giveWay lets all others go first who can run by now. Goroutines that yield come into the
// runtime's common queue, which a processor turns to when its own is empty.
func (p *precedence) giveWay() {
	p.waiting.Add(1)
	runtime.Gosched()
	p.waiting.Add(-1)
}
