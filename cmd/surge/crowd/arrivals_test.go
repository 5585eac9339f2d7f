package crowd

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func draws(phases []Phase, seed uint64) []time.Duration {
	var out []time.Duration
	for a := newArrivals(phases, seed); ; {
		at, _, ok := a.next()
		if !ok {
			return out
		}
		out = append(out, at)
	}
}

// TestArrivalsMean checks the number of arrivals of phases and ramps: its deviation
// from the expected one is that of a Poisson process, whose variance is its mean.
func TestArrivalsMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var phases []Phase
		var want float64
		for range rapid.IntRange(1, 4).Draw(t, "phases") {
			p := Phase{
				From:   rapid.Float64Range(0, 500).Draw(t, "from"),
				To:     rapid.Float64Range(0, 500).Draw(t, "to"),
				Length: time.Duration(rapid.Int64Range(1, 20_000).Draw(t, "ms")) * time.Millisecond,
			}
			phases = append(phases, p)
			want += p.expected()
		}
		got := float64(len(draws(phases, rapid.Uint64().Draw(t, "seed"))))
		if math.Abs(got-want) > 6*math.Sqrt(want)+6 {
			t.Fatalf("%g arrivals, expected %g", got, want)
		}
	})
}

// TestArrivalsArePoisson checks the gaps of a constant rate: exponential ones have a
// standard deviation that equals their mean.
func TestArrivalsArePoisson(t *testing.T) {
	at := draws([]Phase{{From: 1000, To: 1000, Length: 20 * time.Second}}, 7)
	var sum, squares float64
	for i := 1; i < len(at); i++ {
		gap := (at[i] - at[i-1]).Seconds()
		sum += gap
		squares += gap * gap
	}
	n := float64(len(at) - 1)
	mean := sum / n
	cv := math.Sqrt(squares/n-mean*mean) / mean
	if math.Abs(mean*1000-1) > .03 || math.Abs(cv-1) > .03 {
		t.Errorf("mean gap %.4f ms, coefficient of variation %.3f", mean*1000, cv)
	}
}

// TestRamp checks that a ramp from 0 brings a quarter of its visitors in its first
// half.
func TestRamp(t *testing.T) {
	at := draws([]Phase{{From: 0, To: 2000, Length: 20 * time.Second}}, 3)
	half, _ := slices.BinarySearch(at, 10*time.Second)
	if share := float64(half) / float64(len(at)); math.Abs(share-.25) > .01 {
		t.Errorf("%.3f of the visitors in the first half, want 0.25", share)
	}
}

func TestArrivalsBySeed(t *testing.T) {
	phases := []Phase{{From: 10, To: 200, Length: 5 * time.Second}}
	if !slices.Equal(draws(phases, 1), draws(phases, 1)) {
		t.Error("the same seed made different crowds")
	}
	if slices.Equal(draws(phases, 1), draws(phases, 2)) {
		t.Error("different seeds made the same crowd")
	}
}
