package contest

import (
	"math"
	"testing"
	"time"

	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/functions"
	"spillway/cmd/surge/origin"
)

// perfect is the evidence of a contender that does what the oracle does.
func perfect(p *plan) *evidence {
	e := &evidence{plan: p, start: time.Unix(1_800_000_000, 0), bill: functions.Bill{USD: 2}, ledger: 2.02, cpu: time.Second}
	for i, r := range p.requests {
		f := p.ideal.fates[i]
		if !f.Served {
			e.samples = append(e.samples, load.Sample{Took: 60 * time.Millisecond, Status: 200, Place: "function"})
			continue
		}
		e.samples = append(e.samples, load.Sample{Took: f.End + hop - r.At + p.distance(), Status: 200, Place: "origin"})
		e.visits = append(e.visits, origin.Visit{
			Number: int64(i), Arrived: e.start.Add(f.Enter), Ended: e.start.Add(f.End), Demand: r.demand, Fate: origin.Useful,
		})
	}
	for range int(p.length() / time.Second) {
		e.busy = append(e.busy, .5)
	}
	return e
}

func TestTheOracleMeasuresAsPerfect(t *testing.T) {
	for _, s := range Scenarios() {
		if s.Foreign != "" {
			continue
		}
		if s.Name == "large" {
			s.stretch(2000)
		}
		s.shorten(.3)
		p := planOf(t, &s, 1)
		m, phases := perfect(p).measure()
		f := func(name string, want float64) {
			t.Helper()
			if got, ok := m[name]; ok && math.Abs(got-want) > 1e-6 {
				t.Errorf("%s: %s is %g, want %g", s.Name, name, got, want)
			}
		}
		// The limit whose latency counts does at most 1 % less work than the best.
		for name, least := range map[string]float64{"goodput_3x": .985, "goodput_10x": .985, "goodput_all": .985, "goodput_step": .95, "goodput_event": .95} {
			if got, ok := m[name]; ok && (got < least || got > 1.05) {
				t.Errorf("%s: %s is %g", s.Name, name, got)
			}
		}
		f("p99_ideal", 1)
		for _, name := range []string{"errors", "spill_0.9x_over", "lag"} {
			f(name, 0)
		}
		f("ledger", 1.01)
		f("busy", .5)
		if m["convergence"] > 1 || m["recovery"] > 1 {
			t.Errorf("%s: converges after %g s, recovers after %g s", s.Name, m["convergence"], m["recovery"])
		}
		if len(phases) != len(p.phases) || judgeRun(m) != "" {
			t.Errorf("%s: %d phases, judged %q", s.Name, len(phases), judgeRun(m))
		}
	}
}

// Each fault shows in the measures that are for it.
func TestFaultsShow(t *testing.T) {
	s := scenarioNamed(t, "plain")
	s.Phases = plain
	s.shorten(.4)
	p := planOf(t, s, 1)
	step, _ := p.step()
	release, _ := p.release()
	f := func(what string, spoil func(e *evidence, i int), check func(m map[string]float64) bool) {
		t.Helper()
		e := perfect(p)
		for i := range e.samples {
			spoil(e, i)
		}
		if m, _ := e.measure(); !check(m) {
			t.Errorf("%s: %v", what, m)
		}
	}
	at := func(i int) time.Duration { return p.requests[i].At }
	fail := func(s *load.Sample) { *s = load.Sample{Took: time.Second, Status: 503} }
	f("errors", func(e *evidence, i int) {
		if i%100 == 0 {
			fail(&e.samples[i])
		}
	}, func(m map[string]float64) bool { return math.Abs(m["errors"]-.01) < .001 && m["goodput_all"] < .995 })
	f("half of the work lost", func(e *evidence, i int) {
		if i%2 == 0 {
			fail(&e.samples[i])
		}
	}, func(m map[string]float64) bool { return m["goodput_10x"] > .4 && m["goodput_10x"] < .6 })
	f("half of the work late", func(e *evidence, i int) {
		if i == 0 {
			for j := range e.visits {
				if j%2 == 0 {
					e.visits[j].Fate = origin.Late
				}
			}
		}
	}, func(m map[string]float64) bool { return m["goodput_10x"] > .4 && m["goodput_10x"] < .6 })
	f("late after the step", func(e *evidence, i int) {
		if d := at(i) - step; d > 0 && d < 2*time.Second {
			e.samples[i].Place = "function"
		}
	}, func(m map[string]float64) bool {
		return m["convergence"] > .5 && m["convergence"] < never && m["goodput_step"] < .6
	})
	f("slow to recover", func(e *evidence, i int) {
		if d := at(i) - release; d > 0 && d < time.Second {
			e.samples[i].Took += 300 * time.Millisecond
		}
	}, func(m map[string]float64) bool { return m["recovery"] > .5 && m["recovery"] < never })
	f("never recovers", func(e *evidence, i int) {
		if at(i) > release {
			fail(&e.samples[i])
		}
	}, func(m map[string]float64) bool { return m["recovery"] == never })
	f("slow", func(e *evidence, i int) { e.samples[i].Took *= 3 }, func(m map[string]float64) bool {
		return math.Abs(m["p99_ideal"]-3) < .05 && m["p99_ratio"] > 2
	})
	f("spills what it could serve", func(e *evidence, i int) {
		if i%2 == 0 {
			e.samples[i].Place = "function"
		}
		if i == 0 {
			e.visits = nil // so that every slot was idle
		}
	}, func(m map[string]float64) bool {
		return m["avoidable"] == 1 && m["spill_0.5x"] > .4 && m["spill_0.9x_over"] > .3
	})
	f("late driver", func(e *evidence, i int) { e.samples[i].Lag = 20 * time.Millisecond }, func(m map[string]float64) bool {
		return m["lag"] == 20 && judgeRun(m) != ""
	})
	f("full machine", func(e *evidence, i int) { e.busy = []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1} }, func(m map[string]float64) bool {
		return m["busy"] == 1 && judgeRun(m) != ""
	})
}

func TestOccupancy(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	e := &evidence{start: start, visits: []origin.Visit{
		{Arrived: start.Add(1), Ended: start.Add(5), Fate: origin.Useful},
		{Arrived: start.Add(3), Ended: start.Add(9), Fate: origin.Killed},
		{Arrived: start.Add(4), Ended: start.Add(4), Fate: origin.Rejected},
	}}
	o := e.occupancy()
	for at, want := range []int{0, 1, 1, 2, 2, 1, 1, 1, 1, 0, 0} {
		if got := o.when(time.Duration(at)); got != want {
			t.Errorf("at %d: %d inside, want %d", at, got, want)
		}
	}
}
