package limit

import (
	"fmt"
	"testing"
)

// The bars of the cases below are what the rules reach with a margin over all
// seeds, not what would be desirable. Goodput is the service time done within
// the deadline against an origin that never idles, over all overloaded seconds,
// the steps included.
type simCase struct {
	name string
	scenario
	seeds int

	goodput, worst float64 // mean and least over the seeds
	after          float64 // mean from a second after the origin changed, against its new capacity
	spill          float64 // greatest part of the requests spilled before the overload
	limits         [2]float64
}

// The course of demand of the product's demonstration: half of the capacity,
// then three and ten times. The large origin gets a shorter one, which is as
// many requests.
var (
	crowd      = []phase{{load: 0.5, seconds: 10}, {load: 3, seconds: 15}, {load: 10, seconds: 25}}
	shortCrowd = []phase{{load: 0.5, seconds: 4}, {load: 3, seconds: 5}, {load: 10, seconds: 5}}
	coldCrowd  = []phase{{load: 3, seconds: 20}, {load: 10, seconds: 20}}
	mixShift   = []phase{{load: 0.5, seconds: 10}, {load: 3, seconds: 30, shifted: true}}
)

func small(slots int, mean, cv float64, kind originKind) scenario {
	return scenario{kind: kind, slots: slots, mean: mean, cv: cv, phases: crowd}
}

func (s scenario) with(p []phase, c ...change) scenario {
	s.phases, s.changes = p, c
	return s
}

func (s scenario) mixed() scenario {
	s.mix = []float64{0.5, 2}
	return s
}

func simCases() []simCase {
	halfSlots := func(s scenario) scenario { return s.with(crowd, change{at: 30, slots: s.slots / 2}) }
	halfSpeed := func(s scenario) scenario { return s.with(crowd, change{at: 30, speed: 0.5}) }
	demo := small(4, 0.11, 0, fifo)
	return []simCase{
		{"4x110 fifo", demo, 8, 0.985, 0.98, 0, 0, [2]float64{5, 8}},
		{"4x110 fifo slots halved", halfSlots(demo), 8, 0.985, 0.98, 0.985, 0, [2]float64{2.5, 4}},
		{"4x110 fifo speed halved", halfSpeed(demo), 8, 0.975, 0.965, 0.955, 0, [2]float64{5, 8}},
		{"4x110 fifo cold", demo.with(coldCrowd), 6, 0.975, 0.97, 0, 1, [2]float64{5, 8}},
		{"4x110 fifo cv1", small(4, 0.11, 1, fifo), 8, 0.98, 0.95, 0, 0, [2]float64{4, 9}},
		{"4x110 fifo cv1 slots halved", halfSlots(small(4, 0.11, 1, fifo)), 8, 0.96, 0.92, 0.94, 0, [2]float64{2, 5.5}},
		{"4x110 fifo cv1 speed halved", halfSpeed(small(4, 0.11, 1, fifo)), 8, 0.93, 0.85, 0.83, 0, [2]float64{3, 8}},
		{"4x110 sharing", small(4, 0.11, 0, sharing), 6, 0.96, 0.95, 0, 0, [2]float64{5, 9}},
		{"4x110 sharing cv1", small(4, 0.11, 1, sharing), 6, 0.94, 0.90, 0, 0, [2]float64{5, 10}},
		{"2x100 fifo", small(2, 0.1, 0, fifo), 6, 0.98, 0.96, 0, 0, [2]float64{2.5, 5}},
		{"2x100 fifo cv1", small(2, 0.1, 1, fifo), 6, 0.96, 0.93, 0, 0, [2]float64{2, 5}},
		{"2x100 sharing", small(2, 0.1, 0, sharing), 6, 0.88, 0.86, 0, 0, [2]float64{2.5, 5}},
		{"4x20 fifo", small(4, 0.02, 0, fifo), 4, 0.99, 0.985, 0, 0, [2]float64{5, 8}},
		{"4x20 fifo cv1", small(4, 0.02, 1, fifo), 4, 0.98, 0.96, 0, 0.01, [2]float64{4, 8}},
		{"4x20 sharing cv1", small(4, 0.02, 1, sharing), 4, 0.97, 0.96, 0, 0.01, [2]float64{4, 9}},
		{"4x20 fifo cold", small(4, 0.02, 0, fifo).with(coldCrowd), 3, 0.985, 0.98, 0, 1, [2]float64{5, 8}},
		{"4x20 fifo mix shift", small(4, 0.02, 0, fifo).with(mixShift).mixed(), 3, 0.97, 0.96, 0, 0.01, [2]float64{5, 8}},
		{"16x20 fifo", small(16, 0.02, 1, fifo), 1, 0.985, 0.985, 0, 0, [2]float64{17, 26}},
		{"16x20 sharing", small(16, 0.02, 1, sharing), 1, 0.98, 0.98, 0, 0, [2]float64{18, 30}},
		{"16x20 sharing mix shift", small(16, 0.02, 0, sharing).with(mixShift).mixed(), 1, 0.97, 0.97, 0, 0.01, [2]float64{18, 30}},
		{"160x20 fifo", small(160, 0.02, 0, fifo).with(shortCrowd), 1, 0.98, 0.98, 0, 0.1, [2]float64{190, 230}},
		{"160x20 sharing cv1", small(160, 0.02, 1, sharing).with(shortCrowd), 1, 0.97, 0.97, 0, 0.15, [2]float64{170, 280}},
	}
}

