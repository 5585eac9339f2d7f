package limit

import (
	"math"
	"time"
)

// normal99 is the 99th percentile of the standard normal distribution.
const normal99 = 2.326

// Predicted is how long at most 99 of 100 requests would take that came now, with
// the wait for a permit. False means that too little is known of the class, or of how
// latencies scatter: by a guess of that, an idle origin would lose what it can do.
//
// Latencies are taken for lognormal: their median is the baseline, stretched as far
// as more are in flight than the origin makes progress on, and they scatter as they
// do at an idle origin. It takes no lock and allocates nothing.
func (l *Limiter) Predicted(class Class, share float64) (time.Duration, bool) {
	p, g := l.plan.Load(), l.gate.Load()
	if class %= classes; !p.known(class) || !p.measured {
		return 0, false
	}
	room, wait := threshold(g>>32, share), time.Duration(0)
	n := g&inFlightMask + 1
	if n > room {
		n, wait = max(1, room), l.baselineOf(class)
	}
	stretch := math.Log(max(1, float64(n)/p.useful))
	return wait + time.Duration(math.Exp(min(lnMostLatency, p.base[class]+stretch+normal99*p.deviation))), true
}
