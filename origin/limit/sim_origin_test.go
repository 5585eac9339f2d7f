package limit

import (
	"container/heap"
	"math"
	"math/rand/v2"
)

// This file is the origins of the simulation.

// An originKind says how an origin shares what it has.
type originKind uint8

const (
	// fifo is so many workers with an unbounded backlog, like php-fpm or gunicorn.
	fifo originKind = iota
	// sharing gives every request a fair share of the slots, less what thrashing
	// costs beyond one and a half times as many.
	sharing
	// pooled hides a pool of so many connections to a database behind four times as
	// many threads. A request works for 0.3 of the mean service time in a thread and
	// then, still holding it, waits for a connection and uses it for one.
	pooled
	// loop is an event loop: of the mean service time a twentieth is its processor
	// time before, and as much after, a wait that takes nothing from anybody. Ten
	// slots keep it busy.
	loop
)

func (k originKind) String() string { return [...]string{"fifo", "sharing", "pooled", "loop"}[k] }

const (
	threadShare = 0.3  // of the service time, before a connection is asked for
	threads     = 4    // for each connection
	loopShare   = 0.05 // of the service time, before and after the wait
)

// A simOrigin is what the jobs run on.
type simOrigin interface {
	// demand draws what a job needs, for a mean service time.
	demand(rng *rand.Rand, mean float64) demand
	send(j *job)
	handle(e event)
	// busy is the part of it that is in use.
	busy() float64
}

// A demand is what one job needs: its parts in seconds, and the service time that
// its end is worth.
type demand struct {
	work, wait float64
}

func newOrigin(s *simulation) simOrigin {
	if s.kind == sharing {
		return &sharingOrigin{sim: s, speed: 1, slots: float64(s.slots)}
	}
	return newStationOrigin(s)
}

// service draws a service time of mean 1.
func (s *scenario) service(rng *rand.Rand) float64 {
	if s.cv == 0 {
		return 1
	}
	v := math.Log(1 + s.cv*s.cv)
	return math.Exp(rng.NormFloat64()*math.Sqrt(v) - v/2)
}

// A station is so many servers and a queue in front of them, first come first
// served.
type station struct {
	servers, busy int
	queue         []*job
}

// A step is one thing that a job does: take a server of a station, spend time, or
// give the server back.
type step struct {
	take, give *station
	spend      float64
	processor  bool // the time depends on how many slots the origin has left
}

// stationOrigin is every origin whose jobs pass from queue to queue.
type stationOrigin struct {
	sim          *simulation
	speed        float64
	processor    float64 // speed of the event loop's processor
	outer, inner station // workers, or threads and connections
}

func newStationOrigin(s *simulation) *stationOrigin {
	o := &stationOrigin{sim: s, speed: 1, processor: 1}
	switch s.kind {
	case pooled:
		o.outer.servers, o.inner.servers = threads*s.slots, s.slots
	case loop:
		o.outer.servers = 1
	default:
		o.outer.servers = s.slots
	}
	return o
}

func (o *stationOrigin) demand(rng *rand.Rand, mean float64) demand {
	work := mean * o.sim.service(rng)
	if o.sim.kind == loop {
		return demand{work: work, wait: mean * (1 - 2*loopShare) * o.sim.service(rng)}
	}
	return demand{work: work}
}

func (o *stationOrigin) steps(j *job) []step {
	work := j.demand.work
	switch o.sim.kind {
	case pooled:
		return []step{
			{take: &o.outer},
			{spend: threadShare * work},
			{take: &o.inner},
			{spend: work},
			{give: &o.inner},
			{give: &o.outer},
		}
	case loop:
		cpu := step{spend: loopShare * work, processor: true}
		return []step{
			{take: &o.outer},
			cpu,
			{give: &o.outer},
			{spend: j.demand.wait},
			{take: &o.outer},
			cpu,
			{give: &o.outer},
		}
	}
	return []step{{take: &o.outer}, {spend: work}, {give: &o.outer}}
}

func (o *stationOrigin) send(j *job) {
	j.steps = o.steps(j)
	o.run(j)
}

