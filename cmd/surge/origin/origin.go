// Package origin is the reference origin: an HTTP server whose capacity is known,
// so that what a proxy makes of it can be measured against the truth.
//
// Slots work for a service time each; a schedule in virtual time decides when a
// request is done, so that the capacity is slots*speed/service whatever the
// machine does meanwhile. Beyond a knee it loses speed, beyond its backlog it
// answers 503, and it works on for clients that have left, as origins do. Slots
// and speed change while it runs, and it can die.
//
// When the machine is too slow for the real work, answers are late and counted as
// overruns; the schedule is not. It does not model memory, garbage collection
// pauses, or the cost of the network: answers are written outside the slots.
package origin

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// An Origin is an http.Handler. Use New.
type Origin struct {
	c     Config
	epoch time.Time // whole second; the schedule counts from it

	mu    sync.Mutex
	sched schedule
	timer *time.Timer // fires when the next job is done
	rng   *rand.Rand
	count Stats // the counters only
	past  history
	gone  chan struct{} // closed while dead
	dead  bool
}

// New makes an origin. It starts nothing.
func New(c Config) (*Origin, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	epoch := time.Now().Truncate(time.Second)
	o := &Origin{
		c:     c,
		epoch: epoch,
		rng:   rand.New(rand.NewPCG(c.Seed, 0)),
		past:  history{epoch: epoch.Unix()},
		gone:  make(chan struct{}),
	}
	o.sched = schedule{
		model: c.Model, slots: c.Slots, speed: 1, knee: c.Knee, thrash: c.Thrash,
		now: o.clock(), elapsed: o.account,
	}
	return o, nil
}

// A Change says what to change while the origin runs; nil leaves as it is.
type Change struct {
	Slots *int
	Speed *float64 // 1 is normal, 0 hangs
	Dead  *bool    // a dead origin closes connections and answers nothing
}

// Control makes the change, at once and for the requests inside too.
func (o *Origin) Control(c Change) error {
	if c.Slots != nil && *c.Slots < 1 {
		return errors.New("slots: want at least 1")
	}
	if c.Speed != nil && !(*c.Speed >= 0 && *c.Speed <= 1000) {
		return errors.New("speed: want 0 to 1000")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	slots, speed := o.sched.slots, o.sched.speed
	if c.Slots != nil {
		slots = *c.Slots
	}
	if c.Speed != nil {
		speed = *c.Speed
	}
	now := o.clock()
	o.sched.set(now, slots, speed)
	if c.Dead != nil && *c.Dead != o.dead {
		o.sched.kill(now)
		o.dead = *c.Dead
		if o.dead {
			close(o.gone)
		} else {
			o.gone = make(chan struct{})
		}
	}
	o.arm()
	return nil
}

// Stats returns the counters and the last quarter of an hour by the second.
func (o *Origin) Stats() Stats {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.clock()
	o.sched.advance(now)
	o.past.at(now) // the history reaches until now, also without events
	o.arm()
	s := o.count
	s.Slots, s.Speed, s.Dead = o.sched.slots, o.sched.speed, o.dead
	s.Queued, s.Started = len(o.sched.waiting), o.sched.begun
	s.CapacityPerSecond = o.capacity()
	s.CPUSeconds = processCPU()
	s.PerSecond = append([]Second(nil), o.past.seconds...)
	return s
}

// An entry is the result of trying to come in.
type entry struct {
	*job
	inside int             // requests inside, this one included
	gone   <-chan struct{} // closed when the origin dies
}

// enter puts a request in, with its service time. Without a job there was no
// room; errDead says that nothing is to be answered.
func (o *Origin) enter(a ask) (entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		o.count.Refused++
		return entry{}, errDead
	}
	now := o.clock()
	o.sched.advance(now)
	second := o.past.at(now)
	o.count.Arrived++
	second.Arrived++
	if o.count.InFlight >= o.sched.slots+o.c.Backlog {
		o.count.Rejected++
		second.Rejected++
		o.visited(&job{number: a.draw, arrived: now, ended: now}, Rejected)
		o.arm()
		return entry{}, nil
	}
	o.count.InFlight++
	j := o.sched.add(now, a.slow*o.demand(a.draw))
	j.number, j.inside = a.draw, o.count.InFlight
	o.arm()
	return entry{job: j, inside: o.count.InFlight, gone: o.gone}, nil
}

// An ending says how a request left the origin.
type ending struct {
	canceled bool // dropped because its client left
	overran  bool // the work ended after the schedule's end
	left     bool // the client was no longer there
	took     time.Duration
}

// leave counts a request that came in, and reports whether it gets an answer.
func (o *Origin) leave(j *job, e ending) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count.InFlight--
	if e.canceled {
		o.sched.remove(o.clock(), j)
		o.arm()
	}
	o.finish(j, e)
	return !j.killed && !e.canceled
}

// finish counts how a request ended.
func (o *Origin) finish(j *job, e ending) {
	switch {
	case j.killed:
		o.count.Killed++
		o.visited(j, Killed)
		return
	case e.canceled:
		o.count.Canceled++
		j.ended = o.clock()
		o.visited(j, Canceled)
		return
	}
	at := j.ended
	if e.overran {
		o.count.Overruns++
		at = o.clock()
	}
	second := o.past.at(at)
	second.Completed++
	o.count.Completed++
	switch {
	case e.left:
		o.count.Abandoned++
		o.visited(j, Abandoned)
	case e.took > o.c.Patience:
		o.count.Late++
		o.visited(j, Late)
	default:
		o.count.Useful++
		second.Useful++
		o.visited(j, Useful)
	}
}

// arm sets the timer to the next event of the schedule.
func (o *Origin) arm() {
	next := o.sched.next()
	if math.IsInf(next, 1) {
		if o.timer != nil {
			o.timer.Stop()
		}
		return
	}
	// Rounded up: a timer that fires a fraction of a nanosecond early would find
	// nothing to do and be set again, without end.
	wait := max(0, time.Duration(math.Ceil((next-o.clock())*1e9))) + 1
	if o.timer == nil {
		o.timer = time.AfterFunc(wait, o.tick)
		return
	}
	o.timer.Reset(wait)
}

func (o *Origin) tick() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sched.advance(o.clock())
	o.arm()
}

// clock is the schedule's time, in seconds.
func (o *Origin) clock() float64 { return time.Since(o.epoch).Seconds() }

// demand draws the service time of a request, in seconds.
func (o *Origin) demand(draw int64) float64 {
	if draw >= 0 {
		return o.c.Demand(uint64(draw)).Seconds()
	}
	return o.c.lognormal(o.rng)
}

// capacity is how many requests the slots can do in a second.
func (o *Origin) capacity() float64 {
	if o.dead {
		return 0
	}
	return float64(o.sched.slots) * o.sched.speed / o.c.Service.Seconds()
}

// account books a stretch of time in which nothing changed.
func (o *Origin) account(from, to float64) {
	busy, capacity := float64(o.sched.busy()), o.capacity()
	o.count.BusySlotSeconds += busy * (to - from)
	o.past.spread(from, to, func(s *Second, part float64) {
		s.BusySlotSeconds += busy * part
		s.Capacity += capacity * part
	})
}

// errDead is what a client of a dead origin gets: nothing.
var errDead = errors.New("origin is dead")
