package scale

import (
	"math"
	"time"
)

// How fast what is wanted follows what is asked. Not knobs: servers take minutes to
// come, so that nothing is won by less, and one that leaves too early has to come
// again.
const (
	// rise averages the bursts out.
	rise = 15 * time.Second
	// fall is how long a need is remembered when it has passed.
	fall = 2 * time.Minute
	// learning is what it takes to learn what an origin can do, and what its work
	// really is. The two belong together: where the limiter is wrong about the one,
	// the other is wrong by as much, and what is wanted is right.
	learning = 30 * time.Second
)

// An average follows what it observes, up and down. It is unbiased from the first
// observation on. The zero value has observed nothing.
type average struct{ sum, weight float64 }

// observe takes a value that held for that time, with that time constant.
func (a *average) observe(v float64, held, constant time.Duration) {
	part := passed(held, constant)
	a.sum += part * (v - a.sum)
	a.weight += part * (1 - a.weight)
}

// value is 0 before the first observation.
func (a *average) value() float64 {
	if a.weight == 0 {
		return 0
	}
	return a.sum / a.weight
}

// settled reports whether the average rests on as much time as its constant.
func (a *average) settled() bool {
	const enough = 0.632 // 1 - 1/e
	return a.weight >= enough
}

// A crest rises at once with what it follows, and falls slowly.
type crest float64

func (c *crest) follow(v float64, held time.Duration) {
	*c = crest(max(v, float64(*c)+passed(held, fall)*(v-float64(*c))))
}

// passed is how far a value has come to a new one after a time, by its time
// constant.
func passed(held, constant time.Duration) float64 {
	return -math.Expm1(-held.Seconds() / constant.Seconds())
}
