package faas

import (
	"time"

	"spillway/edge/outcome"
)

// longestWait is how long a call may wait for an instance that is ready: less than
// any start takes that is worth waiting for. Not a knob.
const longestWait = 60 * time.Millisecond

// A standing is how a gate stands for one more call.
type standing struct {
	limit    int  // calls in flight that there may be
	spared   bool // the limit is below the cap, because the platform throttles
	inFlight int
	ready    int // instances that have answered
	busy     int // of these, with a call
	waiting  int
	mayStart bool // the ramp lets an instance start
	aside    bool // a warm-up can start it, while the call waits for any
	// call is how long a call takes on a ready instance, start what a new one adds.
	call, start time.Duration
}

// A passage is what becomes of a call at the gate.
type passage uint8

const (
	turnAway passage = iota // it gets no instance
	takeReady
	startOne
	wait
)

// admit decides. A call waits for an instance that is ready if it will be free
// sooner than a new one; one that has waited does not wait again.
func (s *standing) admit(waited bool) passage {
	room := s.inFlight < s.limit
	switch {
	case !room && s.spared:
		return turnAway // another function may have an instance now
	case room && s.busy < s.ready && (s.waiting == 0 || waited):
		return takeReady
	case !waited && s.soon(room && s.mayStart):
		return wait
	case room && s.mayStart:
		return startOne
	}
	return turnAway
}

// spare reports whether one more call has a place that nobody will miss.
func (s *standing) spare() bool {
	return !s.spared && s.waiting == 0 && 2*s.inFlight < s.limit && s.admit(true) != turnAway
}

// soon reports whether those who wait, and one more, will all have an instance in
// time: each of those that are ready frees itself once in the time of a call. A call
// that could start an instance, and cannot have a warm-up do it, does not wait: in
// simulation those who waited in vain made the tail longer than no wait at all.
func (s *standing) soon(canStart bool) bool {
	patience := longestWait
	if canStart && !s.aside {
		return false
	} else if canStart {
		patience = min(patience, s.start)
	}
	return s.ready > 0 && time.Duration(s.waiting+1)*s.call <= time.Duration(s.ready)*patience
}

// refusal is the word for a call that was turned away.
func (s *standing) refusal() outcome.Reason {
	if s.spared && s.inFlight >= s.limit {
		return outcome.FunctionThrottled
	}
	return outcome.FunctionBusy
}
