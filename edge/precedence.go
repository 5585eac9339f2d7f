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
// Nobody is kept out by it, and nothing is held that a silent visitor could keep: the
// runtime takes those who gave way at the latest when it has run some sixty others.
// The zero value is ready for use.
type precedence struct {
	waiting atomic.Int64 // for a processor
}

// giveWay lets all others go first who can. Goroutines that yield come into the runtime's
// common queue, behind those that the network has woken.
func (p *precedence) giveWay() {
	p.waiting.Add(1)
	runtime.Gosched()
	p.waiting.Add(-1)
}
