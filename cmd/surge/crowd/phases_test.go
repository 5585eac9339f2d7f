package crowd

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParsePhases(t *testing.T) {
	f := func(in string, want ...Phase) {
		t.Helper()
		got, err := ParsePhases(in, 35)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			return
		}
		if len(got) != len(want) {
			t.Errorf("%q: got %d phases, want %d", in, len(got), len(want))
			return
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%q: phase %d is %+v, want %+v", in, i, got[i], want[i])
			}
		}
	}
	f("10x:20s", Phase{"10x", 350, 350, 20 * time.Second})
	f("0.5x:20s,10x:1m", Phase{"0.5x", 17.5, 17.5, 20 * time.Second}, Phase{"10x", 350, 350, time.Minute})
	f("100/s:10s", Phase{"100/s", 100, 100, 10 * time.Second})
	f("0.5x..10x:5s", Phase{"0.5x..10x", 17.5, 350, 5 * time.Second})
	f("1x..100/s:500ms", Phase{"1x..100/s", 35, 100, 500 * time.Millisecond})
	f(" 0x:1s , 1x:1s ", Phase{"0x", 0, 0, time.Second}, Phase{"1x", 35, 35, time.Second})
}

func TestParsePhasesErrors(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		_, err := ParsePhases(in, 35)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", in, err, want)
		}
	}
	f("", "RATE:DURATION")
	f("10x", "RATE:DURATION")
	f("10x:20s,", "RATE:DURATION")
	f("10:20s", "needs a unit")
	f("tenx:20s", "not a number")
	f("-1x:20s", "between 0")
	f("NaNx:20s", "between 0")
	f("Infx:20s", "between 0")
	f("1e300x:20s", "between 0")
	f("1x..:5s", "needs a unit")
	f("1x:20", "number with a unit")
	f("1x:-1s", "between 1ms")
	f("1x:0s", "between 1ms")
	f("1x:25h", "between 1ms")
	if _, err := ParsePhases("1x:1s", math.NaN()); err == nil {
		t.Error("a capacity that is no number was taken")
	}
}

// FuzzParsePhases checks that what is accepted can be played: every rate and length
// is within bounds, and every arrival within its phase.
func FuzzParsePhases(f *testing.F) {
	f.Add("0.5x:20s,10x:20s", 35.0)
	f.Add("0.5x..10x:5s,100/s:10s", 35.0)
	f.Add("0x..1x:1ms", 1e-9)
	f.Fuzz(func(t *testing.T, in string, capacity float64) {
		phases, err := ParsePhases(in, capacity)
		if err != nil {
			return
		}
		for _, p := range phases {
			for _, rate := range []float64{p.From, p.To, p.at(0), p.at(p.Length)} {
				if !(rate >= 0 && rate <= maxRate*1.000001) {
					t.Fatalf("%q: rate %g", in, rate)
				}
			}
			if p.Length < time.Millisecond || p.Length > maxPhase {
				t.Fatalf("%q: length %s", in, p.Length)
			}
		}
		a := newArrivals(phases, 1)
		for last, n := time.Duration(0), 0; n < 100; n++ {
			at, i, ok := a.next()
			if !ok {
				break
			}
			start := Length(phases[:i])
			if at < last || at < start || at >= start+phases[i].Length {
				t.Fatalf("%q: arrival %d at %s, after %s, in phase %d from %s", in, n, at, last, i, start)
			}
			last = at
		}
	})
}

func TestStretch(t *testing.T) {
	phases, err := ParsePhases("1x:10s,10x:30s", 35)
	if err != nil {
		t.Fatal(err)
	}
	got := Stretch(phases, 20*time.Second)
	if got[0].Length != 5*time.Second || got[1].Length != 15*time.Second || Length(got) != 20*time.Second {
		t.Errorf("stretched to %s and %s", got[0].Length, got[1].Length)
	}
	if phases[0].Length != 10*time.Second {
		t.Error("the phases given were changed")
	}
}

func TestPhaseAt(t *testing.T) {
	phases, err := ParsePhases("1x:10s,1x..3x:10s", 10)
	if err != nil {
		t.Fatal(err)
	}
	f := func(at time.Duration, phase int, rate float64) {
		t.Helper()
		if i, r := phaseAt(phases, at); i != phase || math.Abs(r-rate) > 1e-9 {
			t.Errorf("at %s: phase %d at %g/s, want %d at %g/s", at, i, r, phase, rate)
		}
	}
	f(0, 0, 10)
	f(9*time.Second, 0, 10)
	f(10*time.Second, 1, 10)
	f(15*time.Second, 1, 20)
	f(time.Minute, 1, 0)
}
