// Package ideal is the oracle of the contest: it replays the arrivals and the
// service times of a run in virtual time, in front of the very schedule of the
// reference origin, with a limit that it has tried out beforehand.
//
// The oracle knows what no edge can: the best fixed limit for the run, each
// class's true latency as the wait in its queue, and when slots come and go. It
// has no network and no CPU cost. It does not know the service time of a single
// request, so a rule could still do better by luck, and a ratio of 1.01 is one.
package ideal

import (
	"math"
	"slices"
	"time"

	"spillway/cmd/surge/origin"
)

// A Request is one of the replayed. They are ordered by time.
type Request struct {
	At     time.Duration
	Demand time.Duration // of one slot at speed 1
	Wait   time.Duration // that it may stand in the queue
}

// A Change of the origin. A dead origin is one without slots.
type Change struct {
	At    time.Duration
	Slots int // 0 is dead
	Speed float64
}

// A Fate says what the oracle made of a request.
type Fate struct {
	Served bool // at the origin, to the end; else it was spilled
	Enter  time.Duration
	End    time.Duration
}

// A Policy is what stands before the origin.
type Policy struct {
	Limit int  // requests inside, at the slots of the configuration
	Queue bool // newest first, half as long as the limit
}

// A Window is a stretch of time.
type Window struct{ From, To time.Duration }

// A replay is one pass over the requests.
type replay struct {
	c        origin.Config
	policy   Policy
	requests []Request
	origin   *origin.Replay
	slots    int   // now
	queue    []int // of requests, oldest first
	fates    []Fate
}

// Play replays the requests under the policy.
func Play(c origin.Config, p Policy, requests []Request, changes []Change) ([]Fate, error) {
	c, err := c.Complete()
	if err != nil {
		return nil, err
	}
	o, err := origin.NewReplay(c)
	if err != nil {
		return nil, err
	}
	r := &replay{c: c, policy: p, requests: requests, origin: o, slots: c.Slots, fates: make([]Fate, len(requests))}
	for next := 0; next < len(requests) || len(changes) > 0; {
		arrival, change := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
		if next < len(requests) {
			arrival = requests[next].At
		}
		if len(changes) > 0 {
			change = changes[0].At
		}
		r.run(min(arrival, change))
		if change <= arrival {
			r.change(changes[0])
			changes = changes[1:]
			continue
		}
		r.arrive(next)
		next++
	}
	r.run(math.MaxInt64)
	return r.fates, nil
}

// run lets time pass until, with all that ends and all that waited long enough.
func (r *replay) run(until time.Duration) {
	for {
		at, ok := r.origin.Next()
		if !ok || at > until {
			break
		}
		r.expire(at)
		for _, n := range r.origin.Advance(at) {
			r.fates[n].Served, r.fates[n].End = true, at
		}
		r.admit(at)
	}
	r.expire(until)
}

// limit is the policy's, in proportion to the slots that are there.
func (r *replay) limit() int {
	if r.slots == 0 {
		return 0
	}
	return max(1, int(math.Round(float64(r.policy.Limit*r.slots)/float64(r.c.Slots))))
}

func (r *replay) arrive(n int) {
	at := r.requests[n].At
	switch limit := r.limit(); {
	case r.origin.Inside() < limit:
		r.enter(n, at)
	case r.policy.Queue && len(r.queue) < (limit+1)/2:
		r.queue = append(r.queue, n)
	}
}

func (r *replay) enter(n int, at time.Duration) {
	r.fates[n].Enter = at
	r.origin.Enter(at, int64(n), r.requests[n].Demand)
}

// admit lets the newest of the queue in while there is room.
func (r *replay) admit(at time.Duration) {
	for len(r.queue) > 0 && r.origin.Inside() < r.limit() {
		last := len(r.queue) - 1
		n := r.queue[last]
		r.queue = r.queue[:last]
		r.enter(n, at)
	}
}

// expire spills what has waited long enough.
func (r *replay) expire(at time.Duration) {
	r.queue = slices.DeleteFunc(r.queue, func(n int) bool { return r.requests[n].At+r.requests[n].Wait < at })
}

func (r *replay) change(c Change) {
	r.slots = c.Slots
	if c.Slots == 0 {
		r.origin.Kill(c.At)
		r.queue = nil
		return
	}
	r.origin.Set(c.At, c.Slots, c.Speed)
	r.admit(c.At)
}

// Best returns the smallest limit within 1 % of the best work done in the windows,
// and what becomes of the requests under it.
func Best(c origin.Config, queue bool, requests []Request, changes []Change, windows []Window) (Policy, []Fate, error) {
	c, err := c.Complete()
	if err != nil {
		return Policy{}, nil, err
	}
	var policies []Policy
	var all [][]Fate
	var work []float64
	for _, limit := range grid(c.Slots) {
		p := Policy{Limit: limit, Queue: queue}
		fates, err := Play(c, p, requests, changes)
		if err != nil {
			return Policy{}, nil, err
		}
		policies, all, work = append(policies, p), append(all, fates), append(work, Work(requests, fates, windows))
	}
	most := slices.Max(work)
	i := slices.IndexFunc(work, func(w float64) bool { return w >= .99*most })
	return policies[i], all[i], nil
}

// grid is the limits that are tried.
func grid(slots int) []int {
	var limits []int
	for _, share := range []float64{.25, .5, .75, 1, 1.1, 1.25, 1.4, 1.5, 1.75, 2, 2.5, 3, 4} {
		limits = append(limits, max(1, int(math.Round(share*float64(slots)))))
	}
	return slices.Compact(limits)
}

// Work is the slot seconds that were done in the windows for requests that were
// served, each spread over its stay.
func Work(requests []Request, fates []Fate, windows []Window) float64 {
	sum := 0.0
	for n, f := range fates {
		if !f.Served {
			continue
		}
		for _, w := range windows {
			sum += w.Share(f.Enter, f.End) * requests[n].Demand.Seconds()
		}
	}
	return sum
}

// Share is the part of the stretch that lies in the window. A stretch without
// length lies where it begins.
func (w Window) Share(from, to time.Duration) float64 {
	if to <= from {
		if w.From <= from && from < w.To {
			return 1
		}
		return 0
	}
	return max(0, float64(min(to, w.To)-max(from, w.From))/float64(to-from))
}
