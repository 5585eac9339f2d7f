package limit

// Full reports whether a request with the given share of the limit would get no
// permit at this instant. Unlike Acquire it takes none, and the controller does
// not learn of it.
func (l *Limiter) Full(share float64) bool {
	g := l.gate.Load()
	return g&inFlightMask >= threshold(g>>32, share)
}

// Gate returns the limit in force and the requests in flight, as they were at one
// instant.
func (l *Limiter) Gate() (limit, inFlight int) {
	g := l.gate.Load()
	return int(g >> 32), int(g & inFlightMask)
}

// Idle reports whether fewer requests are in flight than the origin makes progress
// on, as far as is known, within the limit without a dip. An origin that has asked
// for a pause is not idle.
func (l *Limiter) Idle() bool {
	p, n := l.plan.Load(), l.gate.Load()&inFlightMask
	return !p.paused && float64(n) < min(p.useful, float64(p.steady))
}
