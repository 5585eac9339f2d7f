package limit

import "math"

const (
	// trusted is how many samples of known classes make slow start needless.
	trusted = 12
	// startEstimates is how many requests at the start limit give the first K.
	startEstimates = 12
	// inFlightTicks is how many ticks the mean in-flight of the start remembers.
	inFlightTicks = 200

	// levelRequests is the least number of requests of a level of slow start.
	levelRequests = 16
	// saturated is the rise of ln latency that shows that the origin queues.
	saturated = 0.35
)

// start is the time before the limit has bound for the first time.
type start struct {
	inFlight float64 // running mean
	at       sum     // estimates of ln K at the limit
	others   float64 // requests at the limit without baseline
}

// low is half the mean in-flight: whoever finds less than that finds the origin
// about as idle as this load leaves it.
func (s *start) low() int { return max(1, int(s.inFlight/2)) }

// stepStart does not steer until somebody finds no room. Then the time before
// has either taught a baseline, and K follows from the first requests at the
// limit, or it has not, and slow start has to find out.
func (c *controller) stepStart(w *window) {
	s := &c.start
	s.inFlight += (float64(w.inFlight) - s.inFlight) / inFlightTicks
	if !c.bound() {
		s.at, s.others = sum{}, 0
		return
	}
	at, others := w.estimates()
	s.at, s.others = s.at.plus(at), s.others+others
	switch {
	case c.taught() < trusted, s.others >= 4*startEstimates && s.at.n < startEstimates:
		c.enterSlowStart()
	case s.at.n >= startEstimates:
		c.enterSteady(c.firstEstimate())
	}
}

// taught is the number of samples behind the baselines that are known.
func (c *controller) taught() (n float64) {
	for i := range c.class {
		if c.class[i].known() {
			n += c.class[i].n
		}
	}
	return n
}

// firstEstimate is ln K from the first requests at the start limit. If these
// did not queue at the origin it has room for more, and the start limit stays
// until that is found.
func (c *controller) firstEstimate() float64 {
	k, limit := c.start.at.mean(), float64(c.limit())
	if math.Log(float64(c.reach(int(limit))))-k < saturated {
		k = max(k, math.Log(usefulOf(limit)))
	}
	return k
}

// slowStart doubles the limit from 1 until latency rises.
type slowStart struct {
	level   int
	first   int     // the level that it began with
	others  float64 // requests of this level without baseline
	skipped float64 // requests of this level that ended before it settled
	at      sum     // estimates of ln K at this level
	low     float64 // samples behind the baselines
	before  sum     // rises of the level before
}

func (c *controller) enterSlowStart() {
	c.phase = PhaseSlowStart
	c.slow = slowStart{level: c.least, first: c.least}
}

// lowest is the number in flight that counts as idle. The first level teaches
// the baseline, so there it is the level itself.
func (s *slowStart) lowest() int {
	if s.level == s.first {
		return s.level
	}
	return max(1, s.level/4)
}

// stepSlowStart leaves a level when enough of its requests have ended.
func (c *controller) stepSlowStart(w *window) {
	s := &c.slow
	s.observe(w)
	if s.others >= 4*max(levelRequests, float64(s.level)) && s.at.n == 0 {
		c.enterSlowStart() // all demand is of classes that came after the first level
		return
	}
	if !s.full(c.taught() > 0) {
		return
	}
	switch rise := s.rise(); {
	case rise > saturated && s.level > s.first:
		c.enterSteady(math.Log(float64(s.level)) - rise)
	case !c.bound():
		return // there is no demand for more
	case s.level >= c.most:
		c.enterSteady(math.Log(float64(s.level)))
	default:
		c.nextLevel(rise)
	}
}

// observe adds the requests of a tick. The first ones to end at a level are the
// fast ones, so as many as are in flight are left out.
func (s *slowStart) observe(w *window) {
	at, others := w.estimates()
	s.others += others
	if s.skipped < float64(s.level) {
		s.skipped += at.n
	} else {
		s.at = s.at.plus(at)
	}
	for i := range w.class {
		s.low += w.class[i].low.n
	}
}

// full reports whether the level has seen enough. The first one teaches the
// baseline against which the others are measured.
func (s *slowStart) full(known bool) bool {
	if s.level == s.first {
		return known && s.low >= levelRequests
	}
	return s.at.n >= max(levelRequests, float64(s.level))
}

// rise is by how much ln latency exceeds the baseline at this level.
func (s *slowStart) rise() float64 {
	if s.at.n == 0 {
		return 0
	}
	return math.Log(float64(s.level)) - s.at.mean()
}

// nextLevel doubles the level. The level before the one that ends did not
// queue, or the one that ends would show it clearly; so its latencies belong to
// the baseline. Without them a large origin would be judged by the sixteen
// requests of the first level.
func (c *controller) nextLevel(rise float64) {
	s := &c.slow
	shift := 0.0
	if s.before.n > 0 {
		shift = s.before.total / (s.low + s.before.n)
		c.shiftBaselines(shift)
		s.low += s.before.n
	}
	c.slow = slowStart{
		level: min(2*s.level, c.most), first: s.first, low: s.low,
		before: sum{s.at.n, s.at.n * (rise - shift)},
	}
}

// enterSteady begins to steer from a first estimate of ln K.
func (c *controller) enterSteady(k float64) {
	c.phase = PhaseSteady
	c.k = c.boundedK(k)
	c.kDip, c.since, c.strangers = c.k, 0, 0
	c.block, c.suspected = sum{}, false
}

// boundedK keeps ln K where it can still move the limit, so that it does not
// run away behind a bound and take as long to come back.
func (c *controller) boundedK(k float64) float64 {
	return max(0, min(math.Log(usefulOf(float64(c.most)+1)), k))
}
