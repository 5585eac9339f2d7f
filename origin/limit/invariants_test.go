package limit

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// A driver feeds a controller with requests as the hot path would, without
// clock or concurrency. There is always more demand than room: every request
// starts with the limit in flight.
type driver struct {
	controller
	quiet bool // nobody is refused
}

// origin is a saturated deterministic one: latency is the baseline until more
// are in flight than there are slots, then in proportion.
func origin(slots, baseline float64) func(n float64) float64 {
	return func(n float64) float64 { return baseline * max(1, n/slots) }
}

// tick runs count requests of one class through one step.
func (d *driver) tick(count int, latency func(n float64) float64) {
	p := d.plan()
	w := window{inFlight: int(p.limit), blocked: !d.quiet, share: 1}
	sums, n := &w.class[0], float64(p.limit)
	for range count {
		roles, ln := p.roles(p.limit), math.Log(latency(n))
		one := sum{1, ln}
		if roles&roleMarked != 0 {
			w.started++
			w.ended++
		}
		switch {
		case roles&roleMarked != 0 && p.known(0):
			sums.marked = sums.marked.plus(one)
		case roles&(roleMarked|roleLow) != 0:
			sums.low = sums.low.plus(one)
		}
		if roles&roleSteer != 0 && p.steering {
			sums.steer = sums.steer.plus(sum{1, math.Log(n) - ln})
		}
	}
	d.step(&w)
}

// steadyAt returns a driver that knows the baseline and believes in K.
func steadyAt(useful, baseline float64) *driver {
	d := &driver{controller: newController(1, defaultMax)}
	d.class[0] = baseline0(baseline)
	d.enterSteady(math.Log(useful))
	return d
}

func baseline0(latency float64) baseline { return baseline{math.Log(latency), 1000} }

func TestLimitExceedsUsefulConcurrency(t *testing.T) {
	for n := 1.0; n < 100_000; n++ {
		if limit := math.Floor(limitOf(n)); limit <= n {
			t.Fatalf("the limit sticks at %v: limitOf = %v", n, limit)
		}
		if back := usefulOf(limitOf(n)); math.Abs(back-n) > 1e-6*n {
			t.Fatalf("usefulOf(limitOf(%v)) = %v", n, back)
		}
	}
}

func TestConvergesToSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slots := float64(rapid.IntRange(1, 200).Draw(t, "slots"))
		factor := rapid.Float64Range(0.25, 1.5).Draw(t, "K over slots at first")
		baseline := rapid.Float64Range(1e6, 1e10).Draw(t, "baseline")
		d := steadyAt(max(1, slots*factor), baseline)
		for range 4000 {
			d.tick(max(1, d.limit()/4), origin(slots, baseline))
		}
		if want := d.bounded(limitOf(slots)); d.limit() < want-1 || d.limit() > want+1 {
			t.Fatalf("limit %d after %d slots, want %d", d.limit(), int(slots), want)
		}
	})
}

func TestConvergesFromNothing(t *testing.T) {
	for slots := 1; slots <= 200; slots++ {
		d := &driver{controller: newController(1, defaultMax)}
		for range 4000 {
			d.tick(max(1, d.limit()/4), origin(float64(slots), 2e7))
		}
		if want := d.bounded(limitOf(float64(slots))); d.limit() < want-1 || d.limit() > want+1 {
			t.Errorf("limit %d after %d slots, want %d", d.limit(), slots, want)
		}
	}
}

// With constant latency and always more demand than room, the limit never
// falls, dips apart, and doubles in a bounded number of requests.
func TestConstantLatencyNeverLowers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		latency := rapid.Float64Range(minLatency, maxLatency).Draw(t, "latency")
		d := steadyAt(rapid.Float64Range(1, 500).Draw(t, "K"), latency)
		batch := rapid.IntRange(1, 50).Draw(t, "requests per tick")
		constant := func(float64) float64 { return latency }
		before, requests, target := d.limit(), 0.0, 2*d.limit()
		for range 3000 {
			if d.dip.stage == dipNone {
				requests += float64(batch)
			}
			d.tick(batch, constant)
			now := d.limit()
			if now < before {
				t.Fatalf("the limit fell from %d to %d", before, now)
			}
			if before = now; now >= target {
				return
			}
		}
		if most := 2 * max(filterRequests, float64(d.limit())) * math.Ln2 / math.Log(gain); requests > most {
			t.Fatalf("limit %d after %v requests, want %d after %v", d.limit(), requests, target, most)
		}
	})
}

func TestUnblockedNeverRises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := steadyAt(rapid.Float64Range(1, 1000).Draw(t, "K"), 2e7)
		d.quiet, d.controller.quiet = true, boundTicks
		before := d.limit()
		for range 200 {
			factor := rapid.Float64Range(1e-3, 1e3).Draw(t, "latency factor")
			d.tick(rapid.IntRange(0, 40).Draw(t, "requests"), func(float64) float64 { return 2e7 * factor })
			if d.limit() > before {
				t.Fatalf("the limit rose from %d to %d with room to spare", before, d.limit())
			}
			before = d.limit()
		}
	})
}

