package limit

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestBounds(t *testing.T) {
	f := func(c Config, low, high, first int) {
		t.Helper()
		gotLow, gotHigh := c.bounds()
		if gotLow != low || gotHigh != high {
			t.Errorf("%+v: bounds %d..%d, want %d..%d", c, gotLow, gotHigh, low, high)
		}
		if got := New(c).State().Limit; got != first {
			t.Errorf("%+v: starts at %d, want %d", c, got, first)
		}
	}
	f(Config{}, 1, 10_000, 32)
	f(Config{Min: 2, Max: 200}, 2, 200, 32)
	f(Config{Min: 50, Max: 200}, 50, 200, 50)
	f(Config{Max: 8}, 1, 8, 8)
	f(Config{Min: 9, Max: 8}, 8, 8, 8)
	f(Config{Min: -1, Max: -1}, 1, 10_000, 32)
	f(Config{Max: math.MaxInt}, 1, math.MaxInt32, 32)
}

func TestThreshold(t *testing.T) {
	f := func(limit uint64, share float64, want uint64) {
		t.Helper()
		if got := threshold(limit, share); got != want {
			t.Errorf("threshold(%d, %v) = %d, want %d", limit, share, got, want)
		}
	}
	f(6, 1, 6)
	f(6, 2, 6)
	f(6, 0.8, 4)
	f(6, 0.1, 1) // a share never closes the gate
	f(6, 0, 1)
	f(6, -1, 1)
	f(1, 0.5, 1)
	f(6, math.NaN(), 6)
}

// A model of permits, checked against every order of operations: what is in
// flight never exceeds the limit at admission, refusal means that there was no
// room, and each permit ends exactly once.
func TestPermitModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New(Config{Max: rapid.IntRange(1, 40).Draw(t, "max")})
		l.SetLongLived(3)
		var clock int64
		l.now = func() int64 { clock += 1e6; return clock }
		var permits []Permit
		state := map[Permit]uint64{}
		inFlight, long := 0, 0
		pick := func(t *rapid.T) Permit {
			if len(permits) == 0 {
				return Permit{}
			}
			return rapid.SampledFrom(permits).Draw(t, "permit")
		}
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				share := rapid.Float64Range(0.01, 1).Draw(t, "share")
				most := int(threshold(uint64(l.State().Limit), share))
				p, ok := l.Acquire(Class(rapid.Uint8().Draw(t, "class")), share)
				if ok != (inFlight < most) || ok != p.Valid() {
					t.Fatalf("Acquire = %v with %d in flight of %d", ok, inFlight, most)
				}
				if ok {
					inFlight++
					permits, state[p] = append(permits, p), stateHeld
				}
			},
			"release": func(t *rapid.T) {
				p := pick(t)
				p.Release(rapid.SampledFrom([]Result{OK, Drop, Cancel}).Draw(t, "result"))
				switch state[p] {
				case stateHeld:
					inFlight--
				case stateLong:
					long--
				}
				state[p] = stateFree
			},
			"detach": func(t *rapid.T) {
				p := pick(t)
				want := state[p] == stateLong || state[p] == stateHeld && long < 3
				if got := p.Detach(); got != want {
					t.Fatalf("Detach = %v, want %v", got, want)
				}
				if state[p] == stateHeld && want {
					state[p] = stateLong
					inFlight--
					long++
				}
			},
			"tick":   func(*rapid.T) { l.tick() },
			"report": func(t *rapid.T) { l.Report(rapid.Float64().Draw(t, "utilization")) },
			"plead": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "answers") {
					l.Plead(time.Duration(rapid.IntRange(0, 1).Draw(t, "seconds")) * time.Second)
				}
			},
			"": func(t *rapid.T) {
				if s := l.State(); s.InFlight != inFlight || s.LongLived != long {
					t.Fatalf("in flight %d, long-lived %d; want %d, %d", s.InFlight, s.LongLived, inFlight, long)
				}
			},
		})
		for _, p := range permits {
			p.Release(Cancel)
		}
		if s := l.State(); s.InFlight != 0 || s.LongLived != 0 {
			t.Fatalf("at rest: %+v", s)
		}
	})
}

func TestStalePermitHarmsNobody(t *testing.T) {
	l := New(Config{})
	first, _ := l.Acquire(0, 1)
	first.Release(OK)
	second, _ := l.Acquire(0, 1) // very likely the same ticket
	first.Release(OK)
	if first.Detach() {
		t.Error("an ended permit was detached")
	}
	if n := l.State().InFlight; n != 1 {
		t.Errorf("%d in flight, want 1", n)
	}
	second.Release(OK)
	Permit{}.Release(OK)
	if n := l.State().InFlight; n != 0 || (Permit{}).Detach() || (Permit{}).Valid() {
		t.Errorf("%d in flight at rest", n)
	}
}

