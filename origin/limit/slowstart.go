package limit

import (
	"math"
	"time"
)

const (
	// levelRequests is the least number of requests of a level of slow start.
	levelRequests = 16
	// roughly is how many samples tell how wide the first level may be.
	roughly = 4
	// descent is how many times lower slow start goes on for a baseline while the
	// level that it compares with queues, and clearly how many times a first level
	// K must be for that level to count as idle. With service times of cv 1 the
	// comparison has a standard deviation of a factor of 1.4; dips mend the rest.
	descent = 4
	clearly = 1.5
	// rounding is what arithmetic may be off by: origins that differ in speed alone
	// must lead to the same.
	rounding = 1e-9
	// saturated is the rise of ln latency that shows that the origin queues.
	saturated = 0.35

	// starvedLevels is how many requests without a latency a level bears, as a
	// multiple of those with one that it needs.
	starvedLevels = 2
	// starvedLatencies is how long a level bears to see no request end that has a
	// latency, as a multiple of the latency at the start limit; and the bounds.
	starvedLatencies = 4
	starvedLeast     = 5 * time.Second
	starvedMost      = time.Minute
)

// slowStart goes down to an idle origin for the baseline, and then doubles the
// limit until latency rises. It goes down by steps, since what a large origin
// could have done meanwhile is spilled.
type slowStart struct {
	level   int
	first   int     // the level that teaches the baseline
	over    int     // the level that it is compared with
	doubted bool    // the first level may be lower yet, if it turns out to queue
	left    float64 // requests of the first level before, still in flight when this one began
	others  float64 // requests of this level without baseline
	skipped float64 // requests of this level that ended before it settled
	at      sum     // estimates of ln K at this level
	low     float64 // samples behind the baselines
	before  sum     // rises of the level before

	blank  float64 // requests that ended at this level without a latency
	silent int     // ticks since one ended that has a latency or has failed
}

// enterSlowStart begins at the bottom, unless the origin has answered at the start
// limit all that it was asked.
func (c *controller) enterSlowStart() {
	c.phase = PhaseSlowStart
	over, first := c.reach(c.startLimit()), c.least
	if c.taught() == 0 && c.start.answers() >= startEstimates && c.start.failures() == 0 {
		first = max(first, over/descent)
	}
	c.slow = slowStart{level: first, first: first, over: over, doubted: first > c.least}
}

// descend goes on at a lower first level: this one may queue as well, so its
// latencies are no baseline but what the next one is compared with, as are those of
// the levels above.
func (c *controller) descend(from int) {
	s := &c.slow
	for i := range c.class {
		b, full := &c.class[i], &c.start.full.class[i]
		full.steer = full.steer.plus(sum{b.n, b.n * (math.Log(float64(s.first)) - b.ln)})
	}
	c.forgetBaselines()
	next := max(c.least, min(s.first-1, from/descent))
	c.slow = slowStart{level: next, first: next, over: s.first, doubted: next > c.least, left: float64(s.first)}
}

func (c *controller) forgetBaselines() {
	c.class = [classes]baseline{}
	c.variance, c.seen = startVariance, varianceSamples
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
	c.observeLevel(w)
	if s.others >= 4*max(levelRequests, float64(s.level)) && s.at.n == 0 {
		c.enterSlowStart() // all demand is of classes that came after the first level
		return
	}
	if !c.full() {
		if c.starved() {
			c.skipLevel()
		} else if s.level == c.least && s.level == s.first && s.left == 0 && s.low >= roughly {
			c.widen()
		}
		return
	}
	switch rise := s.rise(); {
	case s.level == s.first && c.leap():
	case rise > saturated && s.level > s.first:
		c.enterSteady(math.Log(float64(s.level)) - rise)
	case !c.bound():
		return // there is no demand for more
	case c.caps.holds() && s.level >= c.startLimit():
		// Less than that would be less than an origin is given that says nothing.
		c.enterSteady(math.Log(usefulOf(float64(s.level))))
	case s.level >= c.most:
		c.enterSteady(math.Log(float64(s.level)))
	default:
		c.nextLevel(rise)
	}
}

