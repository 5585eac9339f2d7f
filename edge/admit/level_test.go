package admit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDemand(t *testing.T) {
	f := func(s Signals, want Level, wantWhy string) {
		t.Helper()
		if got, why := s.Demand(); got != want || why != wantWhy {
			t.Errorf("%+v: %s, %q; want %s, %q", s, got, why, want, wantWhy)
		}
	}
	f(Signals{}, Normal, "")
	f(Signals{HandshakeCPU: .37}, Normal, "")
	f(Signals{HandshakeCPU: .375}, Guarded, "handshakes ask for 38 % of the processors")
	f(Signals{HandshakeCPU: .7}, Shedding, "handshakes ask for 70 % of the processors")
	f(Signals{HandshakeCPU: 30}, Shedding, "handshakes ask for 3000 % of the processors") // budgets hold it
	f(Signals{Delay: 19 * time.Millisecond}, Normal, "")
	f(Signals{Delay: 20 * time.Millisecond}, Guarded, "work waits 20ms for a processor")
	f(Signals{Delay: 100 * time.Millisecond}, Shedding, "work waits 100ms for a processor")
	f(Signals{Delay: 500 * time.Millisecond}, Closed, "work waits 500ms for a processor")
	f(Signals{HalfOpen: .9}, Normal, "")
	f(Signals{HalfOpen: 1}, Guarded, "half-open handshakes are 100 % of their limit")
	f(Signals{HalfOpen: 2}, Shedding, "half-open handshakes are 200 % of their limit")
	f(Signals{HalfOpen: 4}, Closed, "half-open handshakes are 400 % of their limit")
	f(Signals{Connections: .75}, Guarded, "connections are 75 % of their limit")
	f(Signals{Connections: 1}, Shedding, "connections are 100 % of their limit")
	f(Signals{Memory: .87}, Normal, "")
	f(Signals{Memory: .88}, Guarded, "88 % of the memory is taken")
	f(Signals{Memory: .93}, Shedding, "93 % of the memory is taken")
	f(Signals{Memory: .97}, Closed, "97 % of the memory is taken")
	f(Signals{Spent: true}, Shedding, "origins are saturated and functions spent")
	f(Signals{Spent: true, Memory: .97, HandshakeCPU: .5}, Closed, "97 % of the memory is taken")
	f(Signals{HalfOpen: 1, Memory: .88}, Guarded, "half-open handshakes are 100 % of their limit")
}

// No signal asks for less when it grows.
func TestDemandGrowsWithSignals(t *testing.T) {
	draw := func(t *rapid.T) Signals {
		part := rapid.Float64Range(0, 5)
		return Signals{
			HandshakeCPU: part.Draw(t, "cpu"), Delay: time.Duration(rapid.Int64Range(0, 1e9).Draw(t, "delay")),
			HalfOpen: part.Draw(t, "half open"), Connections: part.Draw(t, "connections"), Memory: part.Draw(t, "memory"),
			Spent: rapid.Bool().Draw(t, "spent"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t), draw(t)
		least, _ := a.Demand()
		both, why := Signals{
			HandshakeCPU: max(a.HandshakeCPU, b.HandshakeCPU), Delay: max(a.Delay, b.Delay), HalfOpen: max(a.HalfOpen, b.HalfOpen),
			Connections: max(a.Connections, b.Connections), Memory: max(a.Memory, b.Memory), Spent: a.Spent || b.Spent,
		}.Demand()
		if both < least || (why == "") != (both == Normal) {
			t.Fatalf("%+v asks for %s; more of it for %s, %q", a, least, both, why)
		}
	})
}

func TestStairRisesAtOnceAndFallsByStep(t *testing.T) {
	s := stair{}
	f := func(demand Level, at time.Duration, want Level) {
		t.Helper()
		if s = s.step(demand, demand.String(), at); s.level != want {
			t.Errorf("at %v: %s, want %s", at, s.level, want)
		}
	}
	f(Normal, 0, Normal)
	f(Closed, time.Second, Closed)
	f(Normal, 2*time.Second, Closed)
	f(Normal, 6*time.Second, Shedding)
	f(Normal, 7*time.Second, Shedding)
	f(Shedding, 9*time.Second, Shedding)
	f(Guarded, 13*time.Second, Shedding)
	f(Guarded, 14*time.Second, Guarded)
	if s.why != "guarded" {
		t.Errorf("why: %q", s.why)
	}
	f(Normal, 19*time.Second, Normal)
}

// Whatever is asked for, the level is never below it, never falls by more than a step,
// and never before the time.
func TestStairInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, now, last := stair{}, time.Duration(0), time.Duration(0)
		for range rapid.IntRange(1, 200).Draw(t, "beats") {
			now += time.Duration(rapid.Int64Range(1, int64(2*time.Second)).Draw(t, "span"))
			demand := Level(rapid.Uint32Range(0, uint32(Closed)).Draw(t, "demand"))
			was := s
			s = s.step(demand, "", now)
			switch {
			case s.level < demand:
				t.Fatalf("asked for %s, got %s", demand, s.level)
			case s.level > demand && s.level > was.level:
				t.Fatalf("asked for %s, rose from %s to %s", demand, was.level, s.level)
			case s.level < was.level && (was.level-s.level > 1 || now-last < hold):
				t.Fatalf("fell from %s to %s after %v", was.level, s.level, now-last)
			}
			if demand >= was.level || s.level != was.level {
				last = now
			}
		}
	})
}

func TestLevelsHaveNames(t *testing.T) {
	for l := Normal; l <= Closed; l++ {
		text, _ := l.MarshalText()
		var back Level
		if err := back.UnmarshalText(text); err != nil || back != l {
			t.Errorf("%s: %s, %v", text, back, err)
		}
	}
	var l Level
	if err := l.UnmarshalText([]byte("open")); err == nil || l != Normal {
		t.Errorf("no error for a level that there is not: %v", l)
	}
}