// Many goroutines acquire, queue, detach and release twice while the limit
// moves. The race detector looks on.
func TestPermitStress(t *testing.T) {
	l := New(Config{Max: 8})
	l.SetLongLived(2)
	done := make(chan struct{})
	var ticks, work sync.WaitGroup
	ticks.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				l.tick()
			}
		}
	})
	var running, overrun atomic.Int64
	for worker := range 16 {
		work.Go(func() {
			for i := range 2000 {
				p, ok := l.Acquire(Class(worker), 1)
				if !ok {
					var r WaitResult
					p, r = l.Wait(t.Context(), Request{
						Class: Class(worker), Share: 1, Wait: 1e5, Length: 0.5,
						Level: Level(worker / 2 * Users), Visitor: uint64(worker / 4), Urgency: uint8(i % 3), Patient: worker%2 == 0,
					})
					if r != Admitted {
						continue
					}
				}
				if running.Add(1) > 8 {
					overrun.Add(1)
				}
				runtime.Gosched()
				running.Add(-1)
				if i%7 == 0 {
					p.Detach()
				}
				work.Go(func() { p.Release(OK) })
				p.Release(Result(i % 3))
			}
		})
	}
	work.Wait()
	close(done)
	ticks.Wait()
	if s := l.State(); s.InFlight != 0 || s.LongLived != 0 || s.Queued != 0 || l.queue.standing.patient != 0 {
		t.Errorf("at rest: %+v", s)
	}
	if n := overrun.Load(); n > 0 {
		t.Errorf("%d times more than the limit ran", n)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	l := New(Config{Max: 2})
	a, _ := l.Acquire(0, 0.5)
	if _, ok := l.Acquire(0, 0.5); ok {
		t.Error("half of a limit of two admitted two")
	}
	b, ok := l.Acquire(0, 1)
	if !ok {
		t.Error("the whole limit refused the second of two")
	}
	l.tick()
	if s := l.State(); s.Blocked != 1 || l.control.share != 1 || !l.control.bound() {
		t.Errorf("state %+v, want 1 blocked, and the limit to bind, also by a part of it", s)
	}
	a.Release(OK)
	b.Release(OK)
}

func TestTallyKeepsCountAndSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tl tally
		values := rapid.SliceOf(rapid.Float64Range(-100, 100)).Draw(t, "values")
		want := 0.0
		for _, v := range values {
			tl.add(v)
			want += clamp(v, tallyLimit)
		}
		got := tl.take()
		if got.n != float64(len(values)) || math.Abs(got.total-want) > float64(len(values)+1)/tallyFraction {
			t.Fatalf("took %v, want %d and %v", got, len(values), want)
		}
		if again := tl.take(); again != (sum{}) {
			t.Fatalf("took %v from an empty tally", again)
		}
	})
}

func TestPhaseWords(t *testing.T) {
	for p, want := range []string{"start", "slow-start", "steady", "dip"} {
		if got := Phase(p).String(); got != want {
			t.Errorf("phase %d is %q, want %q", p, got, want)
		}
	}
}

// TestSetBounds: the limit moves into new bounds with the next tick, whatever
// the phase, and what was learned stays.
func TestSetBounds(t *testing.T) {
	l := New(Config{})
	f := func(phase Phase, k float64, c Config, want int) {
		t.Helper()
		l.control.phase, l.control.k = phase, k
		l.control.slow = slowStart{level: 4, first: 1}
		l.SetBounds(c)
		l.tick()
		if got := l.State().Limit; got != want {
			t.Errorf("%v, %+v: limit %d, want %d", phase, c, got, want)
		}
	}
	f(PhaseStart, 0, Config{Max: 10}, 10)
	f(PhaseStart, 0, Config{Min: 50, Max: 100}, 50)
	f(PhaseSlowStart, 0, Config{Min: 1, Max: 100}, 4)
	f(PhaseSlowStart, 0, Config{Min: 6, Max: 100}, 6)
	f(PhaseSlowStart, 0, Config{Min: 1, Max: 2}, 2)
	steady := math.Log(usefulOf(40))
	f(PhaseSteady, steady, Config{Min: 1, Max: 10}, 10)
	f(PhaseSteady, steady, Config{Min: 60, Max: 100}, 60)
	f(PhaseSteady, steady, Config{}, int(limitOf(math.Exp(steady))))
	l.control.class[3] = baseline{ln: 5, n: 100}
	f(PhaseSteady, steady, Config{Min: 1, Max: 10}, 10)
	if l.control.class[3].n != 100 {
		t.Error("a baseline was forgotten")
	}
}
