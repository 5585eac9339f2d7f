package limit

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// This file is a discrete-event simulation of visitors, the limiter and an
// origin. It runs the real Limiter; only its clock and its ticks are the
// simulation's. Seconds are float64.

// A scenario is one origin and one course of demand.
type scenario struct {
	kind   originKind
	slots  int
	mean   float64 // service time of one request at an idle origin, see originKind
	cv     float64 // of the service time: 0 fixed, else lognormal
	phases []phase
	// changes happen to the origin in mid-run.
	changes []change
	share   float64   // overflow_at; 0 means 1
	mix     []float64 // factors on the service time, one class each; nil means one class
	config  Config
	// wait is how long a request of each class waits at most for a permit; nil is
	// what the limiter has learned.
	wait []float64
	// patience is how long a request may wait that nothing else takes; 0 means that
	// all may spill.
	patience float64
	// stubborn requests wait for all of it, however long the queue stands.
	stubborn bool
	// pages are what visitors ask for; nil means single requests of no visitor.
	pages *pageLoad
	// predicted is told of each admitted request when it came, how long it was
	// predicted to take, and how long it took; seconds.
	predicted func(at, predicted, took float64)
	// reports makes the origin tell its utilization of about the last half second
	// with every answer.
	reports bool
	// claims, if positive, is what it tells instead.
	claims float64
	// learned is what the limiter begins with.
	learned Learned
}

// A phase offers load as a multiple of the origin's first capacity. Its first
// ramp seconds lead there from the load before. If shifted, the last class of the
// mix gets 95 % of the requests instead of 20 %.
type phase struct {
	load, seconds float64
	ramp          float64
	shifted       bool
}

// A change happens to the origin in mid-run.
type change struct {
	at    float64
	slots int     // 0: as before
	speed float64 // 0: as before
}

// A span counts what happened between two instants.
type span struct {
	from, to          float64
	arrivals, spilled int
	turnedAway        []float64 // how long those waited who were spilled
	waits             []float64 // how long the admitted waited for their permits
	work              float64   // service time done, in seconds of one slot at speed 1
	latencies         []float64 // of the admitted, from their arrival
}

func (s *span) spill() float64 { return float64(s.spilled) / math.Max(1, float64(s.arrivals)) }

func (s *span) quantile(q float64) float64 { return quantile(s.latencies, q) }

func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1))]
}

type eventKind uint8

const (
	arrive eventKind = iota
	ask              // a visitor asks for a part of a page
	tick
	proceed // the job has spent the time of a step
	serve   // processor sharing: the next job is served
	expire  // the visitor has waited for long enough
	timeout // the edge gives up on a job
	alter
)

type event struct {
	at     float64
	order  uint64 // events of one instant happen in the order of their making
	kind   eventKind
	job    *job
	stamp  uint64
	change change
}

// An agenda is a heap of events. Unlike container/heap it does not put each one
// into an interface, which would be most of the work of a simulation.
type agenda []event

func (a agenda) before(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].order < a[j].order
}

