package limit

import (
	"math"
	"testing"
	"time"
)

// A clocked limiter is driven by hand: rounds of requests that fill the limit,
// take a while and end.
type clocked struct {
	*Limiter
	clock int64
}

func newClocked(c Config) *clocked {
	l := &clocked{Limiter: New(c)}
	l.now = func() int64 { return l.clock }
	return l
}

// round fills the limit and refuses one more. Every request ends after the
// latency, as the result of its number says.
func (l *clocked) round(latency time.Duration, result func(i int) Result) {
	var held []Permit
	for p, ok := l.Acquire(0, 1); ok; p, ok = l.Acquire(0, 1) {
		held = append(held, p)
	}
	for range int(latency / tickInterval) {
		l.clock += int64(tickInterval)
		l.Acquire(0, 1)
		l.tick()
	}
	for i, p := range held {
		p.Release(result(i))
	}
	l.tick()
}

func always(r Result) func(int) Result { return func(int) Result { return r } }

func TestNoSlowStartWithoutSamples(t *testing.T) {
	l := newClocked(Config{})
	for range 1000 {
		l.round(20*time.Millisecond, always(Cancel))
		if s := l.State(); s.Limit < startLimit {
			t.Fatalf("limit %d by requests that said nothing", s.Limit)
		}
	}
}

// intoSlowStart gives a limiter enough requests at the start limit.
func intoSlowStart(t *testing.T, latency time.Duration) *clocked {
	t.Helper()
	l := newClocked(Config{})
	for range 3 {
		l.round(latency, always(OK))
		if l.State().Phase == PhaseSlowStart {
			return l
		}
	}
	t.Fatalf("phase %v", l.State().Phase)
	return nil
}

func TestSlowStartIsLeftWithoutSamples(t *testing.T) {
	f := func(name string, result func(int) Result, latency time.Duration, within time.Duration) {
		t.Helper()
		l := intoSlowStart(t, 100*time.Millisecond)
		begin := l.clock
		for l.State().Phase == PhaseSlowStart {
			l.round(latency, result)
			if took := time.Duration(l.clock - begin); took > within {
				t.Fatalf("%s: limit %d after %v", name, l.State().Limit, took)
			}
		}
		if n := l.State().Limit; n < startLimit {
			t.Errorf("%s: left slow start for a limit of %d", name, n)
		}
	}
	// 32 requests at each of the levels 1, 2, 4, 8 and 16.
	f("canceled", always(Cancel), 20*time.Millisecond, 2*time.Second)
	f("paced uploads", always(Cancel), 10*time.Minute, 20*time.Minute)
}

// A level that ends for want of samples keeps those that it has had.
func TestSlowStartLearnsFromFew(t *testing.T) {
	l := intoSlowStart(t, 100*time.Millisecond)
	n := 0
	for range 1000 {
		l.round(20*time.Millisecond, func(int) Result {
			if n++; n%10 == 0 {
				return OK
			}
			return Cancel
		})
		switch s := l.State(); s.Phase {
		case PhaseStart:
			t.Fatalf("slow start gave up: %+v", s)
		case PhaseSteady:
			return
		}
	}
	t.Errorf("state %+v", l.State())
}

// While an origin fails from the start, slow start goes on offering it one
// request at a time.
func TestSlowStartHoldsOnToDeadOrigin(t *testing.T) {
	l := newClocked(Config{})
	for range 200 {
		l.round(2*time.Second, always(Drop))
	}
	if s := l.State(); s.Limit != 1 {
		t.Fatalf("state %+v", s)
	}
	for range 200 {
		l.round(20*time.Millisecond, always(OK))
	}
	if n := l.State().Limit; n < startLimit {
		t.Errorf("limit %d after the origin came back", n)
	}
}

// Requests that end after the sums were collected and before the plan that
// follows from them know only the plan before.
func TestSamplesBetweenCollectAndPublish(t *testing.T) {
	const latency = 20 * time.Millisecond
	l := newClocked(Config{})
	request := func() {
		p, ok := l.Acquire(0, 1)
		if !ok {
			t.Fatal("refused")
		}
		l.clock += int64(latency)
		p.Release(OK)
	}
	for range 20 {
		request()
		w := l.collect()
		l.control.step(&w)
		request()
		l.publish(l.control.plan())
	}
	l.tick()
	b := l.State().Baselines
	if len(b) != 1 || math.Abs(float64(b[0].Latency-latency)) > 1e-3*float64(latency) {
		t.Errorf("learned %v, want %v", b, latency)
	}
}

// The same for the requests of a dip and for those at the limit, across a jump
// of the baseline.
func TestEstimatesUseTheBaselineInForce(t *testing.T) {
	c := steadyAt(8, 20e6).controller
	old := c.class[0].ln
	c.shiftBaselines(math.Log(2))
	var w window
	w.class[0].steer = sum{1, math.Log(8) - (old + math.Log(2))}
	w.class[0].marked = sum{1, old + math.Log(2)}
	if at, _ := c.estimates(&w); math.Abs(at.mean()-math.Log(8)) > 1e-9 {
		t.Errorf("estimate %v, want %v", at.mean(), math.Log(8))
	}
	if c.observeDip(&w); math.Abs(c.dip.at.mean()) > 1e-9 {
		t.Errorf("rise %v in a dip, want none", c.dip.at.mean())
	}
}
