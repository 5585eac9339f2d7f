package functions

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

func TestPoolRampIsATokenBucket(t *testing.T) {
	p := pool{cap: 10000, idle: time.Hour, burst: 1000, ramp: 100}
	takeAll := func(at float64) (started int) {
		for p.take(after(at)) == cold {
			started++
		}
		return started
	}
	for _, c := range []struct {
		at   float64
		want int
	}{{0, 1000}, {0, 0}, {1, 100}, {3.5, 250}, {3.5, 0}, {1000, 1000}} {
		if got := takeAll(c.at); got != c.want {
			t.Errorf("at %v s: %d started, want %d", c.at, got, c.want)
		}
	}
}

func TestPoolReusesTheLastInstance(t *testing.T) {
	p := pool{cap: 10, idle: 10 * time.Second, burst: 10, ramp: 1}
	for range 3 {
		if v := p.take(after(0)); v != cold {
			t.Fatalf("verdict %s, want cold", v)
		}
	}
	p.put(after(1), false)
	p.put(after(2), false)
	p.put(after(3), true) // crashed: does not come back
	if v := p.take(after(4)); v != warm || !p.free[0].Equal(after(1)) {
		t.Fatalf("verdict %s, left idle since %v; want the one of second 2 taken", v, p.free)
	}
	p.expire(after(10.9))
	if len(p.free) != 1 {
		t.Fatalf("%d idle, want 1 before its time", len(p.free))
	}
	if v := p.take(after(11)); v != cold {
		t.Fatalf("verdict %s, want cold: the idle instance has stopped", v)
	}
}

func TestPoolCap(t *testing.T) {
	p := pool{cap: 2, idle: time.Hour, burst: 10, ramp: 1}
	p.take(start)
	p.take(start)
	if v := p.take(start); v != overCap {
		t.Fatalf("verdict %s, want cap", v)
	}
	p.put(start, false)
	p.cap = 1 // lowered while one runs and one idles
	if v := p.take(start); v != overCap {
		t.Fatalf("verdict %s after the cap was lowered, want cap", v)
	}
}

// Whatever happens, no more calls run than the cap allowed when they began, and no
// more instances start than burst and ramp allow.
func TestPoolBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pool{
			cap: rapid.IntRange(0, 5).Draw(t, "cap"), idle: 2 * time.Second,
			burst: float64(rapid.IntRange(1, 4).Draw(t, "burst")), ramp: rapid.Float64Range(0, 2).Draw(t, "ramp"),
		}
		now, started := 0.0, 0
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now += rapid.Float64Range(0, 1).Draw(t, "wait")
			if p.busy > 0 && rapid.Bool().Draw(t, "ends") {
				p.put(after(now), rapid.Bool().Draw(t, "failed"))
				continue
			}
			before := p.busy
			switch v := p.take(after(now)); v {
			case cold:
				started++
				fallthrough
			case warm:
				if before >= p.cap || p.busy != before+1 {
					t.Fatalf("%s with %d busy of %d", v, before, p.cap)
				}
			default:
				if p.busy != before {
					t.Fatalf("%s took an instance", v)
				}
			}
			if limit := p.burst + p.ramp*now + 1e-6; float64(started) > limit {
				t.Fatalf("%d started after %v s, want at most %v", started, now, limit)
			}
		}
	})
}

func TestBillArithmetic(t *testing.T) {
	f := func(platform Platform, start, run time.Duration, calls int, out int64, billed, usd float64) {
		t.Helper()
		var m meter
		for range calls {
			m.charge(prices[platform], start, run)
			start = 0 // only the first is cold
		}
		m.out = out
		b := m.bill(platform, 512<<20)
		if !near(b.BilledSeconds, billed) || !near(b.USD, usd) || !near(b.GBSeconds, billed/2) {
			t.Errorf("%s: billed %v s, %v GB-s, %v USD; want %v s, %v USD", platform, b.BilledSeconds, b.GBSeconds, b.USD, billed, usd)
		}
		if !near(b.RequestsUSD+b.ComputeUSD+b.DataOutUSD, b.USD) {
			t.Errorf("%s: the parts do not add up: %+v", platform, b)
		}
	}
	ms := time.Millisecond
	// A million calls of 60 ms: 0.20 USD and 30 000 GB-s.
	f(Lambda, 0, 60*ms, 1_000_000, 0, 60_000, 0.20+30_000*1.66667e-5)
	// The start is billed too, and each call rounded up to a millisecond.
	f(Lambda, 500*ms, 10*ms+1, 2, 0, 0.511+0.011, 2*0.2e-6+0.261*1.66667e-5)
	f(Lambda, 0, ms, 1, 10e9, 0.001, 0.2e-6+0.0005*1.66667e-5+0.9)
	f(CloudRun, 0, 110*ms, 1, 1e9, 0.2, 0.4e-6+0.1*0.25e-5+0.2*2.4e-5+0.12)
	f(Azure, 0, 10*ms, 1, 1e9, 0.1, 0.2e-6+0.05*1.6e-5+0.087)
	f(OpenFaaS, time.Second, time.Second, 3, 1e9, 4, 0)
}

func near(a, b float64) bool { return a-b < 1e-9+1e-9*b && b-a < 1e-9+1e-9*b }