func (a *agenda) push(e event) {
	*a = append(*a, e)
	h := *a
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h.before(i, parent) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (a *agenda) pop() event {
	h := *a
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	*a = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return first
		}
		if child+1 < last && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			return first
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// A job is a request: first a visitor who may wait, then work at the origin.
type job struct {
	arrived   float64
	class     Class
	demand    demand
	page      *page // that it is a part of
	part      int
	predicted float64
	waiter    *waiter
	permit    Permit
	gone      bool // the edge has given up on it

	steps []step  // what is left to do at the origin
	ends  float64 // processor sharing: the virtual time at which it is served
}

type simulation struct {
	scenario
	limiter *Limiter
	rng     *rand.Rand
	now     float64
	agenda  agenda
	order   uint64
	waiting []*job
	spans   []*span
	origin  simOrigin
	limits  []float64
	busy    float64 // running mean of the part of the origin in use
}

// simulate runs a scenario and returns what happened in the spans.
func simulate(s scenario, seed uint64, spans ...*span) *simulation {
	sim := &simulation{scenario: s, rng: rand.New(rand.NewPCG(seed, 1)), spans: spans}
	if sim.share == 0 {
		sim.share = 1
	}
	sim.limiter = New(s.config)
	sim.limiter.shards = sim.limiter.shards[:1] // one goroutine; and 100 ticks a second
	sim.limiter.now = func() int64 { return int64(sim.now * 1e9) }
	sim.limiter.Restore(s.learned)
	sim.origin = newOrigin(sim)
	for _, c := range s.changes {
		sim.at(c.at, event{kind: alter, change: c})
	}
	sim.at(0, event{kind: tick})
	sim.at(0, event{kind: arrive})
	end := s.seconds()
	for len(sim.agenda) > 0 && sim.agenda[0].at < end {
		e := sim.agenda.pop()
		sim.now = e.at
		sim.handle(e)
		sim.admitWaiters()
	}
	return sim
}

func (s *scenario) seconds() (n float64) {
	for _, p := range s.phases {
		n += p.seconds
	}
	return n
}

func (s *simulation) at(t float64, e event) {
	s.order++
	e.at, e.order = t, s.order
	s.agenda.push(e)
}

func (s *simulation) handle(e event) {
	switch e.kind {
	case arrive:
		s.arrival()
	case ask:
		s.request(e.job)
	case tick:
		s.limiter.tick()
		s.busy += (s.origin.busy() - s.busy) * tickInterval.Seconds() / 0.5
		s.limits = append(s.limits, float64(s.limiter.plan.Load().steady))
		s.at(s.now+tickInterval.Seconds(), event{kind: tick})
	case expire:
		s.expire(e.job)
	case timeout:
		s.giveUp(e.job)
	default:
		s.origin.handle(e)
	}
}

// offered is the load now, and whether the mix is shifted.
func (s *simulation) offered() (load float64, shifted bool) {
	begin, before := 0.0, s.phases[0].load
	for _, p := range s.phases {
		if s.now < begin+p.seconds {
			if s.now < begin+p.ramp {
				return before + (p.load-before)*(s.now-begin)/p.ramp, p.shifted
			}
			return p.load, p.shifted
		}
		begin, before = begin+p.seconds, p.load
	}
	return before, false
}

// arrival draws all of the next request, whatever becomes of it, so that the
// visitors of a seed are the same whoever limits them.
func (s *simulation) arrival() {
	load, shifted := s.offered()
	rate := load * float64(s.slots) / s.mean
	if s.pages != nil {
		rate /= float64(s.pages.parts)
	}
	s.at(s.now+s.rng.ExpFloat64()/rate, event{kind: arrive})
	if s.pages != nil {
		s.visit(shifted)
		return
	}
	s.request(s.job(shifted))
}

func (s *simulation) job(shifted bool) *job {
	class, factor := s.draw(shifted)
	return &job{class: class, demand: s.origin.demand(s.rng, s.mean*factor)}
}

// request asks for a permit.
func (s *simulation) request(j *job) {
	j.arrived = s.now
	if s.predicted != nil {
		latency, _ := s.limiter.Predicted(j.class, s.share)
		j.predicted = latency.Seconds()
	}
	s.eachSpan(func(sp *span) { sp.arrivals++ })
	if permit, ok := s.limiter.Acquire(j.class, s.share); ok {
		s.send(j, permit)
		return
	}
	r := Request{Class: j.class, Share: s.share, Length: 0.5}
	if s.wait != nil {
		r.Wait = time.Duration(s.wait[j.class] * 1e9)
	}
	if s.patience > 0 {
		r.Patient, r.Wait = !s.stubborn, time.Duration(s.patience*1e9)
	}
	s.rank(j, &r)
	if j.waiter = s.limiter.enqueue(r); j.waiter == nil {
		s.spill(j)
		return
	}
	s.waiting = append(s.waiting, j)
	s.at(s.now+j.waiter.Wait.Seconds(), event{kind: expire, job: j})
}

func (s *simulation) draw(shifted bool) (Class, float64) {
	if s.mix == nil {
		return 0, 1
	}
	last := 0.2
	if shifted {
		last = 0.95
	}
	if s.rng.Float64() < last {
		return Class(len(s.mix) - 1), s.mix[len(s.mix)-1]
	}
	i := s.rng.IntN(len(s.mix) - 1)
	return Class(i), s.mix[i]
}

func (s *simulation) spill(j *job) {
	s.eachSpan(func(sp *span) {
		sp.spilled++
		sp.turnedAway = append(sp.turnedAway, s.now-j.arrived)
	})
}

func (s *simulation) eachSpan(f func(*span)) {
	for _, sp := range s.spans {
		if s.now >= sp.from && s.now < sp.to {
			f(sp)
		}
	}
}

func (s *simulation) expire(j *job) {
	if j.waiter == nil || !j.waiter.waiting {
		return
	}
	s.limiter.abandon(j.waiter)
	s.waiting = slices.DeleteFunc(s.waiting, func(o *job) bool { return o == j })
	s.spill(j)
}

// admitWaiters sends the requests that the limiter has taken off its stack.
func (s *simulation) admitWaiters() {
	if len(s.waiting) == int(s.limiter.queue.length.Load()) {
		return
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(j *job) bool {
		if j.waiter.waiting {
			return false
		}
		if p := <-j.waiter.answer; p.Valid() {
			s.send(j, p)
		} else {
			s.spill(j)
		}
		return true
	})
}

// deadline is how long the edge waits for the origin, in mean service times.
const deadline = 50

func (s *simulation) send(j *job, p Permit) {
	j.permit, j.waiter = p, nil
	s.eachSpan(func(sp *span) { sp.waits = append(sp.waits, s.now-j.arrived) })
	s.at(s.now+deadline*s.mean, event{kind: timeout, job: j})
	s.origin.send(j)
}

// giveUp ends a request that takes too long. The origin does not notice and works
// on, which is the worst that it can do.
func (s *simulation) giveUp(j *job) {
	j.gone = true
	j.permit.Release(Drop) // nothing, if the job was done
}

// complete ends a request that the origin has served.
func (s *simulation) complete(j *job) {
	if j.gone {
		return
	}
	if s.reports {
		s.limiter.Report(cmp.Or(s.claims, s.busy))
	}
	s.eachSpan(func(sp *span) {
		sp.work += j.demand.work
		sp.latencies = append(sp.latencies, s.now-j.arrived)
	})
	if s.predicted != nil {
		s.predicted(j.arrived, j.predicted, s.now-j.arrived)
	}
	if j.page != nil {
		j.page.had++
	}
	j.permit.Release(OK)
}

// meanLimit is the mean limit between two instants.
func (s *simulation) meanLimit(from, to float64) float64 {
	ticks := float64(time.Second / tickInterval)
	part := s.limits[int(from*ticks):min(len(s.limits), int(to*ticks))]
	total := 0.0
	for _, l := range part {
		total += l
	}
	return total / float64(len(part))
}