// run does the steps of a job as far as it gets.
func (o *stationOrigin) run(j *job) {
	for len(j.steps) > 0 {
		s := j.steps[0]
		switch {
		case s.take != nil:
			if s.take.busy >= s.take.servers {
				s.take.queue = append(s.take.queue, j)
				return
			}
			s.take.busy++
		case s.give != nil:
			s.give.busy--
			defer o.fill(s.give)
		default:
			j.steps = j.steps[1:]
			speed := o.speed
			if s.processor {
				speed *= o.processor
			}
			o.sim.at(o.sim.now+s.spend/speed, event{kind: proceed, job: j})
			return
		}
		j.steps = j.steps[1:]
	}
	o.sim.complete(j)
}

// fill gives free servers of a station to those who queue for them.
func (o *stationOrigin) fill(s *station) {
	for s.busy < s.servers && len(s.queue) > 0 {
		j := s.queue[0]
		s.queue = s.queue[1:]
		o.run(j)
	}
}

func (o *stationOrigin) busy() float64 {
	s := &o.outer
	if o.sim.kind == pooled {
		s = &o.inner
	}
	return float64(s.busy) / float64(s.servers)
}

func (o *stationOrigin) handle(e event) {
	if e.kind == proceed {
		o.run(e.job)
		return
	}
	if e.change.speed > 0 {
		o.speed = e.change.speed
	}
	if n := e.change.slots; n > 0 {
		switch o.sim.kind {
		case pooled:
			o.inner.servers = n
		case loop:
			o.processor = float64(n) / float64(o.sim.slots)
		default:
			o.outer.servers = n
		}
	}
	o.fill(&o.inner)
	o.fill(&o.outer)
}

// sharingOrigin is processor sharing.
type sharingOrigin struct {
	sim          *simulation
	speed, slots float64
	jobs         jobs
	virtual      float64 // service that each job has had
	moved        float64 // when virtual was last brought up to date
	stamp        uint64  // invalidates the pending event
}

func (o *sharingOrigin) demand(rng *rand.Rand, mean float64) demand {
	return demand{work: mean * o.sim.service(rng)}
}

func (o *sharingOrigin) send(j *job) {
	o.advance()
	j.ends = o.virtual + j.demand.work
	heap.Push(&o.jobs, j)
	o.reschedule()
}

// rate is the speed of each job.
func (o *sharingOrigin) rate() float64 {
	n := float64(len(o.jobs))
	rate := o.speed * math.Min(1, o.slots/n)
	if n > 1.5*o.slots {
		rate /= 1 + 0.05*(n-1.5*o.slots)/o.slots
	}
	return rate
}

func (o *sharingOrigin) advance() {
	if len(o.jobs) > 0 {
		o.virtual += (o.sim.now - o.moved) * o.rate()
	}
	o.moved = o.sim.now
}

func (o *sharingOrigin) reschedule() {
	if o.stamp++; len(o.jobs) > 0 {
		left := math.Max(0, o.jobs[0].ends-o.virtual)
		o.sim.at(o.sim.now+left/o.rate(), event{kind: serve, stamp: o.stamp})
	}
}

func (o *sharingOrigin) busy() float64 { return math.Min(1, float64(len(o.jobs))/o.slots) }

func (o *sharingOrigin) handle(e event) {
	switch {
	case e.kind == alter:
		o.advance()
		if e.change.speed > 0 {
			o.speed = e.change.speed
		}
		if e.change.slots > 0 {
			o.slots = float64(e.change.slots)
		}
	case e.stamp != o.stamp:
		return
	default:
		o.advance()
		o.sim.complete(heap.Pop(&o.jobs).(*job))
	}
	o.reschedule()
}

type jobs []*job

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a].ends < j[b].ends }
func (j jobs) Swap(a, b int)      { j[a], j[b] = j[b], j[a] }
func (j *jobs) Push(x any)        { *j = append(*j, x.(*job)) }
func (j *jobs) Pop() any {
	last := len(*j) - 1
	x := (*j)[last]
	*j = (*j)[:last]
	return x
}
