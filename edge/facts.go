package edge

import (
	"net/http"
	"time"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/edge/waiting"
)

// This file gathers the facts that a decision rests on, for a request on its way
// and for one that is only explained. Nothing here takes a permit, spends money or
// seats a visitor.

// given is what is known of a request before its first step on the ladder, but for
// its body. The cache and the waiting room have been asked.
func (x *exchange) given(rt *route) overflow.Facts {
	return overflow.Facts{
		Policy: rt.policy, Method: x.r.Method, Barred: x.barred(),
		Stale: x.mayBeStale(rt), StaleFirst: rt.staleFor > 0,
		StaleIfDown: x.standsIn((*cache.Entry).StaleIfDown), StaleIfError: x.found.StaleIfError(x.start, x.r),
		Waits: x.guest.Waits, Behind: x.guest.Standing == waiting.Behind,
		Called: x.guest.Waits && x.guest.Standing >= waiting.Called,
	}
}

// barred says why the request may not be answered for money.
func (x *exchange) barred() outcome.Reason {
	if opensSocket(x.r) {
		return outcome.Upgrade // functions answer and end
	}
	return barred(x.r.Header)
}

// mayBeStale reports whether the expired entry that was found may answer.
func (x *exchange) mayBeStale(rt *route) bool {
	return x.standsIn(func(e *cache.Entry, now time.Time, r *http.Request) bool { return e.StaleFor(now, r, rt.staleFor) })
}

// standsIn reports whether there is an expired entry, and a rule lets it answer.
func (x *exchange) standsIn(rule func(*cache.Entry, time.Time, *http.Request) bool) bool {
	return x.found.Entry != nil && x.found.State != cache.Unavailable && rule(x.found.Entry, x.start, x.r)
}

// down says why the route's origin takes no request at all, however few there are.
func (r *route) down() outcome.Reason {
	if !r.origin.Up() {
		return outcome.OriginDown
	}
	return outcome.None
}

// mayFill is the part of the origin's limit that a request of a guest may fill.
func (r *route) mayFill(g *waiting.Guest) float64 {
	at := r.at()
	if r.room == nil || g.Standing >= waiting.Called || !r.room.Crowded() {
		return at
	}
	return at * strangersShare
}

// queueWait is how long a request waits for a permit; zero is one baseline of its
// class.
func (r *route) queueWait(patient bool) time.Duration {
	if patient {
		return r.queue.UnsafeWait
	}
	return r.queue.Wait
}

// candidate is how one of the route's functions stands for a visitor.
func (r *route) candidate(function int, key string) overflow.Candidate {
	return overflow.Candidate{Reason: r.functions[function].Ready(key), NoStale: r.shedUnpaid[function]}
}
