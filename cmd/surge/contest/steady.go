package contest

import (
	"math"
	"time"

	"spillway/cmd/surge/contest/ideal"
)

// Convergence and recovery are looked for in windows that begin every slide after
// the change and are wide enough to hold leastRequests at the origin's capacity.
const (
	slide         = 50 * time.Millisecond
	leastWidth    = time.Second
	leastRequests = 40
)

// width is that of the windows.
func (p *plan) width() time.Duration {
	return max(leastWidth, time.Duration(leastRequests/p.scenario.capacity()*float64(time.Second)))
}

// step is when the load begins to exceed what the origin can do: the beginning of
// the ramp, for an edge may act on that.
func (p *plan) step() (time.Duration, bool) {
	start := time.Duration(0)
	for _, ph := range p.phases {
		if max(ph.From, ph.To) > p.scenario.capacity() {
			return start, true
		}
		start += ph.Length
	}
	return 0, false
}

// release is when the load last falls below what the origin can do.
func (p *plan) release() (at time.Duration, ok bool) {
	capacity, start := p.scenario.capacity(), time.Duration(0)
	for _, ph := range p.phases {
		if ph.From > capacity && ph.To < capacity {
			at, ok = start+time.Duration((ph.From-capacity)/(ph.From-ph.To)*float64(ph.Length)), true
		}
		start += ph.Length
	}
	return at, ok
}

// convergence is how long after the step the first window begins in which the
// origin does nine tenths of the ideal's work and nine in ten of its answers take at
// most 1.5 times as long as in the second half of the same load. The step's ramp
// counts from where the load exceeds the capacity.
func (e *evidence) convergence(step time.Duration, real, ideals []stay) float64 {
	p := e.plan
	from, end := p.overload(step)
	steady := quantile(e.admitted(ideal.Window{From: from + (end-from)/2, To: end}), .9)
	return e.first(from, end, func(w ideal.Window) bool {
		slow := quantile(e.admitted(w), .9)
		return work(real, w) >= .9*work(ideals, w) && slow <= 1.5*steady
	})
}

// overload is the stretch of time from where the load exceeds the capacity, at or
// after the step, to the end of the first level that it holds.
func (p *plan) overload(step time.Duration) (from, end time.Duration) {
	capacity, start := p.scenario.capacity(), time.Duration(0)
	from = step
	for _, ph := range p.phases {
		next := start + ph.Length
		switch {
		case start < step:
		case ph.From < capacity && ph.To > capacity:
			from = start + time.Duration((capacity-ph.From)/(ph.To-ph.From)*float64(ph.Length))
		case ph.From == ph.To:
			return from, next
		}
		start = next
	}
	return from, start
}

// recovery is how long after the release the first window begins in which nobody
// gets an error, nine in ten answers of the origin take at most 1.5 times as long,
// and at most 5 points more leave the origin than in what is left of the level
// after it.
func (e *evidence) recovery(release time.Duration) float64 {
	p := e.plan
	end := p.length()
	for i := range p.phases {
		if w := p.window(i); w.From >= release {
			end = w.To
			break
		}
	}
	before := ideal.Window{From: release + (end-release)/2, To: end}
	spilled := e.spilled(before)
	// The yardstick is the ideal's latency below 1x, for a contender that never
	// recovers is steady too.
	usual := quantile(p.admitted(before), .9)
	return e.first(release, p.length(), func(w ideal.Window) bool {
		slow := quantile(e.admitted(w), .9)
		return e.errors(w) == 0 && e.spilled(w) <= spilled+.05 && (slow <= 1.5*usual+recoveryFloor || math.IsNaN(slow))
	})
}

// recoveryFloor is what a real network, TLS and this machine add to the ideal's
// latency, in milliseconds.
const recoveryFloor = 5

// first returns how long after from the first window begins that is well, in
// seconds.
func (e *evidence) first(from, end time.Duration, well func(ideal.Window) bool) float64 {
	width := min(e.plan.width(), end-from)
	for at := from; at+width <= end; at += slide {
		if well(ideal.Window{From: at, To: at + width}) {
			return (at - from).Seconds()
		}
	}
	return never
}