// Scaling every latency by a constant leaves the path of the limit unchanged:
// nothing in the rules knows what is slow.
func TestScaleFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scale := rapid.Float64Range(1e-2, 1e2).Draw(t, "scale")
		one, other := newController(1, defaultMax), newController(1, defaultMax)
		a, b := &driver{controller: one}, &driver{controller: other}
		slots := float64(rapid.IntRange(1, 60).Draw(t, "slots"))
		for range 600 {
			noise := rapid.Float64Range(0.5, 2).Draw(t, "noise")
			count := rapid.IntRange(0, 20).Draw(t, "requests")
			a.tick(count, origin(slots, 1e7*noise))
			b.tick(count, origin(slots, 1e7*noise*scale))
			if math.Abs(a.k-b.k) > 1e-6 || a.phase != b.phase {
				t.Fatalf("ln K %v and %v, %v and %v", a.k, b.k, a.phase, b.phase)
			}
		}
	})
}

func TestOutlierMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := steadyAt(rapid.Float64Range(1, 100).Draw(t, "K"), 2e7)
		d.controller.quiet = 0
		outlier := rapid.Float64Range(minLatency, maxLatency).Draw(t, "outlier")
		k, p := d.k, d.plan()
		d.tick(1, func(float64) float64 { return outlier })
		x := math.Log(float64(p.limit)) - (math.Log(outlier) - p.base[0])
		if moved := math.Abs(d.k - k); moved > math.Abs(x-k)/filterRequests+1e-9 {
			t.Fatalf("one request moved ln K by %v", moved)
		}
		w := window{}
		w.class[0].low = sum{1, math.Log(outlier)}
		before := d.class[0].ln
		d.learnBaselines(&w)
		if moved := math.Abs(d.class[0].ln - before); moved > math.Abs(math.Log(outlier)-before)/baselineRequests+1e-9 {
			t.Fatalf("one request moved the baseline by %v", moved)
		}
	})
}

func TestEveryDipEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := steadyAt(rapid.Float64Range(2, 300).Draw(t, "K"), 2e7)
		d.controller.quiet = 0
		d.enterDip(d.low(), rapid.SampledFrom([]float64{0, -0.5}).Draw(t, "deviation"), false)
		demand := rapid.Bool().Draw(t, "demand")
		d.quiet = !demand
		count, ticks, started := 0, 0, 0.0
		if demand {
			count = rapid.IntRange(1, 30).Draw(t, "requests per tick")
		}
		size := d.dip.size
		for ; d.dip.stage == dipRunning; ticks++ {
			d.tick(count, origin(4, 2e7))
			started += float64(count)
			if started > size+float64(count) || !demand && ticks > dipQuietTicks {
				t.Fatalf("the dip goes on after %v of %v requests and %d ticks", started, size, ticks)
			}
		}
		for ticks = 0; d.dip.stage == dipReading; ticks++ {
			if d.tick(count, origin(4, 2e7)); ticks > dipReadTicks+1 {
				t.Fatal("the reading goes on")
			}
		}
	})
}

// An origin that answers nothing but failures is left with hardly any requests,
// and is given more again when it recovers.
func TestDeadOriginAndBack(t *testing.T) {
	l := New(Config{})
	var clock int64
	l.now = func() int64 { return clock }
	l.control = steadyAt(40, 2e7).controller
	l.publish(l.control.plan())
	run := func(requests int, r Result) int {
		for requests > 0 {
			var held []Permit
			for p, ok := l.Acquire(0, 1); ok; p, ok = l.Acquire(0, 1) {
				held = append(held, p)
			}
			clock += 2e7
			for _, p := range held {
				p.Release(r)
			}
			requests -= len(held)
			l.tick()
		}
		return l.State().Steady
	}
	if n := run(3000, Drop); n > 3 {
		t.Errorf("the limit of a dead origin is %d", n)
	}
	if n := run(3000, OK); n < 40 {
		t.Errorf("the limit of a recovered origin is %d", n)
	}
}

// Whatever is measured, the limit is a whole number within its bounds, and
// everything stays finite.
func TestAnySamplesStayFinite(t *testing.T) {
	latency := rapid.SampledFrom([]int64{0, 1, -1, -1e18, 1e9, 1e15, math.MaxInt64, 2e7, 3e7, 1e8})
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.IntRange(0, 5).Draw(t, "min")
		most := rapid.IntRange(0, 300).Draw(t, "max")
		l := New(Config{Min: least, Max: most})
		low, high := Config{Min: least, Max: most}.bounds()
		var clock int64
		l.now = func() int64 { return clock }
		for range 150 {
			var held []Permit
			for range rapid.IntRange(0, 60).Draw(t, "requests") {
				clock = 0
				class := Class(rapid.Uint8().Draw(t, "class"))
				if p, ok := l.Acquire(class, rapid.Float64Range(0, 1).Draw(t, "share")); ok {
					held = append(held, p)
				}
			}
			for _, p := range held {
				clock = latency.Draw(t, "latency")
				p.Release(rapid.SampledFrom([]Result{OK, OK, OK, Drop, Cancel}).Draw(t, "result"))
			}
			l.tick()
			checkFinite(t, l, low, high)
		}
	})
}

