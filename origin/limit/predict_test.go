package limit

import (
	"math"
	"testing"
)

// About 1 of 100 requests takes longer than was predicted when it came, and what was
// predicted is near to what the slowest 1 of 100 takes.
func TestPredicted(t *testing.T) {
	f := func(s scenario, load, worst, factor float64) {
		t.Helper()
		s.phases = []phase{{load: 0.5, seconds: 20}, {load: load, seconds: 30}}
		late, n := 0.0, 0.0
		var ratios []float64
		for seed := range 3 {
			s.predicted = func(at, predicted, took float64) {
				if at < 25 {
					return
				}
				if n++; took > predicted {
					late++
				}
				ratios = append(ratios, predicted/took)
			}
			simulate(s, uint64(seed+1))
		}
		ratio := quantile(ratios, 0.01)
		t.Logf("%vx of %dx%.0f ms, cv %v, %v: %.1f %% are later, the prediction is %.2f of p99",
			load, s.slots, s.mean*1000, s.cv, s.kind, 100*late/n, ratio)
		if late/n > worst || ratio > factor {
			t.Errorf("%.3f are later, and it is %.2f of p99; want at most %.3f and %.2f", late/n, ratio, worst, factor)
		}
	}
	for _, load := range []float64{0.5, 0.9, 3} {
		f(small(4, 0.05, 1, fifo), load, 0.02, 1.5)
		f(small(16, 0.02, 1, fifo), load, 0.02, 1.5)
		f(small(16, 0.02, 1, sharing), load, 0.02, 1.5)
		f(small(4, 0.05, 0, fifo), load, 0.02, 1.5)
	}
}

func TestPredictedNeedsABaseline(t *testing.T) {
	l := New(Config{Max: 4})
	if d, known := l.Predicted(3, 1); known {
		t.Errorf("predicted %v out of nothing", d)
	}
	l.control.class[3] = baseline0(20e6)
	l.control.enterSteady(math.Log(2))
	l.publish(l.control.plan())
	idle, _ := l.Predicted(3, 1)
	for range 3 {
		l.Acquire(3, 1)
	}
	if full, known := l.Predicted(3+classes, 1); !known || full <= idle {
		t.Errorf("predicted %v, and %v for a full origin", idle, full)
	}
	if n := testing.AllocsPerRun(100, func() { l.Predicted(3, 0.5) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
