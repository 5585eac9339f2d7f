package limit

import (
	"container/heap"
	"math"
)

// This file is the origin of the simulation: FIFO workers with an unbounded
// backlog, or processor sharing with thrash.

// send gives a request to the origin.
func (s *simulation) send(j *job) {
	if s.sharing {
		s.advance()
		j.ends = s.virtual + j.demand
		heap.Push(&s.shared, j)
		s.reschedule()
		return
	}
	s.backlog = append(s.backlog, j)
	s.work()
}

// work starts requests of the backlog on free slots.
func (s *simulation) work() {
	for s.running < s.originSlots() && len(s.backlog) > 0 {
		j := s.backlog[0]
		s.backlog = s.backlog[1:]
		s.running++
		s.at(s.now+j.demand/s.speed, event{kind: finish, job: j})
	}
}

func (s *simulation) originSlots() int {
	n := s.scenario.slots
	for _, c := range s.changes {
		if c.at <= s.now && c.slots > 0 {
			n = c.slots
		}
	}
	return n
}

// rate is the speed of each job under processor sharing: a fair share, less
// what thrashing costs beyond one and a half times the slots.
func (s *simulation) rate() float64 {
	n, slots := float64(len(s.shared)), float64(s.originSlots())
	rate := s.speed * math.Min(1, slots/n)
	if n > 1.5*slots {
		rate /= 1 + 0.05*(n-1.5*slots)/slots
	}
	return rate
}

func (s *simulation) advance() {
	if len(s.shared) > 0 {
		s.virtual += (s.now - s.moved) * s.rate()
	}
	s.moved = s.now
}

func (s *simulation) reschedule() {
	if s.stamp++; len(s.shared) > 0 {
		left := math.Max(0, s.shared[0].ends-s.virtual)
		s.at(s.now+left/s.rate(), event{kind: finish, stamp: s.stamp})
	}
}

func (s *simulation) finish(e event) {
	if !s.sharing {
		s.running--
		s.complete(e.job)
		s.work()
		return
	}
	if e.stamp != s.stamp {
		return
	}
	s.advance()
	j := heap.Pop(&s.shared).(*job)
	s.complete(j)
	s.reschedule()
}

// deadline is how long a visitor waits, in mean service times.
const deadline = 50

func (s *simulation) complete(j *job) {
	latency := s.now - j.sent
	if latency > deadline*s.mean {
		j.permit.Release(Drop)
		return
	}
	s.eachSpan(func(sp *span) {
		sp.work += j.demand
		sp.latencies = append(sp.latencies, latency)
	})
	j.permit.Release(OK)
}

func (s *simulation) alter(c change) {
	s.advance()
	if c.speed > 0 {
		s.speed = c.speed
	}
	if s.sharing {
		s.reschedule()
		return
	}
	s.work()
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