func TestSimulatedOrigins(t *testing.T) {
	for i, c := range simCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && i%4 != 0 {
				t.Skip("-short takes every fourth case, for the bars are of all seeds of one")
			}
			c.run(t)
		})
	}
}

func (c *simCase) run(t *testing.T) {
	start, end := c.overload()
	var goodputs, spills, limits, afters, p99 float64
	worst := 1.0
	for seed := range c.seeds {
		before, total := &span{to: start}, &span{from: start, to: end}
		after := &span{from: end - 5, to: end}
		if len(c.changes) > 0 {
			after.from = c.changes[0].at + 1
		}
		sim := simulate(c.scenario, uint64(seed+1), before, total, after)
		g := total.work / sim.capacity(start, end)
		goodputs += g
		worst = min(worst, g)
		spills = max(spills, before.spill())
		limits += sim.meanLimit(end-5, end)
		afters += after.work / sim.capacity(after.from, end)
		p99 += after.quantile(0.99) / c.mean
	}
	n := float64(c.seeds)
	got := fmt.Sprintf("goodput %.3f (worst %.3f, at the end %.3f), spilled before %.3f, limit %.1f, p99 at the end %.1f services",
		goodputs/n, worst, afters/n, spills, limits/n, p99/n)
	t.Log(got)
	if goodputs/n < c.goodput || worst < c.worst || afters/n < c.after || spills > c.spill || limits/n < c.limits[0] || limits/n > c.limits[1] {
		t.Errorf("got %s; want at least %.3f (%.3f, %.3f), at most %.3f, %v", got, c.goodput, c.worst, c.after, c.spill, c.limits)
	}
}

// overload is the time from the first phase above the capacity to the end.
func (s scenario) overload() (from, to float64) {
	from = -1
	for _, p := range s.phases {
		if p.load > 1 && from < 0 {
			from = to
		}
		to += p.seconds
	}
	return from, to
}

// capacity is the service time that the origin could do between two instants.
func (s *simulation) capacity(from, to float64) float64 {
	slots, speed, total := float64(s.scenario.slots), 1.0, 0.0
	for _, c := range s.changes {
		if c.at > from {
			total += slots * speed * (c.at - from)
			from = c.at
		}
		if c.slots > 0 {
			slots = float64(c.slots)
		}
		if c.speed > 0 {
			speed = c.speed
		}
	}
	return total + slots*speed*(to-from)
}

// A node that knows nothing of a large and slow origin under half a load.
func TestSimulatedColdStart(t *testing.T) {
	f := func(cv, mean, worst float64) {
		t.Helper()
		s := small(160, 0.344, cv, fifo).with([]phase{{load: 0.5, seconds: 15}})
		const seeds = 8
		total, most, later := 0.0, 0.0, 0.0
		for seed := range seeds {
			first, second := &span{to: 10}, &span{from: 10, to: 15}
			simulate(s, uint64(seed+1), first, second)
			total += first.spill() / seeds
			most, later = max(most, first.spill()), max(later, second.spill())
		}
		t.Logf("cv %v: spilled %.3f (worst %.3f) in 10 s, later %.3f", cv, total, most, later)
		if total > mean || most > worst || later > 0 {
			t.Errorf("cv %v: spilled %.3f (worst %.3f), later %.3f; want at most %v, %v, 0", cv, total, most, later, mean, worst)
		}
	}
	f(0, 0.2, 0.2)
	f(1, 0.27, 0.45)
}

// A node that is hit cold by a burst, and then half loaded.
func TestSimulatedBurst(t *testing.T) {
	f := func(s scenario, seconds, mean, worst float64) {
		t.Helper()
		const seeds = 8
		s.phases = []phase{{load: 10, seconds: seconds}, {load: 0.5, seconds: 20}}
		total, most, later := 0.0, 0.0, 0.0
		for seed := range seeds {
			first, second := &span{from: seconds, to: seconds + 10}, &span{from: seconds + 10, to: seconds + 20}
			simulate(s, uint64(seed+1), first, second)
			total += first.spill() / seeds
			most, later = max(most, first.spill()), max(later, second.spill())
		}
		got := []any{s.slots, s.mean * 1000, s.cv, s.kind, seconds, total, most, later}
		t.Logf("%dx%.0f ms, cv %v, %v: after a burst of %v s spilled %.3f (worst %.3f), later %.3f", got...)
		if total > mean || most > worst || later > 0.02 {
			t.Errorf("spilled %.3f (worst %.3f), later %.3f; want at most %v, %v, 0.02", total, most, later, mean, worst)
		}
	}
	f(small(4, 0.2, 0, fifo), 1, 0.03, 0.06)
	f(small(4, 0.2, 1, fifo), 1, 0.06, 0.12)
	f(small(4, 0.2, 0, sharing), 1, 0.12, 0.18)
	f(small(4, 0.2, 1, sharing), 1, 0.08, 0.2)
	f(small(4, 0.5, 0, fifo), 1, 0.06, 0.2)
	f(small(16, 0.2, 0, fifo), 1, 0.12, 0.15)
	f(small(16, 0.2, 1, fifo), 1, 0.2, 0.4)
	f(small(4, 0.02, 0, fifo), 1, 0.02, 0.02)
	f(small(4, 0.2, 0, fifo), 7, 0.05, 0.1) // slow start, through in mid-burst
}
