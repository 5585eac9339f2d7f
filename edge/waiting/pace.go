package waiting

import (
	"math"
	"math/rand/v2"
	"time"
)

// A pace is how fast a room empties: what estimates rest on. Both rates are of
// the last half minute or so.
type pace struct {
	seconds  float64 // of observation, faded
	visits   float64 // seconds times those who waited, faded
	admitted float64
	left     float64
}

const paceMemory = 20.0 // seconds

// observe adds what happened in some time.
func (p *pace) observe(seconds float64, waiting, admitted, left int) {
	keep := math.Exp(-seconds / paceMemory)
	p.seconds = keep*p.seconds + seconds
	p.visits = keep*p.visits + seconds*float64(waiting)
	p.admitted = keep*p.admitted + float64(admitted)
	p.left = keep*p.left + float64(left)
}

// leastObserved is how much has to be known before an estimate is made.
const leastObserved = 3.0

// estimate is how long it takes until those ahead are gone, and whether that is
// known. They go at the rate of admissions, and besides each leaves at a rate of
// its own: n' = -a - l*n, so that n is 0 after ln(1 + l*n/a)/l.
func (p *pace) estimate(ahead int) (time.Duration, bool) {
	if p.seconds < leastObserved || p.admitted < 1 {
		return 0, false
	}
	seconds := float64(ahead) * p.seconds / p.admitted
	if p.left > 0 && p.visits > 0 {
		l := p.left / p.visits
		seconds = math.Log1p(l*seconds) / l
	}
	return time.Duration(min(seconds, TicketLife.Seconds()) * float64(time.Second)), true
}

const (
	// soonest is the shortest time after which a page asks again.
	soonest = 2 * time.Second
	// latest is the longest, unless the rate below makes it longer.
	latest     = 30 * time.Second
	latestEver = 2 * time.Minute
	// askRate is how many requests a second the node takes from those who wait.
	askRate = 1000
)

// again is when a visitor should come back: after half of what is left, so that
// it comes soon after its turn has come. Where that is not known it is as often as
// the node bears. Chance spreads those who came at once.
func again(estimate time.Duration, soon bool, waiting int) time.Duration {
	d := soonest
	rate := time.Duration(waiting) * time.Second / askRate
	if soon {
		d = min(max(d, estimate/2), max(latest, rate))
	} else {
		d = max(d, rate)
	}
	d = time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
	return min(max(soonest, d.Round(time.Second)), latestEver)
}

// grace is how much later than it was told a visitor may come back.
func grace(d time.Duration) time.Duration { return 5*time.Second + d/4 }
