package contest

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	f := func(q, want float64, values ...float64) {
		t.Helper()
		if got := quantile(values, q); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("quantile %g of %v: %g, want %g", q, values, got, want)
		}
	}
	f(.5, math.NaN())
	f(.99, 7, 7)
	f(.5, 2, 3, 1, 2)
	f(.5, 2, 4, 1, 3, 2)
	f(0, 1, 3, 1, 2)
	f(1, 3, 3, 1, 2)
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	f(.99, 99, hundred...)
	f(.999, 100, hundred...)
}

func TestMedianAndSpread(t *testing.T) {
	f := func(median_, spread float64, values ...float64) {
		t.Helper()
		same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
		if got := median(values); !same(got, median_) {
			t.Errorf("median of %v: %g, want %g", values, got, median_)
		}
		if got := spreadOf(values); !same(got, spread) {
			t.Errorf("spread of %v: %g, want %g", values, got, spread)
		}
	}
	nan := math.NaN()
	f(nan, nan)
	f(nan, nan, nan)
	f(2, nan, 2)
	f(2.5, 1.5, 4, 1, 3, 2)
	f(2, 1, 3, nan, 1, 2)
}

// A difference counts when it is larger than half the range of the differences.
func TestPairing(t *testing.T) {
	f := func(ours, theirs map[uint64]float64, seeds int, difference, spread float64, counts bool) {
		t.Helper()
		p := pairUp(ours, theirs)
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 || math.IsNaN(a) && math.IsNaN(b) }
		if p.Seeds != seeds || !near(p.Difference, difference) || !near(p.Spread, spread) || p.Counts() != counts {
			t.Errorf("%v and %v: %+v, counts %v", ours, theirs, p, p.Counts())
		}
	}
	type by = map[uint64]float64
	nan := math.NaN()
	f(by{1: 10, 2: 20, 3: 30}, by{1: 9, 2: 18, 3: 27}, 3, 2, 1, true) // seeds differ more than contenders
	f(by{1: 10, 2: 20, 3: 30}, by{1: 11, 2: 18, 3: 31}, 3, 0, 1.5, false)
	f(by{1: 1, 2: 1, 3: 1}, by{1: 1, 2: 1, 3: 1}, 3, 0, 0, false)
	f(by{1: 2, 2: 2}, by{1: 1, 2: 1}, 2, 1, 0, true)
	f(by{1: 5}, by{1: 1}, 1, 4, nan, false) // one seed says nothing
	f(by{1: 5, 2: nan, 3: 7}, by{1: 1, 2: 1}, 1, 4, nan, false)
	f(by{1: 5}, by{2: 5}, 0, nan, nan, false)
}
