package limit

import (
	"container/heap"
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
	slots   int
	mean    float64 // service time of one request at an idle origin
	cv      float64 // of the service time: 0 fixed, else lognormal
	sharing bool    // processor sharing with thrash, else FIFO workers with a backlog
	phases  []phase
	changes []change
	share   float64   // overflow_at; 0 means 1
	mix     []float64 // factors on the service time, one class each; nil means one class
	config  Config
}

// A phase offers load as a multiple of the origin's first capacity. From shifted
// on, the last class of the mix gets 95 % of the requests instead of 20 %.
type phase struct {
	load, seconds float64
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
	work              float64 // service time done, in seconds of one slot at speed 1
	latencies         []float64
}

func (s *span) spill() float64 { return float64(s.spilled) / math.Max(1, float64(s.arrivals)) }

func (s *span) quantile(q float64) float64 {
	if len(s.latencies) == 0 {
		return 0
	}
	slices.Sort(s.latencies)
	return s.latencies[int(q*float64(len(s.latencies)-1))]
}

type eventKind uint8

const (
	arrive eventKind = iota
	tick
	finish
	expire
	alter
)

type event struct {
	at     float64
	order  uint64 // events of one instant happen in the order of their making
	kind   eventKind
	job    *job
	waiter *visitor
	stamp  uint64
	change change
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

// A job is a request at the origin.
type job struct {
	permit Permit
	sent   float64
	demand float64 // seconds of service
	ends   float64 // processor sharing: the virtual time at which it is served
}

// A visitor waits in the limiter's queue.
type visitor struct {
	waiter  *waiter
	arrived float64
	demand  float64
}

type simulation struct {
	scenario
	limiter *Limiter
	rng     *rand.Rand
	now     float64
	events  events
	order   uint64
	waiting []*visitor
	spans   []*span

	// The origin.
	speed   float64
	running int     // FIFO: in service
	backlog []*job  // FIFO: behind them
	shared  jobs    // processor sharing
	virtual float64 // processor sharing: service that each job has had
	moved   float64 // when virtual was last brought up to date
	stamp   uint64  // invalidates the pending finish event
	limits  []float64
}

// simulate runs a scenario and returns what happened in the spans.
func simulate(s scenario, seed uint64, spans ...*span) *simulation {
	sim := &simulation{scenario: s, speed: 1, rng: rand.New(rand.NewPCG(seed, 1)), spans: spans}
	if sim.share == 0 {
		sim.share = 1
	}
	sim.limiter = New(s.config)
	sim.limiter.now = func() int64 { return int64(sim.now * 1e9) }
	for _, c := range s.changes {
		sim.at(c.at, event{kind: alter, change: c})
	}
	sim.at(0, event{kind: tick})
	sim.at(0, event{kind: arrive})
	end := 0.0
	for _, p := range s.phases {
		end += p.seconds
	}
	for len(sim.events) > 0 && sim.events[0].at < end {
		e := heap.Pop(&sim.events).(event)
		sim.now = e.at
		sim.handle(e)
		sim.admitWaiters()
	}
	return sim
}

func (s *simulation) at(t float64, e event) {
	s.order++
	e.at, e.order = t, s.order
	heap.Push(&s.events, e)
}

func (s *simulation) handle(e event) {
	switch e.kind {
	case arrive:
		s.arrival()
	case tick:
		s.limiter.tick()
		s.limits = append(s.limits, float64(s.limiter.State().Steady))
		s.at(s.now+tickInterval.Seconds(), event{kind: tick})
	case finish:
		s.finish(e)
	case expire:
		s.expire(e.waiter)
	case alter:
		s.alter(e.change)
	}
}

// current is the phase now.
func (s *simulation) current() phase {
	end := 0.0
	for _, p := range s.phases {
		if end += p.seconds; s.now < end {
			return p
		}
	}
	return s.phases[len(s.phases)-1]
}

func (s *simulation) arrival() {
	p := s.current()
	rate := p.load * float64(s.slots) / s.mean
	s.at(s.now+s.rng.ExpFloat64()/rate, event{kind: arrive})
	s.eachSpan(func(sp *span) { sp.arrivals++ })
	class, factor := s.draw(p)
	demand := s.mean * factor * s.service()
	if permit, ok := s.limiter.Acquire(class, s.share); ok {
		s.send(&job{permit: permit, sent: s.now, demand: demand})
		return
	}
	w := s.limiter.enqueue(class, s.share, 0.5)
	if w == nil {
		s.spill()
		return
	}
	v := &visitor{w, s.now, demand}
	s.waiting = append(s.waiting, v)
	s.at(s.now+s.limiter.baselineOf(class).Seconds(), event{kind: expire, waiter: v})
}

func (s *simulation) draw(p phase) (Class, float64) {
	if s.mix == nil {
		return 0, 1
	}
	last := 0.2
	if p.shifted {
		last = 0.95
	}
	if s.rng.Float64() < last {
		return Class(len(s.mix) - 1), s.mix[len(s.mix)-1]
	}
	i := s.rng.IntN(len(s.mix) - 1)
	return Class(i), s.mix[i]
}

// service draws a service time of mean 1.
func (s *simulation) service() float64 {
	if s.cv == 0 {
		return 1
	}
	v := math.Log(1 + s.cv*s.cv)
	return math.Exp(s.rng.NormFloat64()*math.Sqrt(v) - v/2)
}

func (s *simulation) spill() { s.eachSpan(func(sp *span) { sp.spilled++ }) }

func (s *simulation) eachSpan(f func(*span)) {
	for _, sp := range s.spans {
		if s.now >= sp.from && s.now < sp.to {
			f(sp)
		}
	}
}

func (s *simulation) expire(v *visitor) {
	if !v.waiter.waiting {
		return
	}
	s.limiter.abandon(v.waiter)
	s.waiting = slices.DeleteFunc(s.waiting, func(o *visitor) bool { return o == v })
	s.spill()
}

// admitWaiters sends the requests that the limiter has taken off its stack.
func (s *simulation) admitWaiters() {
	if len(s.waiting) == int(s.limiter.queue.length.Load()) {
		return
	}
	s.waiting = slices.DeleteFunc(s.waiting, func(v *visitor) bool {
		select {
		case p := <-v.waiter.granted:
			s.send(&job{permit: p, sent: s.now, demand: v.demand})
			return true
		default:
			return false
		}
	})
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
