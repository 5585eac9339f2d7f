package limit

import (
	"math"
	"time"
)

const (
	// strained is the utilization above which an origin gets no more than it has,
	// overstrained the one above which it gets less: what ORCA's users treat as
	// full. What lies between keeps the two rules from fighting.
	strained     = 0.90
	overstrained = 0.95
	// greatestUtilization bounds one report. ORCA allows more than 1, for work that
	// waits; how much more says nothing.
	greatestUtilization = 2
	// reportTicks is how long a report holds.
	reportTicks = int(2 * time.Second / tickInterval)
	// reportWeight is that of a tick's reports in their running mean.
	reportWeight = 0.2
	// easeRate is how much of the excess ln of the limit follows in a tick: all of
	// it within a second. Origins report means of about that time, and a faster
	// loop around such a delay would swing.
	easeRate = 0.01
	// mostEase bounds what reports can do: half of what was learned without them
	// stays, however absurd they are.
	mostEase = math.Ln2
)

const (
	// pleaRun is how many answers in a row ask for a pause before it is the origin
	// that asks. One visitor's 429 says nothing about the others (RFC 6585 section
	// 4 leaves open who is counted), so the caller tells of each visitor's once, and
	// any ordinary answer shows that the origin works: nobody can shut it off for
	// others by being refused himself.
	pleaRun = 16
	// mostPause bounds one pause, whatever is asked for.
	mostPause = time.Minute
	// probeTicks is the least distance of the requests that find out during a pause
	// whether the origin answers again, from the end of one to the start of the next.
	probeTicks = 25
)

// Report tells the limiter how busy the origin says that it is, such as by ORCA's
// application_utilization: 1 is fully. While fresh reports average above 0.9 the
// limit does not rise, above 0.95 it falls, to half of what was learned at the
// least. Reports hold for two seconds. What is not a number is ignored, and what
// lies outside of 0 to 2 is taken for the bound. It is safe for concurrent use
// and does not block.
func (l *Limiter) Report(utilization float64) {
	if math.IsNaN(utilization) {
		return
	}
	l.anyShard().reports.add(max(0, min(greatestUtilization, utilization)))
}

// Plead tells the limiter for how long an answer asks to be left alone (RFC 9110
// section 10.2.3); zero is an ordinary answer, which asks for nothing. When sixteen
// in a row have asked, no permits are given out for as long as the last of them
// wants, a minute at most, but for one request every quarter of a second; the
// first ordinary answer ends the pause. Answers that say neither, such as errors
// without a Retry-After, are not told, nor is a refusal that is about a visitor who
// was refused before. It is safe for concurrent use and does not
// block.
func (l *Limiter) Plead(pause time.Duration) {
	if pause > 0 {
		l.asked.Store(int64(min(pause, mostPause)))
		l.pleas.Add(1)
	} else if l.pleas.Load() != 0 {
		l.pleas.Store(0)
	}
}

// caps are what the origin says about itself. They lower the limit for a time
// and teach nothing.
type caps struct {
	utilization float64 // running mean of the reports
	age         int     // ticks since the last report
	ease        float64 // ln of the part of the limit that is left, 0 or less
	held        bool    // the limit may not rise, and ln K not above
	ceiling     float64
	pause       int    // ticks left
	unprobed    int    // ticks of the pause since the origin had something to do
	spent       uint32 // pleas that the last pause has answered
}

// observe follows reports and pleas.
func (c *caps) observe(w *window) {
	c.observeReports(w.reports)
	switch {
	case w.pleas < c.spent, w.pleas == 0: // an ordinary answer came between
		c.pause, c.spent = 0, 0
	case c.pause > 0:
		c.pause--
		c.spent = w.pleas
		if c.unprobed++; !w.idle() {
			c.unprobed = 0
		}
	case w.pleas-c.spent >= pleaRun:
		c.pause, c.spent, c.unprobed = int(w.asked/tickInterval), w.pleas, 0
	}
}

func (c *caps) observeReports(reports sum) {
	switch {
	case reports.n > 0 && c.fresh():
		c.utilization += reportWeight * (reports.mean() - c.utilization)
		c.age = 0
	case reports.n > 0:
		c.utilization, c.age = reports.mean(), 0
	default:
		c.age++
	}
	switch {
	case !c.fresh():
		c.ease = 0
	case c.utilization > overstrained:
		c.ease -= easeRate * (c.utilization - overstrained)
	case c.utilization < strained:
		c.ease += easeRate * (strained - c.utilization)
	}
	c.ease = max(-mostEase, min(0, c.ease))
}

func (c *caps) fresh() bool { return c.utilization > 0 && c.age < reportTicks }

// holds reports whether the limit may not rise.
func (c *caps) holds() bool { return c.fresh() && c.utilization > strained }

// eases reports whether the limit is less than what was learned.
func (c *caps) eases() bool { return c.ease < 0 }

// hold notes what ln K may not rise above while reports hold the limit: what it was
// when they began to. Below that K goes on to follow the origin both ways, or it
// would sink by noise alone for as long as they hold.
func (c *caps) hold(k float64) {
	held := c.holds()
	switch {
	case !held:
		c.ceiling = math.Inf(1)
	case !c.held:
		c.ceiling = k
	}
	c.held = held
}

// probes is the limit during a pause. A probe waits for whoever comes next: at a
// quiet site nobody would come in a given tick.
func (c *caps) probes() uint64 {
	if c.unprobed >= probeTicks {
		return 1
	}
	return 0
}
