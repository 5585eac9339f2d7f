package origin

import (
	"time"

	"spillway/origin/limit"
	"spillway/origin/scale"
)

// Follow notes what was asked of the origin since it was told last, at the time
// now, so that State can say how much of the origin should be there. One goroutine
// at a time may call it.
func (o *Origin) Follow(now time.Time, asked scale.Asked) {
	l := o.limiter.State()
	standing := scale.Standing{Up: o.Up(), Ready: len(*o.pool.ready.Load()), Limit: l.Limit, InFlight: l.InFlight}
	if l.Phase == limit.PhaseSteady || l.Phase == limit.PhaseDip {
		standing.Useful = l.Useful // before, it is a guess
	}
	for _, s := range o.pool.all() {
		if !s.resting.Load() {
			standing.Servers++
		}
	}
	o.scale.Observe(now, asked, standing)
}

// WorkFactor is how much more work the origin's requests are than its learned
// latencies say, at least 1, as far as Follow was told.
func (o *Origin) WorkFactor() float64 { return o.scale.Factor() }
