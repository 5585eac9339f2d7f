package limit

import (
	"math"
	"time"
)

const (
	// trusted is how many samples of known classes make slow start needless.
	trusted = 12
	// startEstimates is how many requests at the start limit give the first K.
	startEstimates = 12
	// untaughtEstimates is how many have to end before slow start begins. A burst
	// that is over before that is no reason to begin at 1.
	untaughtEstimates = 16
	// crowdFactor is how many times the usual in-flight is a crowd, leastCrowd the
	// least that is one.
	crowdFactor = 3
	leastCrowd  = 4
	// inFlightTicks is how many ticks the mean in-flight of the start remembers.
	inFlightTicks = 200
)

// start is the time before the limit has bound for the first time.
type start struct {
	hint     int     // where to begin instead of startLimit; 0 is nothing
	inFlight float64 // running mean
	// full holds the requests at the start limit since it has bound, also those
	// that end when slow start has begun.
	full window
	// crowd are estimates of ln K from before that, by requests that met a crowd.
	crowd sum
}

// low is the mean in-flight: whoever finds less than usual finds the origin as idle
// as this load leaves it. Half of it would be idler, and so rare on an origin of
// sixteen slots that its baseline rested on a hundred requests of eight thousand.
func (s *start) low() int { return max(1, int(math.Round(s.inFlight))) }

// crowdFrom is the number in flight that is a crowd: so far above the usual that an
// origin that is half loaded would be full.
func (s *start) crowdFrom() int { return max(leastCrowd, int(math.Ceil(crowdFactor*s.inFlight))) }

// failures counts the requests at the limit that failed and had no baseline, so
// that it is not known how much their latency says.
func (s *start) failures() (n float64) {
	for i := range s.full.class {
		n += s.full.class[i].failed.n
	}
	return n
}

// answers counts the requests at the limit that were answered.
func (s *start) answers() (n float64) {
	for i := range s.full.class {
		n += s.full.class[i].steer.n
	}
	return n
}

// latency is about how long requests at a limit take, 0 if there were none.
func (s *start) latency(limit int) time.Duration {
	at := sum{}
	for i := range s.full.class {
		at = at.plus(s.full.class[i].steer)
	}
	if at.n == 0 {
		return 0
	}
	return time.Duration(min(maxLatency, float64(limit)*math.Exp(-at.mean())))
}

// observe adds the requests at the limit of a tick.
func (s *start) observe(w *window) {
	for i := range w.class {
		from, to := &w.class[i], &s.full.class[i]
		to.steer, to.failed = to.steer.plus(from.steer), to.failed.plus(from.failed)
	}
}

// stepStart does not steer until requests have queued in a crowd, or until somebody
// finds no room and requests at the limit have shown how the origin bears it. Then the time before has either
// taught a baseline, and K follows from these requests, or it has not, and slow
// start has to find out.
func (c *controller) stepStart(w *window) {
	s := &c.start
	if c.taught() >= trusted && c.meetCrowd(w) {
		return
	}
	if !c.bound() {
		s.inFlight += (float64(w.inFlight) - s.inFlight) / inFlightTicks
		s.full = window{}
		return
	}
	s.observe(w)
	at, others := c.estimates(&s.full)
	switch taught := c.taught() >= trusted; {
	case taught && at.n >= startEstimates:
		c.enterSteady(c.firstEstimate(at))
	case taught && others >= 4*startEstimates, !taught && at.n+others >= untaughtEstimates:
		c.enterSlowStart()
	}
}

// meetCrowd begins to steer before the limit binds, if requests that met a crowd
// have queued: a small origin would be far beyond what it bears by then.
func (c *controller) meetCrowd(w *window) bool {
	s := &c.start
	at, _ := c.estimates(w)
	if s.crowd = s.crowd.plus(at); s.crowd.n < startEstimates {
		return false
	}
	crowd := s.crowd.mean()
	s.crowd = sum{}
	if math.Log(float64(s.crowdFrom()))-crowd < saturated {
		return false
	}
	c.enterSteady(crowd)
	return true
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
func (c *controller) firstEstimate(at sum) float64 {
	if queued(at, c.reach(c.startLimit())) {
		return at.mean()
	}
	return max(at.mean(), math.Log(usefulOf(float64(c.startLimit()))))
}

// queued reports whether requests at a level waited at the origin.
func queued(at sum, level int) bool { return math.Log(float64(level))-at.mean() >= saturated }

func (c *controller) startLimit() int {
	if c.start.hint > 0 {
		return c.bounded(float64(c.start.hint))
	}
	return c.bounded(startLimit)
}

// enterSteady begins to steer from a first estimate of ln K.
func (c *controller) enterSteady(k float64) {
	c.phase = PhaseSteady
	c.k = c.boundedK(k)
	c.kDip, c.since, c.strangers = c.k, 0, 0
	c.scatter = scatter{mean: c.k, variance: c.variance}
	c.block, c.suspected = sum{}, false
}

// boundedK keeps ln K where it can still move the limit, so that it does not
// run away behind a bound and take as long to come back.
func (c *controller) boundedK(k float64) float64 {
	return max(0, min(math.Log(usefulOf(float64(c.most)+1)), k))
}