func checkFinite(t *rapid.T, l *Limiter, low, high int) {
	s, p := l.State(), l.plan.Load()
	if s.Limit < low || s.Limit > high || s.Steady < low || s.Steady > high {
		t.Fatalf("limit %d, steady %d, bounds %d..%d", s.Limit, s.Steady, low, high)
	}
	if math.IsNaN(s.Useful) || math.IsInf(s.Useful, 0) || s.Useful <= 0 {
		t.Fatalf("useful %v", s.Useful)
	}
	for _, b := range p.base {
		if math.IsNaN(b) || math.IsInf(b, 0) {
			t.Fatalf("baselines %v", p.base)
		}
	}
	if v := l.control.variance; math.IsNaN(v) || v < leastVariance {
		t.Fatalf("variance %v", v)
	}
}

func TestDipKeepsMinimum(t *testing.T) {
	c := newController(10, defaultMax)
	c.class[0] = baseline0(20e6)
	c.enterSteady(math.Log(10))
	c.quiet = 0
	c.considerDip(-greatestStep)
	if p := c.plan(); !p.dipping || p.limit != 10 {
		t.Errorf("dipping %v at a limit of %d, want the minimum of 10", p.dipping, p.limit)
	}
	// At the minimum there is no room: K follows.
	c.dip, c.k = dip{}, math.Log(5)
	c.considerDip(-0.5)
	if p := c.plan(); p.dipping || p.limit != 10 || math.Abs(c.k-(math.Log(5)-0.5)) > 1e-9 {
		t.Errorf("dipping %v, limit %d, ln K %v", p.dipping, p.limit, c.k)
	}
}

// Requests count, not ticks: as many in twice as many ticks lead the same way.
func TestTicksDoNotCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		useful := rapid.Float64Range(4, 100).Draw(t, "K")
		slots := rapid.Float64Range(0.7, 1.4).Draw(t, "slots over K") * useful
		a, b := steadyAt(useful, 2e7), steadyAt(useful, 2e7)
		half := rapid.IntRange(1, 10).Draw(t, "requests")
		for range 2000 / half {
			a.tick(2*half, origin(slots, 2e7))
			b.tick(half, origin(slots, 2e7))
			b.tick(half, origin(slots, 2e7))
		}
		if math.Abs(a.k-b.k) > 0.1 {
			t.Fatalf("K %v and %v", math.Exp(a.k), math.Exp(b.k))
		}
	})
}

// What a request may teach is decided when it starts: however long it takes, the
// same requests count.
func TestStartDecidesWhoTeaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newClocked(Config{})
		l.control = steadyAt(rapid.Float64Range(2, 60).Draw(t, "K"), 2e7).controller
		l.publish(l.control.plan())
		p, low, steer := l.plan.Load(), 0.0, 0.0
		var held []Permit
		for range rapid.IntRange(1, 80).Draw(t, "requests") {
			n := uint64(l.State().InFlight) + 1
			permit, ok := l.Acquire(0, 1)
			if !ok {
				break
			}
			held = append(held, permit)
			if n <= p.low {
				low++
			}
			if n >= p.steer {
				steer++
			}
		}
		for _, permit := range held {
			l.clock = int64(rapid.Float64Range(0, 1e10).Draw(t, "latency"))
			permit.Release(OK)
		}
		if w := l.collect(); w.class[0].low.n != low || w.class[0].steer.n != steer {
			t.Fatalf("%v and %v samples, want %v and %v", w.class[0].low.n, w.class[0].steer.n, low, steer)
		}
	})
}

// In a dip every request that started ends once, is canceled or is lost, and none
// counts twice.
func TestDipCountsEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newClocked(Config{})
		l.control = steadyAt(20, 2e7).controller
		l.control.quiet = 0
		l.control.enterDip(8, 0, false)
		l.publish(l.control.plan())
		var held []Permit
		started, ended, taught := 0.0, 0.0, 0.0
		for l.control.dip.stage == dipRunning {
			for range rapid.IntRange(0, 12).Draw(t, "requests") {
				if p, ok := l.Acquire(0, 1); ok {
					held = append(held, p)
					started++
				}
			}
			l.clock += 2e7
			keep := rapid.IntRange(0, len(held)).Draw(t, "lost or slow")
			for _, p := range held[keep:] {
				r := rapid.SampledFrom([]Result{OK, OK, OK, Drop, Cancel}).Draw(t, "result")
				p.Release(r)
				p.Release(OK)
				if ended++; r == OK {
					taught++
				}
			}
			held = held[:keep]
			l.refused(1) // so the dip goes on
			w := l.collect()
			l.control.step(&w)
			d := &l.control.dip
			if d.started != started || d.ended != ended || d.at.n != taught {
				t.Fatalf("counted %v, %v, %v; were %v, %v, %v", d.started, d.ended, d.at.n, started, ended, taught)
			}
			l.publish(l.control.plan())
		}
	})
}
