// Package overflow decides where an admitted request runs: at the origin, in
// its short queue, in a function, from a stale entry, later, or nowhere.
//
// The decision is a pure function. Its caller gathers the facts, acts on the
// answer, writes what came of it into the facts and asks again, so that one
// rule holds for the first choice and for every failure after it. It fails
// towards the origin: a route without a policy never spills.
//
// It does not take permits, charge budgets, wait or call anything.
package overflow

import (
	"net/http"

	"spillway/edge/outcome"
)

// A Place is where a request goes next.
type Place string

// The places, in the order of the ladder.
const (
	Origin   Place = "origin"   // the permit in hand is to be used
	Queue    Place = "queue"    // wait for a permit
	Function Place = "function" // call the function that the decision names
	Stale    Place = "stale"    // serve the expired entry
	Waiting  Place = "waiting"  // send to the waiting room
	Shed     Place = "shed"     // refuse: 503 and Retry-After
	Fail     Place = "fail"     // give up: 502 or 504
)

// A Candidate is a function as it stands for this request.
type Candidate struct {
	// Reason says why the function may not be called; None means that it may.
	Reason outcome.Reason
	// NoStale is set when the function's budget answers exhaustion by shedding,
	// without a look at stale entries.
	NoStale bool
}

// Facts are all that a decision rests on.
type Facts struct {
	// Policy is the route's; nil means that the route never spills.
	Policy *Policy
	Method string
	// BodyKept says that the request's body is in hand, so that it can be sent
	// again. A body above the policy's bound is not.
	BodyKept bool
	// Barred says why this client may not spend money: a crawler, a prefetch.
	Barred outcome.Reason

	// Permit says that a permit of the origin is in hand.
	Permit bool
	// NoOrigin says why the origin cannot take the request: it is down, or was
	// tried and failed. None means that it can.
	NoOrigin outcome.Reason
	// Late says that the origin would probably answer after the route's deadline.
	Late bool
	// Reached says that the origin, or a function, may have seen the request.
	Reached bool
	// Waited says why waiting came to nothing; None means that the request has
	// not waited yet.
	Waited outcome.Reason

	// Functions are the candidates in the order of preference.
	Functions []Candidate
	// Broken says that a function ran and its own code failed.
	Broken bool

	// Errored says that the origin's own code failed (500), and that a stale entry may
	// answer instead.
	Errored bool

	// NoRetry says that a function may have run, and that no more such requests may
	// be tried anew.
	NoRetry bool

	// Stale says that an expired entry may be served.
	Stale bool
	// StaleFirst puts it before the functions.
	StaleFirst bool
	// StaleIfDown says that it may be served when the origin cannot answer, however
	// little Stale allows.
	StaleIfDown bool

	// Waits says that the request is one that may be sent to the waiting room,
	// instead of being shed.
	Waits bool
	// Behind says that others wait already, and have to be let in before.
	Behind bool
	// Called says that the request has waited, and that its turn has come.
	Called bool

	// StaleIfError says that the entry may be served for any error (RFC 5861 section
	// 4): not the operator alone allows it.
	StaleIfError bool
	// Background says that nobody waits for the answer. It is had where there is room
	// at this instant, and nowhere else.
	Background bool
}

// A Decision is the next step of a request.
type Decision struct {
	Place Place
	// Function is the index of the candidate when Place is Function.
	Function int
	// Reason says why the request goes there.
	Reason outcome.Reason
	// Patient is set with Queue when the request cannot spill, so that it may
	// wait longer.
	Patient bool
}

// Decide returns the next step.
func Decide(f *Facts) Decision {
	if f.Behind {
		return behind(f)
	}
	if f.Permit {
		return Decision{Place: Origin}
	}
	if f.Background && f.Stale {
		return Decision{Place: Stale, Reason: leaving(f)}
	}
	if f.Background {
		return Decision{Place: Shed, Reason: leaving(f)}
	}
	function, blocked := candidate(f)
	if f.NoOrigin == outcome.None && f.Waited == outcome.None && !f.movedOn(blocked) {
		// Who has waited for long would rather wait a little more than see what is old.
		patient := blocked != outcome.None && (!f.Stale || f.Called)
		return Decision{Place: Queue, Reason: outcome.OriginSaturated, Patient: patient}
	}
	why := leaving(f)
	if f.Stale && f.StaleFirst {
		return Decision{Place: Stale, Reason: why}
	}
	if blocked == outcome.None {
		return Decision{Place: Function, Function: function, Reason: why}
	}
	if f.MayBeStale(f.NoOrigin) && !shedsUnspent(f) {
		return Decision{Place: Stale, Reason: why}
	}
	return giveUp(f, why, blocked)
}

