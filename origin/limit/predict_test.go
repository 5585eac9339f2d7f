package limit

import (
	"math"
	"testing"
	"time"
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
	l.control.seen += evidence
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

// A prediction that is a guess sends nobody away: an origin that meets the deadline
// from its first request on keeps all.
func TestPredictedNeedsTheScatter(t *testing.T) {
	f := func(restored bool) {
		t.Helper()
		l := newClocked(Config{})
		const took, deadline = 10 * time.Millisecond, 30 * time.Millisecond
		if restored {
			l.Restore(Learned{Useful: 20, Baselines: []Baseline{{Class: 0, Latency: took}}})
		}
		late, known := 0, false
		for i := range 200 {
			var predicted time.Duration
			if predicted, known = l.Predicted(0, 1); known && predicted > deadline && i%64 != 0 {
				late++
			} else {
				p, _ := l.Acquire(0, 1)
				l.clock += int64(took)
				p.Release(OK)
			}
			l.tick()
		}
		if late > 0 || !known {
			t.Errorf("restored %v: %d of 200 are thought to be late, known %v", restored, late, known)
		}
	}
	f(false)
	f(true)
}
