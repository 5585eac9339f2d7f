package limit

import "math"

const (
	// dipRequests is how many requests a dip observes: enough to tell a factor of
	// two from the scatter of service times.
	dipRequests = 24
	// dipFewest is the least number, for an origin of constant latency.
	dipFewest = 6
	// dipCertainty is the square of the standard errors in half a deviation: two.
	dipCertainty = 4 * 2 * 2
	// dipLeast is the change of ln latency that a dip should be able to show.
	dipLeast = 0.3
	// dipEvery is the distance of two dips without cause, in dips: they cost half
	// a percent of the origin's work.
	dipEvery = 200
	// dipSoon replaces it after a dip that moved the baseline a lot.
	dipSoon = 8
	// dipMoved is the least rise that makes the next dip come soon.
	dipMoved = 0.25
	// dipDrift is how far ln K may drift before a dip has to confirm it.
	dipDrift = 0.6
	// dipDone is the part of a dip's requests that have ended when the limit
	// rises again; the reading waits for all.
	dipDone = 0.9
	// dipQuietTicks ends a dip whose demand went away.
	dipQuietTicks = 50
	// dipReadTicks is how long a reading waits for the last requests, at least.
	dipReadTicks = 100
	// dipReadBaselines is the same in baselines, for slow work.
	dipReadBaselines = 4
)

type dipStage uint8

const (
	dipNone    dipStage = iota
	dipRunning          // the limit is lowered
	dipReading          // the limit is back; the dip's requests still end
)

// A dip lowers the limit for some requests, to see how long they take at an
// idle origin.
type dip struct {
	stage dipStage
	limit int
	size  float64 // requests to observe
	// deviation is the change of ln K that the dip has to explain, 0 for a dip
	// without cause. If applied, K has already followed.
	deviation float64
	applied   bool

	started, ended float64
	at             sum // residuals of its requests
	ticks          int // of reading
}

// considerDip starts a dip when one is due: a deviation has to be explained, K
// has drifted, much demand is of classes that nobody knows, or the last dip is
// long ago. A limit at its lower bound has no room for a dip, so K follows
// unexplained.
func (c *controller) considerDip(pending float64) {
	limit := c.limit()
	if !c.bound() || limit <= c.least {
		c.k = c.boundedK(c.k + pending)
		return
	}
	unit := float64(max(dipRequests, c.low()))
	drift := c.k - c.kDip
	switch {
	case pending < 0:
		c.enterDip(c.probeLimit(pending), pending, false)
	case math.Abs(drift) > dipDrift && c.since >= 2*unit:
		c.enterDip(c.low(), drift, true)
	case c.since >= c.dipDistance()*unit, c.strangers >= filterRequests:
		c.enterDip(c.low(), 0, false)
	}
}

// dipDistance is the distance of two dips without cause, in dips. Baselines that
// few samples stand behind, as after a cold start, are looked at sooner; the
// steadier the latency, the fewer are enough.
func (c *controller) dipDistance() float64 {
	enough := baselineRequests * min(1, c.variance/startVariance)
	return max(dipSoon, dipEvery*min(1, c.behind()/enough))
}

// behind is the number of samples that the baselines rest on.
func (c *controller) behind() float64 { return c.taught() + c.dipped }

// probeLimit is how deep a dip must go to explain a fall of ln K: if there
// really is less room, no more than the new K may be in flight, or the requests
// would queue in the dip too and look slow.
func (c *controller) probeLimit(pending float64) int {
	return min(c.low(), int(math.Exp(c.k+pending)+0.5))
}

func (c *controller) enterDip(limit int, deviation float64, applied bool) {
	limit = max(c.least, limit)
	c.dip = dip{
		stage: dipRunning, limit: limit, size: c.dipSize(limit, deviation),
		deviation: deviation, applied: applied,
	}
	c.era++
}

// dipSize is how many requests a dip observes. The steadier the latency of the
// origin, the fewer tell a deviation from none.
func (c *controller) dipSize(limit int, deviation float64) float64 {
	deviation = max(dipLeast, math.Abs(deviation))
	size := math.Ceil(dipCertainty * c.variance / (deviation * deviation))
	size = max(dipFewest, min(size, dipRequests))
	return max(size, float64(limit))
}

// observeDip adds what the dip's requests did in a tick.
func (c *controller) observeDip(w *window) {
	d := &c.dip
	d.started += w.started
	d.ended += w.ended
	for i := range w.class {
		d.at = d.at.plus(w.class[i].marked.above(c.class[i].ln))
	}
}

// runDip lifts the limit again when enough requests have been observed. It ends
// by count: by time, an origin of few requests would learn nothing.
func (c *controller) runDip(w *window) {
	d := &c.dip
	c.observeDip(w)
	seen := d.started >= d.size && d.ended >= dipDone*d.size
	if seen || c.quiet >= dipQuietTicks {
		d.stage = dipReading
	}
}

// readDip waits for all requests of the dip: those that end first are the fast
// ones, and a baseline from them alone would be too low.
func (c *controller) readDip(w *window) {
	d := &c.dip
	c.observeDip(w)
	d.ticks++
	if d.ended < d.started && d.ticks < c.readTicks() {
		return
	}
	c.since = 0
	c.explain()
	c.dip = dip{}
	c.kDip, c.block, c.suspected, c.strangers = c.k, sum{}, false, 0
}

func (c *controller) readTicks() int {
	longest := 0.0
	for i := range c.class {
		if c.class[i].known() {
			longest = max(longest, c.class[i].ln)
		}
	}
	return max(dipReadTicks, int(dipReadBaselines*math.Exp(longest)/float64(tickInterval)))
}

// explain decides what a dip has shown.
func (c *controller) explain() {
	d := &c.dip
	rise := 0.0
	if d.at.n > 0 {
		rise = d.at.mean()
	}
	if d.deviation != 0 && d.at.n >= d.size/2 && -rise/d.deviation > 0.5 {
		// The requests are as slow at an idle origin: the work changed speed.
		c.shiftBaselines(rise)
		if d.applied {
			c.k = c.boundedK(c.k + rise)
		}
		return
	}
	if math.Abs(rise) > max(dipMoved, 2.5*math.Sqrt(c.variance/max(1, d.at.n))) {
		c.since = (dipEvery - dipSoon) * float64(max(dipRequests, c.low()))
	}
	// There really is less room, or nothing had to be explained. The baselines
	// move as by ordinary samples, and K with them, since it was measured by them.
	if !d.applied {
		c.k = c.boundedK(c.k + d.deviation)
	}
	if d.at.n > 0 {
		rise *= max(d.at.n/(c.behind()+d.at.n), remembering(baselineRequests, 2*d.at.n))
	}
	c.dipped += d.at.n
	c.shiftBaselines(rise)
	if !c.caps.eases() { // there no estimate would bring back what chance has moved
		c.k = c.boundedK(c.k + rise)
	}
}
