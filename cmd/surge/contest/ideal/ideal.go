// Package ideal is the oracle of the contest: it replays the arrivals and the
// service times of a run in virtual time, in front of the very schedule of the
// reference origin, with a limit that it has tried out beforehand.
//
// The oracle knows what no edge can: the best fixed limit for the run, each
// class's true latency as the wait in its queue, and when slots come and go. It
// costs no CPU time, and the round trip to the origin is what it is told. It does
// not know the service time of a single request, so a rule could still do better by
// luck, and a ratio of 1.01 is one.
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
	End    time.Duration // of the work
}

// A Policy is what stands before the origin.
type Policy struct {
	Limit int           // requests under way, at the slots of the configuration
	Queue bool          // newest first, half as long as the limit
	Hop   time.Duration // round trip to the origin, in which a request counts as under way
}

// A Window is a stretch of time.
type Window struct{ From, To time.Duration }

// A replay is one pass over the requests.
type replay struct {
	c        origin.Config
	policy   Policy
	requests []Request
	origin   *origin.Replay
	slots    int             // now
	queue    []int           // of requests, oldest first
	back     []time.Duration // when answers under way arrive, in order
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
		arrives := len(r.back) > 0 && (!ok || r.back[0] <= at)
		if arrives {
			at, ok = r.back[0], true
		}
		if !ok || at > until {
			break
		}
		r.expire(at)
		if arrives {
			r.back = r.back[1:]
			r.admit(at)
			continue
		}
		for _, n := range r.origin.Advance(at) {
			r.fates[n].Served, r.fates[n].End = true, at
			r.back = append(r.back, at+r.policy.Hop)
		}
	}
	r.expire(until)
}

// underWay is how many requests have been sent and not come back.
func (r *replay) underWay() int { return r.origin.Inside() + len(r.back) }

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
	case r.underWay() < limit:
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
	for len(r.queue) > 0 && r.underWay() < r.limit() {
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

// A Choice is what the oracle found out.
type Choice struct {
	// Policy has the smallest limit within 1 % of the best work done in every window,
	// and Fates is what becomes of the requests under it: the measure of latency, and
	// of what must be spilled.
	Policy Policy
	Fates  []Fate
	// Most is what becomes of them under the limit that does the most work in all
	// windows together: the measure of goodput.
	Most []Fate
}

// Choose tries limits. Only the limit of the policy is changed.
func Choose(c origin.Config, p Policy, requests []Request, changes []Change, windows []Window) (Choice, error) {
	c, err := c.Complete()
	if err != nil {
		return Choice{}, err
	}
	limits := grid(c.Slots)
	all := make([][]Fate, len(limits))
	work := make([][]float64, len(limits)) // by limit and window; the last is their sum
	best := make([]float64, len(windows)+1)
	for i, limit := range limits {
		p.Limit = limit
		if all[i], err = Play(c, p, requests, changes); err != nil {
			return Choice{}, err
		}
		sum := 0.0
		for _, w := range windows {
			done := Work(requests, all[i], w)
			sum += done
			work[i] = append(work[i], done)
		}
		work[i] = append(work[i], sum)
		for j := range best {
			best[j] = max(best[j], work[i][j])
		}
	}
	var out Choice
	last := len(windows)
	for i, limit := range limits {
		enough := true
		for j := range windows {
			enough = enough && work[i][j] >= .99*best[j]
		}
		if enough && out.Fates == nil {
			p.Limit = limit
			out.Policy, out.Fates = p, all[i]
		}
		if work[i][last] == best[last] && out.Most == nil {
			out.Most = all[i]
		}
	}
	if out.Fates == nil { // no limit is good in every window
		i := slices.IndexFunc(work, func(w []float64) bool { return w[last] >= .99*best[last] })
		p.Limit = limits[i]
		out.Policy, out.Fates = p, all[i]
	}
	return out, nil
}

// grid is the limits that are tried.
func grid(slots int) []int {
	var limits []int
	for _, share := range []float64{.25, .5, .75, 1, 1.1, 1.25, 1.4, 1.5, 1.75, 2, 2.5, 3, 4} {
		limits = append(limits, max(1, int(math.Round(share*float64(slots)))))
	}
	return slices.Compact(limits)
}

// Work is the slot seconds that were done in the window for requests that were
// served, each spread over its stay.
func Work(requests []Request, fates []Fate, w Window) float64 {
	sum := 0.0
	for n, f := range fates {
		if f.Served {
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
