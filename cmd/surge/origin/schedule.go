package origin

import (
	"container/heap"
	"math"
	"slices"
)

// A job is one request in the schedule. Its channels tell the request's own
// goroutine what the schedule decided.
type job struct {
	demand float64 // seconds of one slot at speed 1
	finish float64 // the virtual time at which it will be done
	seq    uint64  // breaks ties in order of arrival
	place  int     // its index in the heap of the served; -1 when not there

	number  int64   // by which whoever counts knows it
	arrived float64 // when it came in
	inside  int     // requests inside then, this one included

	started chan struct{} // closed when it is given a slot
	done    chan struct{} // closed when it is done or killed
	ended   float64       // when it was done, on the schedule's clock
	killed  bool          // the origin died under it; read after done
}

// A schedule decides when each request is done. It has no clock of its own:
// whoever owns it says what time it is, in seconds since any beginning.
//
// All served jobs progress at one rate, so one virtual clock serves them all: it
// advances by rate*dt, and a job is done when it reaches the job's finish tag.
// The two models differ only in how many jobs are served at a time. A job that
// follows another starts at the instant the other was done, not when a timer
// said so: lateness of timers does not add up, and the long-run rate is exact.
type schedule struct {
	model  Model
	slots  int
	speed  float64
	knee   float64
	thrash float64

	now     float64
	virtual float64
	served  jobHeap
	waiting []*job // in order of arrival; empty under Sharing
	seq     uint64
	begun   int                    // jobs that were given a slot
	elapsed func(from, to float64) // told of each stretch of unchanged state
	over    func(*job)             // told of each job that was done; nil tells nobody
}

// add puts in a job at time now, which must not lie before the last.
func (s *schedule) add(now, demand float64) *job {
	s.advance(now)
	s.seq++
	j := &job{
		demand: demand, seq: s.seq, place: -1, arrived: s.now,
		started: make(chan struct{}), done: make(chan struct{}),
	}
	s.waiting = append(s.waiting, j)
	s.fill()
	return j
}

// advance lets time pass until now.
func (s *schedule) advance(now float64) {
	for {
		next := s.next()
		if next > now {
			break
		}
		j := s.served[0]
		s.pass(next)
		s.virtual = j.finish // exactly, whatever rounding said
		heap.Pop(&s.served)
		s.end(j)
		if s.over != nil {
			s.over(j)
		}
		s.fill()
	}
	s.pass(now)
}

// next is when the next job will be done if nothing changes; +Inf if none.
func (s *schedule) next() float64 {
	rate := s.rate()
	if rate == 0 {
		return math.Inf(1)
	}
	return max(s.now, s.now+(s.served[0].finish-s.virtual)/rate)
}

// remove takes out a job that is neither done nor killed.
func (s *schedule) remove(now float64, j *job) {
	s.advance(now)
	if j.place >= 0 {
		heap.Remove(&s.served, j.place)
	} else if i := slices.Index(s.waiting, j); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.fill()
}

// kill ends every job without finishing it.
func (s *schedule) kill(now float64) {
	s.advance(now)
	for _, j := range append(slices.Clone(s.served), s.waiting...) {
		j.killed = true
		j.place = -1
		s.end(j)
	}
	s.served, s.waiting = nil, nil
}

// set changes the slots and the speed at time now.
func (s *schedule) set(now float64, slots int, speed float64) {
	s.advance(now)
	s.slots, s.speed = slots, speed
	s.fill()
}

// rate is the progress of each served job, in seconds of demand per second.
func (s *schedule) rate() float64 {
	if len(s.served) == 0 {
		return 0
	}
	slots := float64(s.slots)
	// More jobs than slots are served under Sharing, and under FIFO for a moment
	// after slots were taken away.
	rate := s.speed * min(1, slots/float64(len(s.served)))
	inside := float64(len(s.served) + len(s.waiting))
	if beyond := inside - s.knee*slots; beyond > 0 {
		rate /= 1 + s.thrash*beyond/slots
	}
	return rate
}

// fill starts waiting jobs while the model serves more.
func (s *schedule) fill() {
	for len(s.waiting) > 0 && (s.model == Sharing || len(s.served) < s.slots) {
		j := s.waiting[0]
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		j.finish = s.virtual + j.demand
		heap.Push(&s.served, j)
		s.begun++
		close(j.started)
	}
	if len(s.served) == 0 {
		s.virtual = 0 // nobody holds a tag: keep the clock small and so precise
	}
}

// pass lets time pass in which no job is done.
func (s *schedule) pass(to float64) {
	if to <= s.now {
		return
	}
	s.elapsed(s.now, to)
	s.virtual += s.rate() * (to - s.now)
	s.now = to
}

func (s *schedule) end(j *job) {
	j.ended = s.now
	select {
	case <-j.started:
	default:
		close(j.started)
	}
	close(j.done)
}

// busy is how many slots work.
func (s *schedule) busy() int { return min(len(s.served), s.slots) }

// jobHeap orders jobs by the virtual time at which they will be done.
type jobHeap []*job

func (h jobHeap) Len() int { return len(h) }

func (h jobHeap) Less(i, j int) bool {
	if h[i].finish != h[j].finish {
		return h[i].finish < h[j].finish
	}
	return h[i].seq < h[j].seq
}

func (h jobHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.place = len(*h)
	*h = append(*h, j)
}

func (h *jobHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	j.place = -1
	return j
}
