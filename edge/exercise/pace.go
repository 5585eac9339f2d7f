package exercise

import (
	"sync"
	"time"
)

// How often requests are put to a function, too. Not knobs.
const (
	// leastGap bounds what a busy route pays, whatever its share.
	leastGap = 10 * time.Second
	// longestGap is after which the next request is taken, however small the share of
	// so few would be: a quiet route wants to be proven as well.
	longestGap = 5 * time.Minute
)

// A Pace says when the next request is to be compared. A nil *Pace says never. It is
// safe for concurrent use.
type Pace struct {
	share float64

	mu    sync.Mutex
	saved float64   // requests that the share allows
	tried time.Time // when it last said yes
	done  time.Time // when a comparison last came to its end
}

// NewPace returns a pace of one request in 1/share.
func NewPace(share float64) *Pace {
	if share == 0 {
		return nil
	}
	return &Pace{share: share}
}

// Due counts a request, and reports whether it is to be compared. It waits for
// nobody: requests that ask at the same instant count as one.
func (p *Pace) Due(now time.Time) bool {
	if p == nil || !p.mu.TryLock() {
		return false
	}
	defer p.mu.Unlock()
	p.saved = min(1, p.saved+p.share)
	if !p.tried.IsZero() && now.Sub(p.tried) < leastGap {
		return false
	}
	if p.saved < 1 && !p.done.IsZero() && now.Sub(p.done) < longestGap {
		return false
	}
	p.saved, p.tried = 0, now
	return true
}

// Done notes that a comparison came to its end. Until one has, the next request is
// due as soon as the least gap allows.
func (p *Pace) Done(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = now
}
