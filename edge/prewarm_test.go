package edge

import (
	"log/slog"
	"math"
	"testing"
	"time"

	"spillway/edge/overflow"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
	"spillway/origin/limit"
	"spillway/origin/scale"
)

// TestDemandKnowsHowLongItsBinWas: what arrived while the processors had no time to look
// did not arrive within one bin.
func TestDemandKnowsHowLongItsBinWas(t *testing.T) {
	o, err := origin.New("app", origin.Config{Servers: []string{"http://127.0.0.1:1"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &route{latency: [2]time.Duration{20 * time.Millisecond}}
	d := &demand{origin: o, routes: []*route{r}}
	for bins := range 4 {
		r.arrivals.ladder[0].Store(int64(10 * (bins + 1)))
		d.observe(time.Duration(bins+1) * overflow.Bin)
		if got := d.trend.Level(); math.Abs(got-2) > 1e-9 { // 100 requests a second
			t.Errorf("after %d bins in one: %v requests at work", bins+1, got)
		}
	}
}

// TestForecastSpreadsWhatTheOriginWillNotTake: two routes of one origin, of which
// one may overflow, to a small function first.
func TestForecastSpreadsWhatTheOriginWillNotTake(t *testing.T) {
	function := func(slots int, b *budget.Budget) *faas.Function {
		return faas.New("f", faas.Config{MaxConcurrency: slots}, nil, b, slog.New(slog.DiscardHandler))
	}
	spill := budget.New("spill", budget.Config{PerHour: 1})
	small, large := function(2, spill), function(1000, nil) // a call takes 100 ms until more is known
	spilling := &route{policy: overflow.New(overflow.Config{PrewarmAt: 0.8}), functions: []*faas.Function{small, large}, latency: [2]time.Duration{20 * time.Millisecond}}
	staying := &route{latency: [2]time.Duration{20 * time.Millisecond}}
	never := &route{policy: overflow.New(overflow.Config{}), functions: []*faas.Function{large}, latency: [2]time.Duration{20 * time.Millisecond}}
	f := func(what string, capacity, wantSmall, wantLarge float64, routes ...*route) {
		t.Helper()
		d := &demand{routes: routes}
		for _, r := range routes {
			r.work = overflow.Trend{}
			r.work.Observe(10) // 500 requests a second
		}
		d.trend.Observe(10 * float64(len(routes)))
		rates := map[*faas.Function]float64{}
		d.forecast(capacity, rates)
		if math.Abs(rates[small]-wantSmall) > 1e-9 || math.Abs(rates[large]-wantLarge) > 1e-9 {
			t.Errorf("%s: %v and %v calls a second, want %v and %v", what, rates[small], rates[large], wantSmall, wantLarge)
		}
	}
	f("an origin that can take it", 13, 0, 0, spilling)
	f("one that is full at that", 12.5, 0, 0, spilling)
	f("a little too much", 12, 20, 0, spilling)
	f("more than the small function can", 10, 20, 80, spilling)
	f("half of it stays", 20, 20, 80, spilling, staying)
	f("an origin that is down", 0, 20, 480, spilling)
	f("prewarming is off", 0, 0, 0, never)
	if err := spill.Empty(time.Now()); err != nil {
		t.Fatal(err)
	}
	f("nobody pays for the small function", 10, 0, 100, spilling)
}

// TestDemandKnowsHowMuchMoreWorkThereIs: an origin that four requests keep busy, while
// the latencies say two, can do half of what they say.
func TestDemandKnowsHowMuchMoreWorkThereIs(t *testing.T) {
	o, err := origin.New("app", origin.Config{
		Servers: []string{"http://127.0.0.1:1"}, Limit: limit.Config{Min: 1, Max: 100},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o.Limiter().Restore(limit.Learned{Useful: 4, Baselines: []limit.Baseline{{Latency: 20 * time.Millisecond}}})
	for range 4 {
		permit, free := o.Limiter().Acquire(0, 1)
		if !free {
			t.Fatal("no permit")
		}
		defer permit.Release(limit.Cancel)
	}
	d, at := &demand{origin: o}, time.Now()
	f := func(length time.Duration, want float64) {
		t.Helper()
		for range length / overflow.Bin {
			at = at.Add(overflow.Bin)
			o.Follow(at, scale.Asked{Work: 2 * overflow.Bin.Seconds(), Taken: 2 * overflow.Bin.Seconds()})
		}
		if got, known := d.capacity(); !known || math.Abs(got-want) > 1e-6 {
			t.Errorf("after %v: %v, %t; want %v", length, got, known, want)
		}
	}
	f(time.Second, 4)
	f(time.Minute, 2)
}
