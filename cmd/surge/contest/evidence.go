package contest

import (
	"slices"
	"time"

	"spillway/cmd/surge/contest/ideal"
	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/functions"
	"spillway/cmd/surge/origin"
)

// evidence is what a run left behind, at the client, at the origin and at the
// platform. All measures are computed from it and from the plan, none from what
// the contender says of itself, but for the ledger.
type evidence struct {
	plan    *plan
	start   time.Time
	samples []load.Sample // by request
	visits  []origin.Visit
	bill    functions.Bill
	stats   functions.Stats

	cpu    time.Duration // of the contender
	own    time.Duration // of the crowd, the origin and the functions
	ledger float64       // what it says the functions cost, in US dollars; NaN if it says nothing
	limits []float64     // that Spillway had learned, by second
	busy   []float64     // share of the machine's CPU time in use, by second
}

// A stay is time at the origin that was of use to a visitor.
type stay struct {
	enter, end time.Duration
	demand     float64 // slot seconds
}

// stays returns those of the run: done in time, and the visitor got the answer. What
// happens in a foreign origin is not seen; there a stay is as long as for the
// visitor.
func (e *evidence) stays() []stay {
	if e.plan.scenario.Foreign != "" {
		return e.visibleStays()
	}
	var all []stay
	for _, v := range e.visits {
		if v.Fate != origin.Useful || v.Number < 0 || v.Number >= int64(len(e.samples)) {
			continue
		}
		if s := e.samples[v.Number]; s.OK() && s.Place == "origin" && s.Took <= e.plan.scenario.Patience {
			all = append(all, stay{v.Arrived.Sub(e.start), v.Ended.Sub(e.start), v.Demand.Seconds()})
		}
	}
	return all
}

func (e *evidence) visibleStays() []stay {
	var all []stay
	for i, s := range e.samples {
		if r := e.plan.requests[i]; s.OK() && s.Place == "origin" && s.Took <= e.plan.scenario.Patience {
			all = append(all, stay{r.At, r.At + s.Took, r.demand.Seconds()})
		}
	}
	return all
}

// idealStays returns those of the ideal that does the most work. What is late is of
// no use there either.
func (p *plan) idealStays() []stay {
	var all []stay
	for i, f := range p.ideal.most {
		if f.Served && f.End+hop-p.requests[i].At <= p.scenario.Patience {
			all = append(all, stay{f.Enter, f.End, p.requests[i].demand.Seconds()})
		}
	}
	return all
}

// work is the slot seconds of the stays that lie in the window.
func work(stays []stay, w ideal.Window) float64 {
	sum := 0.0
	for _, s := range stays {
		sum += w.Share(s.enter, s.end) * s.demand
	}
	return sum
}

// An occupancy tells how many requests were inside the origin at any time.
type occupancy struct {
	at     []time.Duration
	inside []int // from at on
}

func (e *evidence) occupancy() occupancy {
	type step struct {
		at time.Duration
		by int
	}
	var steps []step
	for _, v := range e.visits {
		if v.Fate != origin.Rejected {
			steps = append(steps, step{v.Arrived.Sub(e.start), 1}, step{v.Ended.Sub(e.start), -1})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	var o occupancy
	n := 0
	for _, s := range steps {
		n += s.by
		o.at, o.inside = append(o.at, s.at), append(o.inside, n)
	}
	return o
}

// when returns how many were inside at the time.
func (o *occupancy) when(at time.Duration) int {
	i, exact := slices.BinarySearch(o.at, at)
	for exact && i < len(o.at) && o.at[i] == at {
		i++ // after all that happened at that very time
	}
	if i == 0 {
		return 0
	}
	return o.inside[i-1]
}

// slotsAt is how many slots the origin had.
func (p *plan) slotsAt(at time.Duration) int {
	slots := p.scenario.Origin.Slots
	for _, c := range p.changes {
		if c.At <= at {
			slots = c.Slots
		}
	}
	return slots
}

// between returns the indexes of the requests that came in the window.
func (p *plan) between(w ideal.Window) (from, to int) {
	byTime := func(r planned, at time.Duration) int { return int(r.At - at) }
	from, _ = slices.BinarySearchFunc(p.requests, w.From, byTime)
	to, _ = slices.BinarySearchFunc(p.requests, w.To, byTime)
	return from, to
}

// admitted returns the latencies, in milliseconds, of the answers of the origin to
// requests of the window over the shared connections: those of a slow network say
// nothing of the edge.
func (e *evidence) admitted(w ideal.Window) []float64 {
	var all []float64
	from, to := e.plan.between(w)
	for i := from; i < to; i++ {
		if s := e.samples[i]; s.OK() && s.Place == "origin" && !e.plan.requests[i].Alone {
			all = append(all, milliseconds(s.Took))
		}
	}
	return all
}

// admitted returns the ideal's latencies.
func (p *plan) admitted(w ideal.Window) []float64 {
	var all []float64
	from, to := p.between(w)
	for i := from; i < to; i++ {
		if f := p.ideal.fates[i]; f.Served && !p.requests[i].Alone {
			all = append(all, milliseconds(f.End+hop-p.requests[i].At+p.distance()))
		}
	}
	return all
}

// inside returns how long useful requests of the window stayed in the origin, in
// milliseconds.
func (e *evidence) inside(w ideal.Window) []float64 {
	var all []float64
	for _, v := range e.visits {
		if at := v.Arrived.Sub(e.start); v.Fate == origin.Useful && w.From <= at && at < w.To {
			all = append(all, milliseconds(v.Ended.Sub(v.Arrived)))
		}
	}
	return all
}

// distance is the round trip that every request pays.
func (p *plan) distance() time.Duration {
	if n := p.scenario.Network; n != nil {
		return n.RTT
	}
	return 0
}

// unloaded is the 99th percentile of the latency that an origin without anybody
// else in it would give, in seconds.
func (p *plan) unloaded() float64 {
	demands := make([]float64, len(p.requests))
	for i, r := range p.requests {
		demands[i] = (r.demand + p.distance()).Seconds()
	}
	return quantile(demands, .99)
}

// unloadedIn is unloaded for the requests of a window, in milliseconds.
func (p *plan) unloadedIn(w ideal.Window) float64 {
	var demands []float64
	from, to := p.between(w)
	for _, r := range p.requests[from:to] {
		demands = append(demands, milliseconds(r.demand+p.distance()))
	}
	return quantile(demands, .99)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
