package limit

import (
	"math"
	"testing"
)

// The scatter of latencies tells an origin that queues from one that shares, and
// with it the useful concurrency is found for both.
func TestScatterTellsQueueFromSharing(t *testing.T) {
	f := func(kind originKind, cv, leastExcess, mostExcess float64) {
		t.Helper()
		const seeds = 8
		s := small(16, 0.02, cv, kind)
		s.phases = []phase{{load: 0.5, seconds: 20}, {load: 3, seconds: 30}}
		excess, k := 0.0, 0.0
		for seed := range seeds {
			c := &simulate(s, uint64(seed+1)).limiter.control
			excess += c.scatter.excess(c.variance) / seeds
			k += c.k / seeds
		}
		useful := math.Exp(k)
		t.Logf("%v cv %v: K lacks %.2f, is %.1f", kind, cv, excess, useful)
		if excess < leastExcess || excess > mostExcess || math.Abs(useful-16) > 4 {
			t.Errorf("%v cv %v: K lacks %.2f and is %.1f; want %v to %v, 16", kind, cv, excess, useful, leastExcess, mostExcess)
		}
	}
	f(fifo, 1, 0.1, 0.35)
	f(fifo, 2, 0.35, 0.8)
	f(sharing, 1, 0, 0.1)
	f(sharing, 2, 0, 0.2)
}

// Baselines that few samples stand behind are looked at sooner, unless latency is
// so steady that few are enough.
func TestYoungBaselinesAreLookedAtSooner(t *testing.T) {
	f := func(samples, variance, want float64) {
		t.Helper()
		c := newController(1, defaultMax)
		c.class[0], c.variance = baseline{math.Log(2e7), samples}, variance
		if got := c.dipDistance(); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v samples, variance %v: a dip every %v, want %v", samples, variance, got, want)
		}
	}
	f(8, 1.6, dipSoon)
	f(64, 1.6, dipEvery/4)
	f(64, startVariance, dipEvery/4)
	f(256, 1.6, dipEvery)
	f(1e6, 1.6, dipEvery)
	f(32, leastVariance, dipEvery)
}

// A small origin that has been half loaded is not filled to 32 first.
func TestCrowdIsMetBeforeItFillsTheOrigin(t *testing.T) {
	const seeds = 8
	s := small(2, 0.1, 1, sharing)
	s.phases = []phase{{load: 0.5, seconds: 20}, {load: 3, seconds: 4}}
	goodput := 0.0
	for seed := range seeds {
		first := &span{from: 20, to: 24}
		sim := simulate(s, uint64(seed+1), first)
		goodput += first.work / sim.capacity(20, 24) / seeds
	}
	t.Logf("goodput %.3f in the first four seconds", goodput)
	if goodput < 0.7 {
		t.Errorf("goodput %.3f in the first four seconds, want 0.7", goodput)
	}
}
