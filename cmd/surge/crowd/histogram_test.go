package crowd

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestHistogramError checks every quantile against the sorted values: it may be off
// by half a bucket, 1/128.
func TestHistogramError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(math.Exp(rapid.Float64Range(0, 29).Draw(t, "log")))
		}), 1, 200).Draw(t, "values")
		var h histogram
		for _, v := range values {
			h.add(v)
		}
		slices.Sort(values)
		for _, q := range []float64{0, .01, .5, .99, .999, 1} {
			want := values[max(int(math.Ceil(q*float64(len(values)))), 1)-1]
			got := h.quantile(q)
			if diff := math.Abs(float64(got - want)); diff > float64(want)/128+1 {
				t.Fatalf("quantile %g is %d, want %d", q, got, want)
			}
		}
	})
}

func TestHistogramEdges(t *testing.T) {
	var h histogram
	if h.quantile(.5) != 0 {
		t.Error("an empty histogram has a median")
	}
	h.add(-time.Second) // a clock that goes back
	h.add(1000 * time.Hour)
	if h.n != 2 || h.quantile(0) != 0 || h.quantile(1) < time.Hour {
		t.Errorf("%d values, from %s to %s", h.n, h.quantile(0), h.quantile(1))
	}
	for i := range h.counts {
		if got := bucketOf(bucketValue(i)); got != i {
			t.Fatalf("the middle of bucket %d lies in bucket %d", i, got)
		}
	}
}
