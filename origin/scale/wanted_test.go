package scale

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestWanted(t *testing.T) {
	f := func(what string, work, unit float64, servers int, target, ratio float64, wanted int, known bool) {
		t.Helper()
		w := want(work, unit, servers, target)
		if math.Abs(w.Ratio-ratio) > 1e-9 || w.Servers != wanted || w.Known != known {
			t.Errorf("%s: %+v, want %v, %d servers, known %v", what, w, ratio, wanted, known)
		}
	}
	f("half of it in use", 4, 4, 2, 0.8, 0.625, 2, true)
	f("as it should be", 6.4, 4, 2, 0.8, 1, 2, true)
	f("a hair more", 6.5, 4, 2, 0.8, 1.015625, 2, true)
	f("three times what it can do", 24, 4, 2, 0.8, 3.75, 8, true)
	f("3.4 times what is there", 21.76, 4, 2, 0.8, 3.4, 7, true)
	f("nothing asked", 0, 4, 2, 0.8, 0, 1, true)
	f("all of it may be in use", 12, 4, 2, 1, 1.5, 3, true)
	f("more than can be", 1e9, 4, 2, 0.8, 100, 200, true)
	f("infinitely much", math.Inf(1), 4, 2, 0.8, 100, 200, true)

	f("nothing learned", 24, 0, 2, 0.8, 1, 2, false)
	f("nothing there", 24, 4, 0, 0.8, 1, 1, false)
	f("no target", 24, 4, 2, 0, 1, 2, false)
	f("no number", math.NaN(), 4, 2, 0.8, 1, 2, false)
	f("an origin of no number", 24, math.NaN(), 2, 0.8, 1, 2, false)
	f("an origin without end", 24, math.Inf(1), 2, 0.8, 1, 2, false)
	f("nothing of nothing", 0, math.SmallestNonzeroFloat64, 2, 0.1, 1, 2, false)
	f("less than nothing", -1, 4, 2, 0.8, 1, 2, false)
}

// anyNumber is a float of any kind, mostly one that could be.
func anyNumber(t *rapid.T, name string) float64 {
	return rapid.OneOf(
		rapid.Float64Range(0, 1e6), rapid.Float64(),
		rapid.SampledFrom([]float64{0, math.Inf(1), math.Inf(-1), math.NaN(), math.SmallestNonzeroFloat64, math.MaxFloat64}),
	).Draw(t, name)
}

func TestWantedIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		servers := rapid.IntRange(-1, 1000).Draw(t, "servers")
		w := want(anyNumber(t, "work"), anyNumber(t, "unit"), servers, anyNumber(t, "target"))
		if !(w.Ratio >= 0 && w.Ratio <= mostRatio) || w.Servers < 1 || w.Servers > mostRatio*max(1, servers) {
			t.Fatalf("%+v", w)
		}
		if !w.Known && (w.Ratio != 1 || w.Servers != max(1, servers)) {
			t.Fatalf("what is not known changes something: %+v", w)
		}
	})
}

// TestWantedFollowsWhatIsAsked: more work never wants less, and to measure all times
// in another unit changes nothing.
func TestWantedFollowsWhatIsAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, latency := rapid.Float64Range(0, 1e4).Draw(t, "rate"), rapid.Float64Range(1e-3, 10).Draw(t, "latency")
		unit, servers := rapid.Float64Range(0.5, 1e4).Draw(t, "unit"), rapid.IntRange(1, 100).Draw(t, "servers")
		target := rapid.Float64Range(0.1, 1).Draw(t, "target")
		w := want(rate*latency, unit, servers, target)
		if more := want(rate*latency*rapid.Float64Range(1, 100).Draw(t, "more"), unit, servers, target); more.Ratio < w.Ratio || more.Servers < w.Servers {
			t.Fatalf("%+v of more than %+v", more, w)
		}
		// By a power of two, so that nothing is rounded.
		c := math.Ldexp(1, rapid.IntRange(-10, 10).Draw(t, "c"))
		if scaled := want(rate/c*(latency*c), unit, servers, target); scaled != w {
			t.Fatalf("%+v instead of %+v", scaled, w)
		}
		// An origin that does as it is told has what it should have.
		if then := want(rate*latency, unit, w.Servers, target); w.Ratio < mostRatio && then.Ratio > 1+spare {
			t.Fatalf("%+v of %+v", then, w)
		}
	})
}
