package limit

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// reporting returns a limiter that knows its origin, whose clock and ticks are
// the test's.
func reporting(useful float64) *clocked {
	l := newClocked(Config{})
	l.Restore(Learned{Useful: useful, Baselines: []Baseline{{Class: 0, Latency: 20 * time.Millisecond}}})
	return l
}

// pass lets time pass, with reports of a utilization in each tick if it is not
// negative.
func (l *clocked) pass(d time.Duration, utilization float64) {
	for range int(d / tickInterval) {
		l.clock += int64(tickInterval)
		if !(utilization < 0) {
			l.Report(utilization)
		}
		l.tick()
	}
}

func TestReportsLowerAndLapse(t *testing.T) {
	f := func(utilization float64, least, most float64) {
		t.Helper()
		l := reporting(40)
		full := float64(l.State().Limit)
		l.pass(10*time.Second, utilization)
		if n := float64(l.State().Limit) / full; n < least || n > most {
			t.Errorf("utilization %v: limit at %.2f of what it was, want %v to %v", utilization, n, least, most)
		}
		l.pass(2*time.Second, -1)
		if n := l.State(); float64(n.Limit) != full || n.Utilization != 0 {
			t.Errorf("utilization %v: without reports %+v, want the limit %v again", utilization, n, full)
		}
	}
	f(0.5, 1, 1)
	f(0.93, 1, 1)
	f(1, 0.5, 0.7)
	f(100, 0.49, 0.5)
	f(math.Inf(1), 0.49, 0.5)
	f(math.NaN(), 1, 1)
	f(math.Inf(-1), 1, 1)
}

// An origin that says that it is nearly full gets no more than it has, however
// much its latency would allow.
func TestReportsHoldGrowth(t *testing.T) {
	grow := func(utilization float64) int {
		l := reporting(8)
		for range 100 {
			l.Report(utilization)
			l.round(20*time.Millisecond, always(OK))
		}
		return l.State().Steady
	}
	before := reporting(8).State().Steady
	if free := grow(0.5); free < 2*before {
		t.Errorf("limit %d after %d with room to spare", free, before)
	}
	if held := grow(0.93); held > before {
		t.Errorf("limit %d after %d though the origin is nearly full", held, before)
	}
}

// An origin that reports its utilization is kept just below full in a crowd, and
// reports of half a second ago do not make the limit swing.
func TestSimulatedReports(t *testing.T) {
	f := func(s scenario) {
		t.Helper()
		s.phases, s.reports = []phase{{load: 0.5, seconds: 10}, {load: 3, seconds: 50}}, true
		crowd := &span{from: 40, to: 60}
		sim := simulate(s, 1, crowd)
		goodput := crowd.work / sim.capacity(40, 60)
		least, most := math.Inf(1), 0.0
		for second := 40.0; second < 60; second++ {
			limit := sim.meanLimit(second, second+1)
			least, most = min(least, limit), max(most, limit)
		}
		t.Logf("%dx%.0f %v: goodput %.3f, limit %.1f to %.1f", s.slots, s.mean*1000, s.kind, goodput, least, most)
		if goodput < 0.85 || goodput > 0.98 || most > 1.6*least {
			t.Errorf("goodput %.3f, limit %.1f to %.1f; want 0.85 to 0.98, and a steady limit", goodput, least, most)
		}
	}
	f(small(16, 0.02, 1, sharing))
	f(small(16, 0.02, 1, fifo))
	f(small(40, 0.02, 1, sharing))
}

// Reports that are never true, such as percents or those of a machine that others
// keep busy, cost an origin half of what was learned and no more, however long they
// last.
func TestSimulatedAbsurdReports(t *testing.T) {
	f := func(s scenario) {
		t.Helper()
		s.phases = []phase{{load: 0.5, seconds: 10}, {load: 3, seconds: 40}}
		silent := simulate(s, 1).meanLimit(20, 50)
		s.reports = true
		for claims, least := range map[float64]float64{0.92: 0.8, 1: 0.4, 45: 0.4} {
			s.claims = claims
			if limit := simulate(s, 1).meanLimit(40, 50); limit < least*silent {
				t.Errorf("%dx%.0f %v that claims %v: limit %.1f, without reports %.1f", s.slots, s.mean*1000, s.kind, claims, limit, silent)
			}
		}
	}
	f(small(16, 0.02, 1, sharing))
	f(small(16, 0.02, 1, fifo))
	f(small(4, 0.02, 1, fifo))
}

