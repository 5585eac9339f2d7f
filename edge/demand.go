package edge

import (
	"cmp"
	"sync/atomic"
	"time"

	"spillway/edge/overflow"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/limit"
	"spillway/origin/scale"
)

// An arrivals counts the requests of a route that the cache did not answer, since
// they were looked at: safe ones, and others.
type arrivals struct {
	ladder [2]atomic.Int64 // that came to the ladder
	taken  [2]atomic.Int64 // that the origin was given
	// called are those at the ladder that had come before, and were sent to wait;
	// sentBack are visits that came and were sent to wait before the ladder.
	called, sentBack atomic.Int64
}

// note counts a request that came to the ladder.
func (a *arrivals) note(method string, g *waiting.Guest) {
	a.ladder[classIn(method)].Add(1)
	if g.Standing == waiting.Called {
		a.called.Add(1)
	}
}

// noteTaken counts a request that the origin is given.
func (a *arrivals) noteTaken(method string) { a.taken[classIn(method)].Add(1) }

// noteSentBack counts a visit that must not overtake those who wait, when it comes
// for the first time.
func (a *arrivals) noteSentBack(g *waiting.Guest) {
	if g.New() {
		a.sentBack.Add(1)
	}
}

// classIn is which of the two classes of a route a request belongs to.
func classIn(method string) int {
	if overflow.Safe(method) {
		return 0
	}
	return 1
}

// A demand is what the routes of one origin ask of it, as a number of requests
// that it would have to work on at once. It may be more than the origin can.
type demand struct {
	origin *origin.Origin
	routes []*route
	trend  overflow.Trend
	// paid is what the routes did cost when it was looked at last, in US dollars.
	paid  float64
	begun bool
}

// addDemand notes a route of an origin. A reload begins a new trend.
func (s *sites) addDemand(r *route) {
	for _, d := range s.demands {
		if d.origin == r.origin {
			d.routes = append(d.routes, r)
			return
		}
	}
	s.demands = append(s.demands, &demand{origin: r.origin, routes: []*route{r}})
}

// observe counts what has arrived since it was asked last, in a bin of that length.
func (d *demand) observe(bin time.Duration) scale.Asked {
	latency, sum := map[limit.Class]time.Duration{}, time.Duration(0)
	baselines := d.origin.Limiter().State().Baselines
	for _, b := range baselines {
		latency[b.Class] = b.Latency
		sum += b.Latency
	}
	typical := sum / time.Duration(max(1, len(baselines)))
	asked, all := scale.Asked{CostUSD: d.spent(), Waiting: d.waiting(typical)}, 0.0
	for _, r := range d.routes {
		work := 0.0
		for i := range r.latency {
			if known := latency[r.class+limit.Class(i)]; known > 0 {
				r.latency[i] = known
			}
			n, takes := float64(r.arrivals.ladder[i].Swap(0)), r.takes(i, typical)
			asked.Work += n * takes
			asked.Taken += float64(r.arrivals.taken[i].Swap(0)) * takes
			work += n * r.takes(i, 0)
		}
		r.work.Observe(work / bin.Seconds())
		all += work
		// Who waits asks once, however often it comes.
		asked.Work += float64(r.arrivals.sentBack.Swap(0)-r.arrivals.called.Swap(0)) * r.takes(0, typical)
	}
	d.trend.Observe(all / bin.Seconds())
	return asked
}

// takes is how long a request of one of the route's classes takes an idle origin, in
// seconds: as far as it is known of that class, or of the other, else what is typical
// of the origin.
func (r *route) takes(class int, typical time.Duration) float64 {
	return cmp.Or(r.latency[class], r.latency[1-class], typical).Seconds()
}

// waiting is how long those in the waiting room would take an idle origin, in
// seconds. Which route they wait for is not known: it is taken for the slowest.
func (d *demand) waiting(typical time.Duration) float64 {
	slowest := 0.0
	for _, r := range d.routes {
		if r.waits != nil {
			slowest = max(slowest, r.takes(0, typical))
		}
	}
	room := d.routes[0].room
	if room == nil || slowest == 0 {
		return 0
	}
	return float64(room.State().Visitors) * slowest
}

// spent is what the routes did cost since it was asked last, in US dollars.
func (d *demand) spent() float64 {
	was, known := d.paid, d.begun
	d.paid, d.begun = 0, true
	for _, r := range d.routes {
		if r.purse != nil {
			d.paid += r.purse.tally.Cost()
		}
	}
	if !known {
		return 0 // what was spent before a reload is nothing new
	}
	return d.paid - was
}
