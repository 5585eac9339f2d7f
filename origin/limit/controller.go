package limit

import "math"

// The constants of the rules. They were chosen by simulation (sim_test.go) and
// are not knobs: within a factor of about 1.5 none of them decides anything.
const (
	startLimit = 32 // before anything was learned

	// limit = gain*K + sqrt(K).
	gain = 1.2

	// knownAt is how many samples a class needs before it steers. Below that the
	// first one or two answers, often cold, would decide.
	knownAt = 8
	// filterRequests is how many requests the estimate of ln K remembers.
	filterRequests = 96
	// baselineRequests is how many samples a baseline remembers.
	baselineRequests = 256
	// nearLimit is the part of the limit from which on a request steers.
	nearLimit = 0.7

	// leastShare bounds how far slow start raises the limit for requests that may
	// use only a share of it.
	leastShare = 0.1

	// evidence is the least number of estimates that are tested for a deviation;
	// it must exceed significance standard errors and leastDeviation.
	evidence       = 24
	significance   = 3.5
	leastDeviation = 0.2
	// greatestStep bounds what one test changes ln K by: a factor of two.
	greatestStep = 0.7

	// The variance of ln latency, measured, starts with that of an exponential
	// service time. The floor keeps an origin of constant latency from taking
	// every hair for a deviation.
	startVariance   = 0.7
	leastVariance   = 0.05
	varianceSamples = 2 // weight of the start value

	// boundTicks is how long the limit counts as binding after somebody found no
	// room.
	boundTicks = 25
)

// A controller holds what was learned, and the rules. Its step is a pure
// function of itself and a window: no clock, no lock, no input or output. The
// simulations in the tests run this same code.
type controller struct {
	least, most int // bounds of the limit

	phase    Phase
	k        float64 // ln K
	variance float64 // of ln latency at an idle origin
	seen     float64 // samples behind the variance
	scatter  scatter // of the estimates of ln K
	class    [classes]baseline

	quiet int     // ticks since somebody found no room
	share float64 // greatest share that was refused lately
	asked shareWindow

	caps caps
	era  uint32 // counts the dips

	start start
	slow  slowStart
	dip   dip

	block     sum     // estimates of ln K, tested when full
	suspected bool    // the last block lay too low
	since     float64 // requests at the limit since the last dip
	strangers float64 // of these, without a baseline
	kDip      float64 // ln K at the last dip
	dipped    float64 // samples of dips that the baselines rest on too
}

// A baseline is the mean of ln latency of a class at an idle origin.
type baseline struct {
	ln float64
	n  float64 // samples
}

func (b *baseline) known() bool { return b.n >= knownAt }

// A shareWindow finds the greatest share refused in the last boundTicks.
type shareWindow struct {
	ticks    int
	greatest float64
}

// A plan is what the controller decided: all that the hot path reads.
type plan struct {
	limit   uint64 // in force
	steady  uint64 // without the dip
	low     uint64 // started up to here, a request teaches the baseline
	steer   uint64 // started from here on, it teaches K
	dipping bool
	// steering is false from the start of a dip until it has been read.
	steering bool
	mean     float64 // of the estimates of ln K
	// deviation is the standard deviation of ln latency at an idle origin, and
	// measured says that enough samples stand behind it, not the start value.
	deviation float64
	measured  bool
	era       uint32 // of the dip; tells the requests of two dips apart
	learned   uint16 // bit set of the classes with a baseline
	base      [classes]float64

	// For State.
	phase       Phase
	useful      float64
	utilization float64
	paused      bool
	dips        uint64
}

func (p *plan) known(c Class) bool { return p.learned>>c&1 != 0 }

// roles says what a request that starts as the n-th in flight may teach.
type roles uint8

const (
	roleLow    roles = 1 << iota // the baseline
	roleSteer                    // K
	roleMarked                   // the answer to a dip
)

func (p *plan) roles(n uint64) (r roles) {
	switch {
	case p.dipping:
		return roleMarked
	case n <= p.low:
		r = roleLow
	}
	if n >= p.steer {
		r |= roleSteer
	}
	return r
}

func newController(least, most int) controller {
	return controller{
		least: least, most: most,
		variance: startVariance, seen: varianceSamples,
		quiet: boundTicks, share: 1,
	}
}

// setBounds changes the bounds of the limit. Slow start, which depends on where it
// began, begins again only if that is no longer allowed.
func (c *controller) setBounds(least, most int) {
	c.least, c.most = least, most
	c.k, c.kDip = c.boundedK(c.k), c.boundedK(c.kDip)
	c.dip.limit = max(c.dip.limit, least)
	if c.phase == PhaseSlowStart && c.slow.level < least {
		c.enterSlowStart()
	}
}

// step learns from what happened in one tick.
func (c *controller) step(w *window) {
	c.noteDemand(w)
	if c.caps.observe(w); c.caps.pause > 0 {
		return // what comes back now was refused, or is left from before
	}
	c.learnBaselines(w)
	switch c.phase {
	case PhaseStart:
		c.stepStart(w)
	case PhaseSlowStart:
		c.stepSlowStart(w)
	default:
		c.caps.hold(c.k)
		c.stepSteady(w)
		c.k = min(c.k, c.caps.ceiling)
	}
}

