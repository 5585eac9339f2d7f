package edge

import (
	"net/http"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
)

// This file holds what comes of expired entries: that they are renewed while they
// answer, and what is told of them.

// backgroundShare is the part of what a visitor's request may fill of the origin's
// limit that is open to fetches for which nobody waits. Not a knob: the last fifth is
// for visitors, and at least one fetch is let through where there is room at all.
const backgroundShare = 0.8

// renew has the entry that answers the request fetched anew in the background: by the
// route's own ladder, if the origin has room for the least important request at this
// instant, and never by a function.
func (x *exchange) renew(rt *route) {
	if rt.down() != outcome.None || rt.origin.Limiter().Full(rt.mayFill(&x.guest)*backgroundShare) {
		return // a look that is no sign of demand, unlike a permit refused
	}
	x.s.cache.Renew(x.r, &x.found, func() cache.Func {
		given := overflow.Facts{Policy: rt.policy, Method: http.MethodGet, Background: true}
		return x.ladder(rt, given, requestBody{}).climb
	})
}

// yields reports whether nobody waits for the answer, and the origin is to be left to
// visitors.
func (l *ladder) yields() bool {
	return l.given.Background && l.route.origin.Limiter().Full(l.share())
}

// entryStatus is the member of Cache-Status for an answer out of the entry that was
// found, with what allows it if it has expired.
func (x *exchange) entryStatus() cache.Status {
	status := x.found.Status(x.start)
	if x.outcome != outcome.Stale || x.reason == outcome.Revalidating {
		return status
	}
	switch x.reason {
	case outcome.OriginSlow, outcome.OriginFailed, outcome.OriginTimeout, outcome.OriginThrottled:
		status = x.found.Forwarded(x.start) // and came to nothing
	}
	switch {
	case x.reason == outcome.OriginSlow:
		status.Detail = "stale-wait"
	case x.found.StaleIfError(x.start, x.r):
		status.Detail = "stale-if-error"
	case status.TTL <= 0:
		status.Detail = "stale-on-overload"
	default:
		status.Detail = "not-validated" // it is fresh, and the request would have it validated
	}
	return status
}

// hint tells a browser early what the page that it waits for will need, as far as a
// stored response to the same URI says. Only over HTTP/2 and HTTP/3, where no client
// takes it for the answer (RFC 8297 section 3), only for visits of a page, since
// browsers heed no other, and only while the origin has room: else an answer is not
// certain.
func (x *exchange) hint(rt *route, i *informational) {
	if !rt.hints || !rt.cached || x.r.ProtoMajor < 2 || x.r.Method != http.MethodGet ||
		x.r.Header.Get("Sec-Fetch-Mode") != "navigate" || rt.full() {
		return
	}
	if links := x.s.cache.Hints(x.r, &x.found, x.start); len(links) > 0 {
		i.hint(links)
	}
}