// MayBeStale reports whether the expired entry may be served to a request that
// leaves the origin for this reason.
func (f *Facts) MayBeStale(why outcome.Reason) bool {
	switch why {
	case outcome.OriginDown, outcome.OriginFailed, outcome.OriginTimeout, outcome.OriginThrottled:
		return f.Stale || f.StaleIfDown
	}
	return f.Stale
}

// behind is where a request goes that must not overtake those who wait, even if
// there is room at this instant: only to what costs nobody's place.
func behind(f *Facts) Decision {
	if f.Stale {
		return Decision{Place: Stale, Reason: outcome.OthersFirst}
	}
	return Decision{Place: Waiting, Reason: outcome.OthersFirst}
}

// candidate returns the first function that may be called, or why none may.
func candidate(f *Facts) (int, outcome.Reason) {
	if why := f.ineligible(); why != outcome.None {
		return 0, why
	}
	why := outcome.NoOverflow
	for i, c := range f.Functions {
		if c.Reason == outcome.None {
			return i, outcome.None
		}
		if i == 0 {
			why = c.Reason // the preferred function's reason explains most
		}
	}
	return 0, why
}

// Early reports whether a request goes elsewhere without asking the origin, which
// would be late.
func Early(f *Facts) bool { return f.Late && Decide(f).Place != Queue }

// movedOn reports whether a request that would be late does not ask the origin: it
// can go elsewhere, or has been there and may not be sent again.
func (f *Facts) movedOn(blocked outcome.Reason) bool {
	elsewhere := blocked == outcome.None || f.Stale && f.StaleFirst
	return f.Late && (elsewhere || f.NoRetry || f.Reached && !Idempotent(f.Method))
}

// Hedge returns the function that may be called for a request that the origin is
// at work on, if any may.
func Hedge(f *Facts) (function int, ok bool) {
	function, blocked := candidate(f)
	return function, Safe(f.Method) && blocked == outcome.None
}

// Exercise reports whether a function may be called as well for a request that the
// origin has answered: where it could be called in the origin's stead, nothing can
// happen twice, and the origin had room.
func Exercise(f *Facts) bool {
	return (f.Method == http.MethodGet || f.Method == http.MethodHead) && f.Waited == outcome.None && f.ineligible() == outcome.None
}

// ineligible says why the request may not go to any function.
func (f *Facts) ineligible() outcome.Reason {
	switch {
	case f.Policy == nil, f.Background:
		return outcome.NoOverflow
	case !f.Policy.Spills(f.Method):
		return outcome.MethodNotSpilled
	case !f.BodyKept:
		return outcome.BodyTooLarge
	case f.Barred != outcome.None:
		return f.Barred
	case f.Broken:
		// A function's own error would repeat itself and be paid for again.
		return outcome.FunctionError
	case f.Errored:
		return outcome.OriginFailed // as a function's own error does
	case f.NoRetry:
		return outcome.RetriesSpent
	case f.Reached && !Idempotent(f.Method):
		// RFC 9110 section 9.2.2: what may have been carried out is not sent again.
		return outcome.MethodNotSpilled
	}
	return outcome.None
}

// leaving says why the request leaves the origin.
func leaving(f *Facts) outcome.Reason {
	if f.NoOrigin != outcome.None {
		return f.NoOrigin
	}
	if f.Late && f.Waited == outcome.None {
		return outcome.Deadline
	}
	return outcome.OriginSaturated
}

// shedsUnspent reports whether a spent budget asks for shedding at once.
func shedsUnspent(f *Facts) bool {
	for _, c := range f.Functions {
		switch c.Reason {
		case outcome.BudgetSpent, outcome.ClientShareSpent, outcome.LedgerFailed:
			if c.NoStale {
				return true
			}
		}
	}
	return false
}

// giveUp tells a request that was tried and failed from one that nothing could
// take.
func giveUp(f *Facts, why, blocked outcome.Reason) Decision {
	switch {
	case f.Broken:
		return Decision{Place: Fail, Reason: outcome.FunctionError}
	case f.Reached && f.NoOrigin != outcome.OriginSaturated: // else the origin had no place for it
		return Decision{Place: Fail, Reason: lastFailure(f, why)}
	case blocked == outcome.NoOverflow:
		blocked = why
	}
	if f.Waits {
		return Decision{Place: Waiting, Reason: blocked}
	}
	return Decision{Place: Shed, Reason: blocked}
}

// lastFailure prefers a function's time-out over the reason for leaving the
// origin: it is what happened last.
func lastFailure(f *Facts, why outcome.Reason) outcome.Reason {
	for _, c := range f.Functions {
		if c.Reason == outcome.FunctionTimeout {
			return c.Reason
		}
	}
	for _, c := range f.Functions {
		if why == outcome.Deadline && c.Reason != outcome.None { // only functions were asked
			return c.Reason
		}
	}
	return why
}
