package limit

import "math"

// stepSteady follows K, and starts and reads dips.
func (c *controller) stepSteady(w *window) {
	at, strangers := c.estimates(w)
	c.since += at.n + strangers
	switch c.dip.stage {
	case dipRunning:
		c.runDip(w)
		return
	case dipReading:
		c.readDip(w)
		return
	}
	c.strangers += strangers
	pending := 0.0
	if at.n > 0 && (c.caps.eases() || !c.uninformed(at)) {
		if !c.caps.eases() {
			c.scatter.observe(at, w.steerSquares())
		}
		at = at.above(-c.scatter.excess(c.variance))
		c.follow(at)
		c.block = c.block.plus(at)
		if c.block.n >= max(evidence, float64(c.limit())/4) {
			pending = c.test()
		}
	}
	c.considerDip(pending)
}

// uninformed reports whether estimates say nothing: where only a share of the
// limit may be in flight and these do not queue, K is at least what they say,
// and may be more.
func (c *controller) uninformed(at sum) bool {
	reach := c.reach(c.limit())
	return reach < c.limit() && at.mean() < c.k && math.Log(float64(reach))-at.mean() < saturated
}

// follow moves ln K towards the estimates: a filter over requests, since each
// is an estimate in its own right. While nobody finds the origin full it stays
// where it is: taking only the estimates below would be a choice by outcome,
// and the limit would sink by noise alone.
func (c *controller) follow(at sum) {
	if !c.bound() || c.caps.eases() {
		return
	}
	weight := -math.Expm1(-at.n / max(filterRequests, float64(c.limit())))
	c.k = c.boundedK(c.k + weight*(at.mean()-c.k))
}

// test looks at a full block of estimates at once, which shows a sudden change
// sooner than the filter. Upwards K follows. Downwards there are two
// explanations, so the deviation is returned and a dip has to tell them apart.
func (c *controller) test() (pending float64) {
	deviation := c.deviation()
	needed := max(leastDeviation, significance*math.Sqrt(c.variance/c.block.n))
	suspected := c.suspected
	c.block, c.suspected = sum{}, false
	switch {
	case deviation > needed && c.bound():
		c.k = c.boundedK(c.k + min(deviation, greatestStep))
	case deviation < -needed && !c.bound():
		// Nobody is refused, so a dip would show nothing.
		c.k = c.boundedK(c.k + max(deviation, -greatestStep))
	case suspected && deviation < -needed/2:
		return max(deviation, -greatestStep)
	case deviation < -needed:
		// The change may have come in the middle of the block. The next one shows
		// all of it; a dip that explains half a change explains it wrongly.
		c.suspected = true
	}
	return 0
}

// deviation is by how much a block of estimates differs from ln K. Where reports
// keep the traffic below K, these can say no more than how many there were.
func (c *controller) deviation() float64 {
	deviation := c.block.mean() - c.k
	if c.caps.eases() {
		below := c.block.mean() - math.Log(float64(c.atLimit(c.limit())))
		deviation = max(deviation, min(0, below))
	}
	return deviation
}
