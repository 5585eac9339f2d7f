package contest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"spillway/cmd/surge/contest/ideal"
	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/crowd"
)

// A plan is what one seed makes of a scenario: the same for every contender.
type plan struct {
	scenario *Scenario
	phases   []crowd.Phase
	requests []planned
	changes  []ideal.Change
	ideal    oracle
}

// A planned request.
type planned struct {
	load.Request
	phase  int
	class  int
	demand time.Duration
}

// The draws of one request, each with a stream of its own.
const (
	drawClass = iota + 1
	drawSlow
	drawUpload
)

// newPlan draws the arrivals, who asks for what, and the service times, and lets
// the oracle play it.
func newPlan(s *Scenario, seed uint64) (*plan, error) {
	p := &plan{scenario: s, phases: s.phases(), changes: s.changes()}
	work := s.Origin
	work.Seed = seed
	work, err := work.Complete()
	if err != nil {
		return nil, fmt.Errorf("origin of %s: %w", s.Name, err)
	}
	for at, phase := range crowd.Arrivals(p.phases, seed) {
		n := uint64(len(p.requests))
		class := s.classAt(at, fraction(seed, n, drawClass))
		times := s.Classes[class].Times
		r := planned{phase: phase, class: class, demand: time.Duration(times * float64(work.Demand(n)))}
		r.At = at
		r.Target = fmt.Sprintf("%s/%d?draw=%d&slow=%g", s.Classes[class].Path, n, n, times)
		if s.Foreign != "" {
			r.Target = fmt.Sprintf("%s/%d?draw=%d&ms=%.3f", s.Classes[class].Path, n, n, milliseconds(r.demand))
		}
		if fraction(seed, n, drawUpload) < s.Uploads {
			r.Upload = s.Upload
		}
		if s.Network != nil {
			r.Alone = fraction(seed, n, drawSlow) < s.Network.SlowShare || s.Network.Uploads && r.Upload > 0
		}
		p.requests = append(p.requests, r)
	}
	p.ideal, err = p.consult()
	return p, err
}

// digest is a fingerprint of all that a run depends on, the contender apart.
func (p *plan) digest() string {
	h := sha256.New()
	s := p.scenario
	o := s.Origin
	fmt.Fprintln(h, p.phases, o.Model, o.Slots, o.Service, o.CV, o.Knee, o.Thrash, o.Backlog, o.Body, s.Patience, s.Retries, s.Foreign)
	if s.Network != nil {
		fmt.Fprintln(h, *s.Network)
	}
	for _, e := range s.Events {
		fmt.Fprintln(h, e.At, e.Text)
	}
	for _, r := range p.requests {
		fmt.Fprintln(h, r.Request, r.demand)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// fraction draws a number in [0, 1) that belongs to a request, by SplitMix64.
func fraction(seed, n, stream uint64) float64 {
	z := seed*0x9e3779b97f4a7c15 ^ n*0xbf58476d1ce4e5b9 ^ stream*0xd1342543de82ef95
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64((z^z>>31)>>11) / (1 << 53)
}

// classAt is the class of a request that comes at the time, by a draw.
func (s *Scenario) classAt(at time.Duration, draw float64) int {
	shifted := s.Shift[0] <= at && at < s.Shift[1]
	for i, c := range s.Classes {
		share := c.Share
		if shifted {
			share = c.Other
		}
		if draw -= share; draw < 0 {
			return i
		}
	}
	return len(s.Classes) - 1
}

// changes is what the events do to the origin.
func (s *Scenario) changes() []ideal.Change {
	var changes []ideal.Change
	now := ideal.Change{Slots: s.Origin.Slots, Speed: 1}
	for _, e := range s.Events {
		if e.Slots == 0 && e.Speed == 0 && e.Dead == nil {
			continue
		}
		now.At = e.At
		if e.Slots > 0 {
			now.Slots = e.Slots
		}
		if e.Speed > 0 {
			now.Speed = e.Speed
		}
		change := now
		if e.Dead != nil && *e.Dead {
			change.Slots = 0
		}
		changes = append(changes, change)
	}
	return changes
}

// An oracle is what the ideal makes of a plan.
type oracle struct {
	limit int          // best, with a queue
	fates []ideal.Fate // under it
	most  []ideal.Fate // under the limit that does the most work
	bare  int          // best without a queue: what an operator would set
}

// hop is the round trip between an edge and its origin that the oracle is given: a
// millisecond, which is what a hop through two programs takes.
const hop = time.Millisecond

// consult finds the best limits for the phases above the capacity.
func (p *plan) consult() (oracle, error) {
	var o oracle
	requests := make([]ideal.Request, len(p.requests))
	waits := p.waits()
	for i, r := range p.requests {
		requests[i] = ideal.Request{At: r.At, Demand: r.demand, Wait: waits[r.class]}
	}
	windows := p.overloaded()
	best, err := ideal.Choose(p.scenario.Origin, ideal.Policy{Queue: true, Hop: hop}, requests, p.changes, windows)
	if err != nil {
		return o, err
	}
	bare, err := ideal.Choose(p.scenario.Origin, ideal.Policy{Hop: hop}, requests, p.changes, windows)
	o.limit, o.fates, o.most, o.bare = best.Policy.Limit, best.Fates, best.Most, bare.Policy.Limit
	return o, err
}

// waits is the geometric mean of each class's service times: its usual latency,
// which is what a request may wait.
func (p *plan) waits() []time.Duration {
	sum, n := make([]float64, len(p.scenario.Classes)), make([]float64, len(p.scenario.Classes))
	for _, r := range p.requests {
		sum[r.class] += math.Log(max(r.demand.Seconds(), 1e-9))
		n[r.class]++
	}
	waits := make([]time.Duration, len(sum))
	for i := range waits {
		waits[i] = time.Duration(math.Exp(sum[i]/max(n[i], 1)) * float64(time.Second))
	}
	return waits
}

// overloaded is the phases in which more comes than the origin can do.
func (p *plan) overloaded() []ideal.Window {
	var windows []ideal.Window
	start := time.Duration(0)
	for _, ph := range p.phases {
		if ph.From >= p.scenario.capacity() && ph.To >= p.scenario.capacity() {
			windows = append(windows, ideal.Window{From: start, To: start + ph.Length})
		}
		start += ph.Length
	}
	return windows
}

// length is how long the requests come.
func (p *plan) length() time.Duration { return crowd.Length(p.phases) }
