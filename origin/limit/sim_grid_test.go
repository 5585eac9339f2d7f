package limit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
)

// This file is the grid of origins and courses of demand that the rules were
// chosen by, and what is measured on it.

// A gridCase is one origin under one course of demand.
type gridCase struct {
	name  string
	group string
	scenario
	seeds int
	at    windows
}

// windows are the parts of a course that are measured.
type windows struct {
	half, step, three, ten, nine [2]float64
}

// gridCases are all cases.
func gridCases() (all []gridCase) {
	add := func(group string, s scenario, times float64, courses ...string) {
		for _, course := range courses {
			all = append(all, newGridCase(group, s, times, course))
		}
	}
	every := []string{"base", "mix", "slots", "speed", "cold"}
	for _, cv := range []float64{1, 2} {
		for _, kind := range []originKind{sharing, fifo, pooled} {
			for _, o := range []struct {
				slots int
				mean  float64
			}{{2, 0.1}, {4, 0.1}, {4, 0.02}} {
				add("small", scenario{kind: kind, slots: o.slots, mean: o.mean, cv: cv}, 1, every...)
			}
			add("16", scenario{kind: kind, slots: 16, mean: 0.02, cv: cv}, 1, every...)
		}
		add("loop", scenario{kind: loop, slots: 10, mean: 0.05, cv: cv}, 1, every...)
	}
	for _, kind := range []originKind{sharing, fifo, pooled} {
		add("160", scenario{kind: kind, slots: 160, mean: 0.02, cv: 1}, 0.4, "base", "slots", "cold")
	}
	return all
}

// newGridCase lays out a course: half load, three times, ten times, half, and
// nine tenths of the capacity. All times are multiplied with times.
func newGridCase(group string, s scenario, times float64, course string) gridCase {
	t := func(seconds float64) float64 { return seconds * times }
	from := func(a, b float64) [2]float64 { return [2]float64{t(a), t(b)} }
	c := gridCase{
		name:  fmt.Sprintf("%dx%.0f %v cv%.0f %s", s.slots, s.mean*1000, s.kind, s.cv, course),
		group: fmt.Sprintf("%s cv%.0f", group, s.cv), seeds: 3,
		at: windows{half: from(0, 20), step: from(20, 24), three: from(22, 40), ten: from(42, 60), nine: from(82, 110)},
	}
	if float64(s.slots)/s.mean < 300 {
		c.seeds = 6
	}
	s.phases = []phase{
		{load: 0.5, seconds: t(20)},
		{load: 3, seconds: t(20), ramp: t(1)},
		{load: 10, seconds: t(20), ramp: t(1)},
		{load: 0.5, seconds: t(20), ramp: t(1)},
		{load: 0.9, seconds: t(30), ramp: t(1)},
	}
	switch course {
	case "mix":
		s.mix = []float64{0.5, 2}
		s.phases[1].shifted, s.phases[2].shifted = true, true
	case "slots":
		s.changes = []change{{at: t(47), slots: max(1, s.slots/2)}, {at: t(54), slots: s.slots}}
	case "speed":
		s.changes = []change{{at: t(47), speed: 0.5}, {at: t(60), speed: 1}}
	case "cold":
		s.phases[0].load = 3
		c.at.step = from(0, 4)
		c.at.half = [2]float64{}
	}
	c.scenario = s
	return c
}

// A result is what one limiter did in one case: means over the seeds, and the
// quantile of the latencies of all of them.
type result struct {
	Limit int     `json:"limit,omitempty"` // fixed; 0 for the limiter's own
	Half  float64 `json:"spill_half"`      // part of the requests spilled at half load
	Step  float64 `json:"work_step"`       // work done in the first seconds at three times the capacity
	Three float64 `json:"work_three"`
	Ten   float64 `json:"work_ten"`
	P99   float64 `json:"p99_ten"` // seconds
	Nine  float64 `json:"spill_nine"`
}

