package edge

import (
	"context"
	"time"

	"spillway/edge/overflow"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/limit"
)

// A demand is what the routes of one origin ask of it, as a number of requests
// that it would have to work on at once. It may be more than the origin can.
type demand struct {
	origin *origin.Origin
	routes []*route
	trend  overflow.Trend
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

// Prewarm keeps functions ready for what is to come, until ctx ends: for what is
// planned, and for what arrivals are about to be beyond their origins.
func (s *Server) Prewarm(ctx context.Context) error {
	tick := time.NewTicker(overflow.Bin)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.settings.Load().sites.prewarm(now)
		}
	}
}

// prewarm observes one more bin, and makes ready what will be needed.
func (s *sites) prewarm(now time.Time) {
	rates := map[*faas.Function]float64{} // calls a second
	for _, d := range s.demands {
		d.observe()
		if capacity, known := d.capacity(); known {
			d.forecast(capacity, rates)
		}
	}
	for _, f := range s.functions {
		f.Prewarm(now, overflow.Instances(rates[f], f.CallTime()))
	}
}

// observe counts what has arrived since it was asked last.
func (d *demand) observe() {
	latency := map[limit.Class]time.Duration{}
	for _, b := range d.origin.Limiter().State().Baselines {
		latency[b.Class] = b.Latency
	}
	all := 0.0
	for _, r := range d.routes {
		work := float64(r.arrivals.Swap(0)) / overflow.Bin.Seconds()
		if known := latency[r.class]; known > 0 {
			r.latency = known
		}
		work *= r.latency.Seconds()
		r.work.Observe(work)
		all += work
	}
	d.trend.Observe(all)
}

// capacity is how many requests the origin can work on at once, if that is known.
func (d *demand) capacity() (float64, bool) {
	if !d.origin.Up() {
		return 0, true
	}
	useful := d.origin.Limiter().State().Useful
	return useful, useful > 0
}

// forecast adds to rates what the functions will be called for. A route's part of
// what the origin will not take is its part of what arrives.
func (d *demand) forecast(capacity float64, rates map[*faas.Function]float64) {
	for _, r := range d.routes {
		if r.policy == nil || r.policy.PrewarmAt == 0 || r.latency == 0 || d.trend.Level() == 0 {
			continue
		}
		ahead := d.trend.Ahead(r.functions[0].StartTime() + overflow.Bin)
		excess := ahead - r.policy.PrewarmAt*capacity
		r.share(excess*r.work.Level()/d.trend.Level()/r.latency.Seconds(), rates)
	}
}

// share spreads a rate of calls over the route's functions in their order, each up
// to its cap.
func (r *route) share(rate float64, rates map[*faas.Function]float64) {
	for _, f := range r.functions {
		if rate <= 0 {
			return
		}
		part := min(rate, max(0, f.MaxRate()-rates[f]))
		rates[f] += part
		rate -= part
	}
}
