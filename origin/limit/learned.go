package limit

import (
	"math"
	"time"
)

// Learned is what a limiter has found out about its origin and a restart should
// not lose. The zero value is nothing.
type Learned struct {
	// At is when it held, by the wall clock.
	At time.Time `json:"at"`
	// Useful is K, or zero if it is not known.
	Useful    float64    `json:"useful"`
	Baselines []Baseline `json:"baselines"`
}

// restoredSamples is what a restored baseline counts for: it is believed until
// about as many new samples say otherwise.
const restoredSamples = 2 * trusted

// Learned returns what is known now. It is safe for concurrent use.
func (l *Limiter) Learned() Learned {
	p := l.plan.Load()
	s := Learned{At: time.Now().UTC().Round(0), Baselines: p.baselines()}
	if p.phase == PhaseSteady || p.phase == PhaseDip {
		s.Useful = p.useful
	}
	return s
}

// Restore begins with what a limiter in front of the same origin has learned,
// as far as it makes sense: how old it may be is up to the caller. With a useful
// concurrency and a baseline the limit is what it was, and a dip soon tells
// whether they still hold; with less, it is where the start begins. Restore is
// called before Run and before the first Acquire.
func (l *Limiter) Restore(s Learned) {
	l.control.restore(s)
	l.publish(l.control.plan())
}

func (c *controller) restore(s Learned) {
	for _, b := range s.Baselines {
		if b.Latency > 0 && b.Class < classes {
			c.class[b.Class] = baseline{ln: lnLatency(int64(b.Latency)), n: restoredSamples}
		}
	}
	if !(s.Useful >= 1 && s.Useful <= math.MaxInt32) {
		return
	}
	if c.taught() < trusted {
		c.start.hint = int(limitOf(s.Useful))
		return
	}
	c.enterSteady(math.Log(s.Useful))
	c.since = (dipEvery - dipSoon) * float64(max(dipRequests, c.low()))
}
