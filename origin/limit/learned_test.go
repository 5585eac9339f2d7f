package limit

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLearnedSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := New(Config{})
		a.control = steadyAt(rapid.Float64Range(1, 1000).Draw(t, "K"), 2e7).controller
		a.control.class[5] = baseline0(rapid.Float64Range(minLatency, maxLatency).Draw(t, "latency"))
		a.publish(a.control.plan())
		text, err := json.Marshal(a.Learned())
		if err != nil {
			t.Fatal(err)
		}
		var s Learned
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		b := New(Config{})
		b.Restore(s)
		if got, want := b.State(), a.State(); got.Limit != want.Limit || got.Phase != PhaseSteady || len(got.Baselines) != 2 {
			t.Fatalf("restored %+v, was %+v", got, want)
		}
	})
}

// A node that is restarted in front of a large origin spills nothing at half load,
// and one that is restarted in a crowd goes on where it was.
func TestSimulatedRestart(t *testing.T) {
	f := func(s scenario) {
		t.Helper()
		s.phases = []phase{{load: 0.5, seconds: 2}, {load: 3, seconds: 4}}
		before := simulate(s, 1)
		s.learned = before.limiter.Learned()
		s.phases = []phase{{load: 0.5, seconds: 4}}
		half := &span{to: 4}
		simulate(s, 2, half)
		s.phases = []phase{{load: 3, seconds: 4}}
		crowd := &span{to: 4}
		sim := simulate(s, 3, crowd)
		if spill, goodput := half.spill(), crowd.work/sim.capacity(0, 4); spill > 0.005 || goodput < 0.95 {
			t.Errorf("%dx%.0f %v: spilled %.3f at half load, goodput %.3f in a crowd", s.slots, s.mean*1000, s.kind, spill, goodput)
		}
	}
	f(small(160, 0.02, 1, sharing))
	f(small(160, 0.02, 1, fifo))
	f(small(16, 0.02, 1, sharing))
}

// A concurrency without a baseline is where the start begins.
func TestRestoreWithoutBaseline(t *testing.T) {
	l := New(Config{})
	l.Restore(Learned{Useful: 100})
	if s := l.State(); s.Phase != PhaseStart || s.Limit != int(limitOf(100)) {
		t.Errorf("%+v", s)
	}
}

func TestNothingLearned(t *testing.T) {
	l := New(Config{})
	if s := l.Learned(); s.Useful != 0 || s.Baselines != nil || time.Since(s.At) > time.Minute {
		t.Errorf("%+v", s)
	}
	l.Restore(Learned{})
	if s := l.State(); s.Phase != PhaseStart || s.Limit != startLimit {
		t.Errorf("%+v", s)
	}
}

// Whatever is restored, the limit is within its bounds and the limiter works.
func TestRestoreAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Learned{Useful: rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), 0.5, 1, 1e9})).Draw(t, "K")}
		for range rapid.IntRange(0, 5).Draw(t, "baselines") {
			s.Baselines = append(s.Baselines, Baseline{
				Class: Class(rapid.Uint8().Draw(t, "class")), Latency: time.Duration(rapid.Int64().Draw(t, "latency")),
			})
		}
		l := newClocked(Config{Min: 2, Max: 300})
		l.Restore(s)
		for range 20 {
			l.round(20*time.Millisecond, always(OK))
			checkFinite(t, l.Limiter, 2, 300)
		}
	})
}
