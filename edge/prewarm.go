package edge

import (
	"context"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/origin/faas"
)

// Prewarm keeps functions ready for what is to come, until ctx ends: for what is
// planned, and for what arrivals are about to be beyond their origins. Origins are
// told what is asked of them.
func (s *Server) Prewarm(ctx context.Context) error {
	tick := time.NewTicker(overflow.Bin)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now := time.Now()
			s.settings.Load().sites.prewarm(now, now.Sub(last))
			last = now
			tick.Reset(overflow.Bin) // a short bin after a long one would tell of chance alone
		}
	}
}

// prewarm observes one more bin, and makes ready what will be needed. A crowd keeps
// the processors busy, so that a bin may have become longer.
func (s *sites) prewarm(now time.Time, bin time.Duration) {
	rates := map[*faas.Function]float64{} // calls a second
	for _, d := range s.demands {
		d.origin.Follow(now, d.observe(bin))
		if capacity, known := d.capacity(); known {
			d.forecast(capacity, rates)
		}
	}
	for _, f := range s.functions {
		f.Prewarm(now, overflow.Instances(rates[f], f.CallTime()))
	}
}

// capacity is how much of the work that is asked of it the origin can do at once, if
// that is known: by the learned latencies, as the work is.
func (d *demand) capacity() (float64, bool) {
	if !d.origin.Up() {
		return 0, true
	}
	useful := d.origin.Limiter().State().Useful
	return useful / d.origin.WorkFactor(), useful > 0
}

// forecast adds to rates what the functions will be called for. A route's part of
// what the origin will not take is its part of what arrives.
func (d *demand) forecast(capacity float64, rates map[*faas.Function]float64) {
	for _, r := range d.routes {
		if r.policy == nil || r.policy.PrewarmAt == 0 || r.takes(0, 0) == 0 || d.trend.Level() == 0 {
			continue
		}
		ahead := d.trend.Ahead(r.functions[0].StartTime() + overflow.Bin)
		excess := ahead - r.policy.PrewarmAt*capacity
		r.share(excess*r.work.Level()/d.trend.Level()/r.takes(0, 0), rates)
	}
}

// share spreads a rate of calls over the route's functions in their order, each up
// to its cap, and past those that calls go past.
func (r *route) share(rate float64, rates map[*faas.Function]float64) {
	for _, f := range r.functions {
		if rate <= 0 {
			return
		}
		switch f.Ready("") {
		case outcome.None, outcome.FunctionBusy, outcome.SharedBusy:
		default:
			continue // it fails, throttles, or cannot be paid
		}
		part := min(rate, max(0, f.MaxRate()-rates[f]))
		rates[f] += part
		rate -= part
	}
}