// observeLevel adds the requests of a tick. The first ones to end at a level are
// the fast ones, so as many as are in flight are left out. Nobody steers who
// starts at the first level, so there the estimates come from the requests that
// the start limit has left behind.
func (c *controller) observeLevel(w *window) {
	s := &c.slow
	at, others := c.estimates(w)
	switch {
	case s.level == s.first:
		c.start.observe(w)
	case s.skipped < float64(s.level):
		s.skipped += at.n
		s.others += others
	default:
		s.at = s.at.plus(at)
		s.others += others
	}
	low := 0.0
	for i := range w.class {
		low += w.class[i].low.n
	}
	if s.low += low; s.left > 0 && s.low >= s.left {
		c.forgetBaselines()
		s.low, s.left = 0, 0
	}
	s.blank += w.blank
	if s.silent++; at.n+others+low+w.dropped > 0 {
		s.silent = 0
	}
}

// full reports whether the level has seen enough. The first one teaches the
// baseline against which the others are measured; of many at once, the first to
// end are the fast ones.
func (c *controller) full() bool {
	s := &c.slow
	switch {
	case s.level > s.first:
		return s.at.n >= max(levelRequests, float64(s.level))
	case s.doubted:
		return s.left == 0 && s.low >= trusted+float64(s.first)
	}
	return s.left == 0 && c.taught() > 0 && s.low >= trusted
}

// rise is by how much ln latency exceeds the baseline at this level.
func (s *slowStart) rise() float64 {
	if s.at.n == 0 {
		return 0
	}
	return math.Log(float64(s.level)) - s.at.mean()
}

// leap leaves out the levels between the first one and the one that it is compared
// with, the start limit or a first level before: the origin has already shown how
// long requests take there, and all that was missing is the baseline. Failures have
// no latency to go by, so with them it climbs.
func (c *controller) leap() bool {
	s := &c.slow
	at, _ := c.estimates(&c.start.full)
	switch {
	case s.doubted && (at.n < startEstimates || c.start.failures() > 0):
		c.descend(s.first)
		return true
	case at.n < startEstimates, c.start.failures() > 0:
		return false
	case queued(at, s.over):
		if k := math.Exp(at.mean()) * (1 + rounding); s.doubted && c.bound() && k < clearly*float64(s.first) {
			c.descend(int(k))
		} else {
			c.enterSteady(at.mean())
		}
		return true
	case s.over <= s.first:
		return false
	}
	rise := math.Log(float64(s.over)) - at.mean()
	c.slow = slowStart{
		level: min(2*s.over, c.most), first: s.first, over: s.over, low: s.low,
		before: sum{at.n, at.n * rise},
	}
	return true
}

// widen raises the first level to half of what its first few requests make of
// K: idle enough for a baseline, and the faster, the larger the origin is.
func (c *controller) widen() {
	at := sum{}
	for i := range c.class {
		if b := &c.class[i]; b.n > 0 {
			at = at.plus(c.start.full.class[i].steer.above(-b.ln))
		}
	}
	if at.n >= startEstimates && c.start.failures() == 0 {
		half := min(math.Exp(at.mean())/2, float64(c.startLimit())/2)
		c.slow.level = max(c.slow.level, int(half))
		c.slow.first = c.slow.level
	}
}

// starved reports whether the level is not going to be full: what ends has no
// latency, or nothing ends. Failures are no reason to give the origin more.
func (c *controller) starved() bool {
	s := &c.slow
	return c.bound() && (s.blank >= starvedLevels*max(levelRequests, float64(s.level)) || s.silent >= c.silence())
}

// silence is how many ticks a level may pass without a latency. At the start
// limit requests took at least as long as they do at any level below it.
func (c *controller) silence() int {
	longest := starvedMost
	if latency := c.start.latency(c.slow.over); latency > 0 {
		longest = max(starvedLeast, min(starvedMost, starvedLatencies*latency))
	}
	return int(longest / tickInterval)
}

// skipLevel doubles a level that has shown nothing, up to the start limit: an
// origin of which nothing is known is given that much anyway.
func (c *controller) skipLevel() {
	s := &c.slow
	if s.doubted && s.level == s.first {
		c.forgetBaselines()
		c.slow = slowStart{level: c.least, first: c.least, over: s.over}
		return
	}
	if 2*s.level >= c.startLimit() {
		c.phase, c.start = PhaseStart, start{hint: c.start.hint, inFlight: c.start.inFlight}
		return
	}
	next := slowStart{level: 2 * s.level, first: s.first, over: s.over, low: s.low}
	if s.level == s.first {
		next.first = next.level
	}
	c.slow = next
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
		level: min(2*s.level, c.most), first: s.first, over: s.over, low: s.low,
		before: sum{s.at.n, s.at.n * (rise - shift)},
	}
}
