package overflow

import (
	"math"
	"time"
)

// Bin is how long arrivals are counted for one observation of a Trend. Not a
// knob: shorter bins hold chance, longer ones see a crowd late.
const Bin = 100 * time.Millisecond

// How fast a Trend follows the level and the slope of what it observes.
const (
	levelGain = 0.5
	slopeGain = 0.2
)

// A Trend looks a little into the future of what it observes bin by bin: Holt's
// double exponential smoothing (Forecasting seasonals and trends, 1957). The zero
// value has observed nothing.
type Trend struct {
	begun        bool
	level, slope float64 // slope is per bin
}

// Observe takes the value of one more bin.
func (t *Trend) Observe(v float64) {
	if !t.begun {
		t.begun, t.level = true, v
		return
	}
	was := t.level
	t.level = levelGain*v + (1-levelGain)*(t.level+t.slope)
	t.slope = slopeGain*(t.level-was) + (1-slopeGain)*t.slope
}

// Level is the value now, without the chance in it.
func (t *Trend) Level() float64 { return max(0, t.level) }

// Ahead is the value after that time, if it goes on as it does; never negative.
func (t *Trend) Ahead(d time.Duration) float64 {
	return max(0, t.level+t.slope*d.Seconds()/Bin.Seconds())
}

// How many more instances are made ready than the forecast asks for. A function
// costs next to nothing while nobody calls it; one instance too few costs a visitor
// the time of its start.
const (
	spareShare = 1.3
	spareLeast = 8
)

// Instances is how many instances of a function are to be ready for a rate of calls,
// in calls a second, each of which takes one of them for that time. It is zero for
// no calls.
func Instances(rate float64, call time.Duration) int {
	if !(rate > 0) {
		return 0
	}
	const most = 1 << 20 // what cannot be converted bounds nothing
	return int(math.Ceil(min(most, spareShare*rate*call.Seconds()))) + spareLeast
}