// plan is what follows from what was learned.
func (c *controller) plan() plan {
	steady := c.allowed(c.limit())
	p := plan{
		limit: uint64(steady), steady: uint64(steady),
		low:   uint64(c.low()),
		steer: uint64(c.steerFrom(c.limit())),
		mean:  c.scatter.mean, deviation: math.Sqrt(c.variance), era: c.era, phase: c.phase, useful: c.useful(), dips: uint64(c.era),
	}
	p.measured = c.seen >= varianceSamples+evidence
	p.paused = c.caps.pause > 0
	if c.caps.fresh() {
		p.utilization = c.caps.utilization
	}
	p.steering = c.dip.stage == dipNone
	if c.dip.stage == dipRunning {
		p.limit, p.dipping, p.phase = uint64(min(c.dip.limit, steady)), true, PhaseDip
	}
	if c.caps.pause > 0 {
		p.limit = c.caps.probes()
	}
	for i := range c.class {
		if c.class[i].known() {
			p.learned |= 1 << i
		}
		p.base[i] = c.class[i].ln
	}
	return p
}

// limit is the limit without a dip.
func (c *controller) limit() int {
	switch c.phase {
	case PhaseStart:
		return c.startLimit()
	case PhaseSlowStart:
		// Requests with a share below one must reach the level too, or slow start
		// would wait forever for a request that does.
		return c.bounded(math.Ceil(float64(c.slow.level) / max(leastShare, c.share)))
	}
	return c.bounded(limitOf(math.Exp(c.k)))
}

func (c *controller) bounded(limit float64) int {
	return int(max(float64(c.least), min(float64(c.most), limit)))
}

// limitOf is the limit for a useful concurrency. Safety staffing: the reserve
// that keeps every slot busy grows with the root of their number. For every
// K >= 1 it exceeds K, so the limit never sticks.
func limitOf(useful float64) float64 { return gain*useful + math.Sqrt(useful) }

// usefulOf is the inverse of limitOf.
func usefulOf(limit float64) float64 {
	root := (math.Sqrt(1+4*gain*limit) - 1) / (2 * gain)
	return root * root
}

// useful is K as far as known: before the first estimate, the concurrency that
// would have led to the limit.
func (c *controller) useful() float64 {
	if c.phase == PhaseSteady {
		return math.Exp(c.k)
	}
	return usefulOf(float64(c.limit()))
}

// low is the number in flight up to which the origin counts as idle.
func (c *controller) low() int {
	switch c.phase {
	case PhaseStart:
		return c.start.low()
	case PhaseSlowStart:
		return c.slow.lowest()
	}
	return max(1, c.allowed(c.limit())/2)
}

// steerFrom is the number in flight from which on a request steers: it must
// find the origin as busy as the limit and the refused share allow.
func (c *controller) steerFrom(limit int) int {
	switch {
	case c.phase == PhaseStart && c.taught() >= trusted:
		return min(c.start.crowdFrom(), c.atLimit(limit))
	case c.phase != PhaseSlowStart:
		return c.atLimit(limit)
	case c.slow.level == c.slow.first:
		return math.MaxInt32 // nobody: it has nothing to be measured against
	}
	return min(c.slow.level, limit)
}

// atLimit is the number in flight that counts as the limit.
func (c *controller) atLimit(limit int) int {
	return int(math.Ceil(nearLimit * float64(c.reach(limit))))
}

// allowed is what reports of the origin leave of a limit that was learned.
func (c *controller) allowed(limit int) int {
	if c.phase != PhaseSteady {
		return limit
	}
	return max(c.least, int(float64(limit)*math.Exp(c.caps.ease)))
}

// reach is the number in flight that the traffic can bring about.
func (c *controller) reach(limit int) int { return int(threshold(uint64(c.allowed(limit)), c.share)) }

// bound reports whether the limit is binding.
func (c *controller) bound() bool { return c.quiet < boundTicks }

// noteDemand notes whether and to which share somebody found no room.
func (c *controller) noteDemand(w *window) {
	c.quiet++
	if w.blocked {
		c.quiet = 0
	}
	c.asked.greatest = max(c.asked.greatest, w.share)
	c.share = max(c.share, c.asked.greatest)
	if c.asked.ticks++; c.asked.ticks >= boundTicks {
		if c.asked.greatest > 0 {
			c.share = c.asked.greatest
		}
		c.asked = shareWindow{}
	}
}

// learnBaselines moves the baselines by the requests that started at low
// in-flight, and measures how latency scatters around them.
func (c *controller) learnBaselines(w *window) {
	for i := range c.class {
		b, low := &c.class[i], w.class[i].low
		if low.n > 0 {
			weight := max(low.n/(b.n+low.n), remembering(baselineRequests, low.n))
			b.ln += weight * (low.mean() - b.ln)
			b.n += low.n
		}
		if sq := w.class[i].lowSquare; sq.n > 0 {
			weight := max(sq.n/(c.seen+sq.n), remembering(baselineRequests, sq.n))
			c.variance += weight * (clamp(sq.mean(), maxSquare) - c.variance)
			c.variance = max(leastVariance, c.variance)
			c.seen += sq.n
		}
	}
}

// remembering is the weight of n new samples in a filter that remembers size:
// 1-(1-1/size)^n.
func remembering(size, n float64) float64 { return -math.Expm1(n * math.Log1p(-1/size)) }

// shiftBaselines multiplies every baseline: work of every class changed speed.
func (c *controller) shiftBaselines(ln float64) {
	for i := range c.class {
		if b := &c.class[i]; b.n > 0 {
			b.ln = max(lnLeastLatency, min(lnMostLatency, b.ln+ln))
		}
	}
}

// estimates returns the estimates of ln K of all classes, and how many requests
// could not give one for want of a baseline.
func (c *controller) estimates(w *window) (known sum, strangers float64) {
	for i := range w.class {
		at := w.class[i].steer
		strangers += w.class[i].failed.n
		if c.class[i].known() {
			known = known.plus(at.above(-c.class[i].ln))
		} else {
			strangers += at.n
		}
	}
	return known, strangers
}
