package limit

import (
	"math"
	"time"
)

// A Phase says how the limiter gets its limit.
type Phase uint8

const (
	// PhaseStart is the time before the limit has bound.
	PhaseStart Phase = iota
	// PhaseSlowStart doubles from 1.
	PhaseSlowStart
	// PhaseSteady follows the useful concurrency.
	PhaseSteady
	// PhaseDip is a steady limiter that has lowered its limit to look at the
	// baseline.
	PhaseDip
)

// String returns the word of the metrics and of the status page.
func (p Phase) String() string {
	return [...]string{"start", "slow-start", "steady", "dip"}[min(p, PhaseDip)]
}

// A State is a look at a limiter, for metrics and status. Its counts are read
// one after the other and need not fit together exactly.
type State struct {
	Phase     Phase   `json:"phase"`
	Limit     int     `json:"limit"`  // in force now
	Steady    int     `json:"steady"` // the limit without a dip
	InFlight  int     `json:"in_flight"`
	Queued    int     `json:"queued"` // waiting now
	LongLived int     `json:"long_lived"`
	Useful    float64 `json:"useful"` // K
	// Utilization is what the origin says lately of how busy it is, 0 if nothing.
	Utilization float64 `json:"utilization"`
	// Paused means that the origin has asked to be left alone for a while.
	Paused    bool       `json:"paused"`
	Baselines []Baseline `json:"baselines"`

	Dips    uint64 `json:"dips"`    // so far
	Blocked uint64 `json:"blocked"` // requests that found no room and could not wait, so far
	Waited  uint64 `json:"waited"`  // requests that found no room and waited, so far
	// PushedOut are those that left the queue because somebody more important, or
	// more urgent of the same visitor, took their place.
	PushedOut uint64 `json:"pushed_out"`
	// TurnedAway are those that the queue did not take or that waited in vain, by
	// priority.
	TurnedAway [Priorities]uint64 `json:"turned_away"`
}

// A Baseline is the latency of a class at an idle origin.
type Baseline struct {
	Class   Class         `json:"class"`
	Latency time.Duration `json:"latency_ns"`
}

// State returns what the limiter does now.
func (l *Limiter) State() State {
	p, g := l.plan.Load(), l.gate.Load()
	s := State{
		Phase: p.phase, Limit: int(g >> 32), Steady: int(p.steady), InFlight: int(g & inFlightMask),
		Queued: int(l.queue.length.Load()), LongLived: int(l.longLived.Load()),
		Useful: p.useful, Utilization: p.utilization, Paused: p.paused, Dips: p.dips, Baselines: p.baselines(),
	}
	s.PushedOut = l.queue.pushedOut.Load()
	for i := range s.TurnedAway {
		s.TurnedAway[i] = l.queue.turnedAway[i].Load()
	}
	for i := range l.shards {
		s.Blocked += l.shards[i].refused.Load()
		s.Waited += l.shards[i].queued.Load()
	}
	return s
}

// baselines are those of the classes that are known.
func (p *plan) baselines() (all []Baseline) {
	for c := range Class(classes) {
		if p.known(c) {
			all = append(all, Baseline{c, time.Duration(math.Exp(p.base[c]))})
		}
	}
	return all
}
