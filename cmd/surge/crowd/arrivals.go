package crowd

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// arrivals is a Poisson process whose rate follows the phases. It is drawn by
// inversion: a process of rate 1 is stretched by the integral of the rate, so the
// same seed gives the same crowd and a ramp is exact rather than made of steps.
type arrivals struct {
	phases []Phase
	rng    *rand.Rand
	i      int           // the current phase
	start  time.Duration // when it started
	area   float64       // expected visitors of it used up
}

func newArrivals(phases []Phase, seed uint64) *arrivals {
	return &arrivals{phases: phases, rng: rand.New(rand.NewPCG(seed, 0))}
}

// Arrivals returns the intended times of the visitors of a crowd, in order, each
// with the index of its phase: what Run plays for the same phases and seed.
func Arrivals(phases []Phase, seed uint64) iter.Seq2[time.Duration, int] {
	return func(yield func(time.Duration, int) bool) {
		a := newArrivals(phases, seed)
		for at, phase, ok := a.next(); ok && yield(at, phase); at, phase, ok = a.next() {
		}
	}
}

// next returns the intended time of the next visitor and its phase, or false at
// the end of the schedule.
func (a *arrivals) next() (at time.Duration, phase int, ok bool) {
	a.area += a.rng.ExpFloat64()
	for a.i < len(a.phases) {
		p := a.phases[a.i]
		if a.area < p.expected() {
			return a.start + p.when(a.area), a.i, true
		}
		a.area -= p.expected()
		a.start += p.Length
		a.i++
	}
	return 0, 0, false
}

// when inverts the integral of the rate: it returns the time at which u visitors
// were expected. The form 2u/(a+√(a²+2su)) also holds for a slope of 0.
func (p Phase) when(u float64) time.Duration {
	slope := (p.To - p.From) / p.Length.Seconds()
	root := math.Sqrt(max(p.From*p.From+2*slope*u, 0))
	if p.From+root == 0 {
		return 0
	}
	t := time.Duration(2 * u / (p.From + root) * float64(time.Second))
	return min(t, p.Length-1)
}
