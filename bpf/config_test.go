package bpf

import (
	"math"
	"testing"
	"time"
)

func TestLimitWords(t *testing.T) {
	f := func(l Limit, cost, depth time.Duration) {
		t.Helper()
		if c, d := l.words(); c != uint64(cost) || d != uint64(depth) {
			t.Errorf("%+v: cost %v, depth %v; want %v, %v", l, time.Duration(c), time.Duration(d), cost, depth)
		}
	}
	f(Limit{}, 0, math.MaxInt64)
	f(Limit{PerSecond: -1, Burst: 10}, 0, math.MaxInt64)
	f(Limit{PerSecond: 200, Burst: 2000}, 5*time.Millisecond, 10*time.Second)
	f(Limit{PerSecond: 1e6, Burst: 1}, time.Microsecond, tick)
	f(Limit{PerSecond: math.Inf(1)}, 1, tick)
	f(Limit{PerSecond: 1e-9, Burst: 1e9}, maxSpan, maxSpan)
}

func TestPowerOfTwo(t *testing.T) {
	for n, want := range map[uint32]uint32{0: 0, 1: 1, 2: 2, 3: 4, 1000: 1024, 1024: 1024, math.MaxUint32: 1 << 31} {
		if got := powerOfTwo(n); got != want {
			t.Errorf("%d became %d, want %d", n, got, want)
		}
	}
}

// TestReasons compares the names with what they are for.
func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		name := r.String()
		if r.Drop() {
			name = "drop " + name
		}
		if r.String() == "" || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[name] = true
	}
	if PassTrickle.Drop() || !DropMalformed.Drop() || !DropClosed.Drop() || Reasons.Drop() {
		t.Error("drops are not what they are called")
	}
	if got := Reasons.String(); got != "reason_30" {
		t.Errorf("an unknown reason is called %q", got)
	}
}
