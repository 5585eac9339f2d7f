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
	Phase     Phase
	Limit     int // in force now
	Steady    int // the limit without a dip
	InFlight  int
	Queued    int // waiting now
	LongLived int
	Useful    float64 // K
	Baselines []Baseline

	Dips    uint64 // so far
	Blocked uint64 // requests that found no room and could not wait, so far
	Waited  uint64 // requests that found no room and waited, so far
}

// A Baseline is the latency of a class at an idle origin.
type Baseline struct {
	Class   Class
	Latency time.Duration
}

// State returns what the limiter does now.
func (l *Limiter) State() State {
	p, g := l.plan.Load(), l.gate.Load()
	s := State{
		Phase: p.phase, Limit: int(g >> 32), Steady: int(p.steady), InFlight: int(g & inFlightMask),
		Queued: int(l.queue.length.Load()), LongLived: int(l.longLived.Load()),
		Useful: p.useful, Dips: p.dips,
	}
	for c := range Class(classes) {
		if p.known(c) {
			s.Baselines = append(s.Baselines, Baseline{c, time.Duration(math.Exp(p.base[c]))})
		}
	}
	for i := range l.shards {
		s.Blocked += l.shards[i].refused.Load()
		s.Waited += l.shards[i].queued.Load()
	}
	return s
}