// Nor do they keep slow start from what an origin is given of which nothing is known.
func TestReportsLeaveSlowStartItsLimit(t *testing.T) {
	l := newClocked(Config{})
	for i := range 400 {
		l.Report(1)
		l.round(20*time.Millisecond, func(int) Result {
			if i < 2 {
				return Drop
			}
			return OK
		})
	}
	if s := l.State(); s.Phase == PhaseSlowStart || s.Steady < startLimit/2 {
		t.Errorf("%+v", s)
	}
}

func TestPausesNeedARun(t *testing.T) {
	l := reporting(8)
	for range 10 * pleaRun {
		for range pleaRun - 1 {
			l.Plead(time.Minute)
		}
		l.Plead(0)
		l.tick()
	}
	if s := l.State(); s.Paused {
		t.Errorf("paused by less than a run: %+v", s)
	}
	l.Plead(-time.Second)
	for range pleaRun {
		l.Plead(time.Second)
	}
	l.tick()
	if s := l.State(); !s.Paused || s.Limit > 1 {
		t.Errorf("not paused: %+v", s)
	}
	l.pass(time.Second+2*tickInterval, -1)
	if s := l.State(); s.Paused || s.Limit != s.Steady {
		t.Errorf("paused for longer than asked: %+v", s)
	}
}

// In a pause the next probe waits for whoever comes, and the one after it for a
// quarter of a second.
func TestProbesWaitForVisitors(t *testing.T) {
	l := reporting(8)
	for range pleaRun {
		l.Plead(time.Minute)
	}
	l.tick()
	if l.Idle() {
		t.Error("idle, though it has asked for a pause")
	}
	for _, result := range []Result{OK, Drop, Cancel} {
		l.pass(777*time.Millisecond, -1)
		p, ok := l.Acquire(0, 1)
		if _, second := l.Acquire(0, 1); !ok || second {
			t.Fatalf("%d: first %v, second %v", result, ok, second)
		}
		l.pass(300*time.Millisecond, -1)
		p.Release(result)
		l.pass(240*time.Millisecond, -1)
		if _, ok := l.Acquire(0, 1); ok {
			t.Errorf("%d: a probe at once after another", result)
		}
		// One that is over between two ticks counts as well.
		l.pass(20*time.Millisecond, -1)
		p, ok = l.Acquire(0, 1)
		p.Release(result)
		if l.tick(); !ok || l.State().Limit != 0 {
			t.Errorf("%d: %v, %+v", result, ok, l.State())
		}
	}
}

// Whatever the origin says of itself, the limit is half of what was learned or
// more, or nothing but probes for a minute at most.
func TestCapsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := reporting(rapid.Float64Range(1, 500).Draw(t, "K"))
		learned := l.State().Steady
		paused := 0
		for range 50 {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				l.Report(rapid.Float64().Draw(t, "utilization"))
			case 1:
				for range rapid.IntRange(0, 3*pleaRun).Draw(t, "pleas") {
					l.Plead(time.Duration(rapid.Int64().Draw(t, "asked")))
				}
			case 2:
				l.Plead(0)
			}
			for range rapid.IntRange(1, 40).Draw(t, "ticks") {
				l.tick()
				s := l.State()
				if paused++; !s.Paused {
					paused = 0
				}
				if paused > int(mostPause/tickInterval) {
					t.Fatalf("paused for %d ticks", paused)
				}
				if s.Steady < learned/2 || s.Steady > learned || !s.Paused && s.Limit != s.Steady || s.Paused && s.Limit > 1 {
					t.Fatalf("%+v, learned %d", s, learned)
				}
			}
		}
	})
}
