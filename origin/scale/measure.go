package scale

import "time"

// A measure finds what an origin really has to do for a second of work by the
// learned latencies. Those are geometric means, which the limiter needs, and the
// more the times of requests scatter, the more their sum exceeds that: by 1.4 for a
// lognormal time with cv 1, by 1.8 for an exponential one. By Little's law (A Proof
// for the Queuing Formula L = λW, 1961) the requests that an origin makes progress
// on are the work of those it is given; where more are in flight, the rest waits.
// The zero value takes the latencies at their word.
type measure struct{ busy, taken average }

// Bounds of the factor. Not knobs: it grows for a while when an origin hangs, and
// that is no reason for more servers.
const (
	leastFactor = 0.5
	mostFactor  = 4
)

// observe takes how much work a second the origin was given, and how busy it is.
func (m *measure) observe(taken float64, st *Standing, held time.Duration) {
	if !(st.Useful > 0) || !st.Up {
		return
	}
	m.busy.observe(min(float64(st.InFlight), st.Useful), held, learning)
	m.taken.observe(taken, held, learning)
}

// settled reports whether the factor is more than chance.
func (m *measure) settled() bool { return m.busy.weight >= passed(rise, learning) }

// factor is the true work for one of the latencies.
func (m *measure) factor() float64 {
	taken := m.taken.value()
	if taken == 0 {
		return 1
	}
	return max(leastFactor, min(mostFactor, m.busy.value()/taken))
}
