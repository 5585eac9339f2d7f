package functions

import "time"

// A pool is the instances of one function. One instance serves one call. It has
// no clock of its own; times given to it must not go back.
type pool struct {
	cap   int
	idle  time.Duration // an instance without a call for so long is stopped
	burst float64       // bounds tokens
	ramp  float64       // tokens a second

	busy   int
	free   []time.Time // since when each idle instance has been so, oldest first
	tokens float64     // instances that may start now
	filled time.Time
	peak   int
}

// A verdict says what became of a call.
type verdict string

const (
	warm         verdict = "warm"
	cold         verdict = "cold"
	overCap      verdict = "cap"      // as many instances as there may be, all busy
	overRamp     verdict = "ramp"     // no more instances may start yet
	overThrottle verdict = "throttle" // the operator said so
)

// take gives a call an instance: the one that was used last, so that the others
// can go, else a new one if cap and ramp allow.
func (p *pool) take(now time.Time) verdict {
	p.expire(now)
	if n := len(p.free); n > 0 && p.busy < p.cap {
		p.free = p.free[:n-1]
		p.busy++
		return warm
	}
	if p.busy >= p.cap {
		return overCap
	}
	p.fill(now)
	if p.tokens < 1 {
		return overRamp
	}
	p.tokens--
	p.busy++
	p.peak = max(p.peak, p.busy)
	return cold
}

// put returns an instance. One that failed does not come back, as a crashed
// runtime does not.
func (p *pool) put(now time.Time, failed bool) {
	p.busy--
	if !failed {
		p.free = append(p.free, now)
	}
}

// expire stops the instances that idled too long.
func (p *pool) expire(now time.Time) {
	n := 0
	for n < len(p.free) && now.Sub(p.free[n]) >= p.idle {
		n++
	}
	p.free = append(p.free[:0], p.free[n:]...)
}

func (p *pool) fill(now time.Time) {
	if p.filled.IsZero() {
		p.tokens = p.burst
	} else {
		p.tokens = min(p.burst, p.tokens+p.ramp*now.Sub(p.filled).Seconds())
	}
	p.filled = now
}
