package edge

import (
	"runtime"
	"sync/atomic"
	"time"
)

// A precedence lets visitors who are here go before those who arrive: the work of a
// handshake is done when nobody else has any. How many handshakes compute at once is
// bounded by the processors in any case; what makes a crowd felt by everybody is the order,
// since the runtime takes goroutines in turn and looks at the network when none is left.
//
// Nobody is kept out by it, and nothing is held that a silent visitor could keep. The
// runtime takes those who gave way at the latest when it has run some sixty others, but
// one of them at a time, and first packets come one after the other: where somebody always
// has work, that alone would leave newcomers next to nothing. So after a long wait they
// go on unasked for as long again, and have half of the time at the least.
// The zero value is ready for use.
type precedence struct {
	waiting atomic.Int64              // for a processor
	until   atomic.Pointer[time.Time] // newcomers do not give way
}

// longWait is the shortest wait that newcomers are given back. Below it hits would notice,
// and no newcomer does.
const longWait = time.Millisecond

// giveWay lets all others go first who can run by now. Goroutines that yield come into the
// runtime's common queue, which a processor turns to when its own is empty.
func (p *precedence) giveWay() {
	begun := time.Now()
	if until := p.until.Load(); until != nil && begun.Before(*until) {
		return
	}
	p.waiting.Add(1)
	runtime.Gosched()
	p.waiting.Add(-1)
	if now := time.Now(); now.Sub(begun) >= longWait {
		until := now.Add(now.Sub(begun))
		p.until.Store(&until)
	}
}