// run simulates a case with all its seeds.
func (c *gridCase) run(seeds int) (r result) {
	var latencies []float64
	for seed := range seeds {
		spans := [5]*span{}
		for i, w := range [][2]float64{c.at.half, c.at.step, c.at.three, c.at.ten, c.at.nine} {
			spans[i] = &span{from: w[0], to: w[1]}
		}
		simulate(c.scenario, uint64(seed+1), spans[:]...)
		n := float64(seeds)
		r.Half += spans[0].spill() / n
		r.Step += spans[1].work / n
		r.Three += spans[2].work / n
		r.Ten += spans[3].work / n
		r.Nine += spans[4].spill() / n
		latencies = append(latencies, spans[3].latencies...)
	}
	r.P99 = quantile(latencies, 0.99)
	return r
}

// fixed is the case under a fixed limit. Its queue waits for as long as each
// class takes at an idle origin, in the geometric mean, which nobody had to
// learn.
func (c gridCase) fixed(limit int) gridCase {
	c.config = Config{Min: limit, Max: limit}
	c.wait = c.idleLatencies()
	return c
}

// idleLatencies is the geometric mean latency of each class at an idle origin.
func (c *gridCase) idleLatencies() (all []float64) {
	const draws = 20_000
	o := newOrigin(&simulation{scenario: c.scenario})
	factors := c.mix
	if factors == nil {
		factors = []float64{1}
	}
	for _, factor := range factors {
		rng, total := rand.New(rand.NewPCG(1, 2)), 0.0
		for range draws {
			d := o.demand(rng, c.mean*factor)
			latency := d.work
			switch c.kind {
			case pooled:
				latency *= 1 + threadShare
			case loop:
				latency = 2*loopShare*d.work + d.wait
			}
			total += math.Log(latency)
		}
		all = append(all, math.Exp(total/draws))
	}
	return all
}

// limits are the fixed limits that the oracle chooses from.
func (c *gridCase) limits() []int {
	factors := []float64{0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 4, 5, 6.5, 8}
	if c.slots >= 100 {
		factors = []float64{1, 1.25, 1.5, 2}
	}
	var all []int
	for _, f := range factors {
		all = append(all, int(math.Ceil(f*float64(c.slots))))
	}
	return slices.Compact(all)
}

// best is the smallest fixed limit whose goodput is within one percent of the
// best, at three and at ten times the capacity.
func (c *gridCase) best() result {
	var all []result
	three, ten := 0.0, 0.0
	for _, limit := range c.limits() {
		f := c.fixed(limit)
		r := f.run(c.seeds)
		r.Limit = limit
		all = append(all, r)
		three, ten = max(three, r.Three), max(ten, r.Ten)
	}
	for margin := 0.99; ; margin -= 0.01 {
		for _, r := range all {
			if r.Three >= margin*three && r.Ten >= margin*ten {
				return r
			}
		}
	}
}

// A score is a result against that of the best fixed limit.
type score struct {
	gridCase
	own, best result
}

func (s *score) three() float64 { return s.own.Three / s.best.Three }
func (s *score) ten() float64   { return s.own.Ten / s.best.Ten }
func (s *score) step() float64  { return s.own.Step / s.best.Step }
func (s *score) p99() float64   { return s.own.P99 / s.best.P99 }

// nine is in points of the requests.
func (s *score) nine() float64 { return 100 * (s.own.Nine - s.best.Nine) }
func (s *score) half() float64 { return 100 * (s.own.Half - s.best.Half) }

// each runs f for all of them on some goroutines, each on its own.
func each[T any](all []T, workers int, f func(*T)) {
	var wg sync.WaitGroup
	next := make(chan *T)
	for range workers {
		wg.Go(func() {
			for t := range next {
				f(t)
			}
		})
	}
	for i := range all {
		next <- &all[i]
	}
	close(next)
	wg.Wait()
}
