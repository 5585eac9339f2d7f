package cache

import (
	"net/http"
	"time"
)

// Heuristic freshness is a tenth of the time since the last modification (RFC
// 9111 section 4.2.2), and at most a day: longer than that, a guess is no longer
// a good one.
const (
	heuristicShare = 10
	heuristicMax   = 24 * time.Hour
)

// lifetime is the freshness lifetime of RFC 9111 section 4.2.1, for a shared
// cache. Conflicts go to the first in the order of the section; what cannot be
// read counts as already expired. guess permits heuristics.
func lifetime(status int, h http.Header, cc directives, date time.Time, guess bool) time.Duration {
	switch {
	case cc.sMaxAge.set:
		return cc.sMaxAge.Duration
	case cc.maxAge.set:
		return cc.maxAge.Duration
	case len(h["Expires"]) > 0 && !cc.targeted: // RFC 9213 section 2.2
		// Section 5.3: an invalid date, "0" above all, lies in the past.
		expires, ok := parseDate(h["Expires"])
		if !ok {
			return 0
		}
		return clamp(expires.Sub(date))
	case guess && (heuristicallyCacheable(status) || cc.public):
		return heuristicLifetime(h, date)
	}
	return 0
}

// heuristicLifetime implements RFC 9111 section 4.2.2. Without a Last-Modified
// there is nothing to guess from.
func heuristicLifetime(h http.Header, date time.Time) time.Duration {
	modified, ok := parseDate(h["Last-Modified"])
	if !ok {
		return 0
	}
	return min(clamp(date.Sub(modified))/heuristicShare, heuristicMax)
}

// heuristicallyCacheable lists the statuses of RFC 9110 section 15.1.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// initialAge is the corrected_initial_age of RFC 9111 section 4.2.3: how old the
// response was when it arrived.
func initialAge(h http.Header, date, requested, received time.Time) time.Duration {
	// Date has whole seconds; the fraction is not age, or else max-age=1 would often
	// be over at once.
	apparent := clamp(received.Truncate(time.Second).Sub(date))
	value, _ := parseAge(h["Age"])
	corrected := clamp(value + clamp(received.Sub(requested)))
	return max(apparent, corrected)
}

// clamp keeps a duration between zero and the largest delta, so that sums of
// several do not wrap (RFC 9111 section 1.2.2).
func clamp(d time.Duration) time.Duration {
	return min(max(d, 0), maxDelta)
}

// Age is the current_age of RFC 9111 section 4.2.3.
func (e *Entry) Age(now time.Time) time.Duration {
	return currentAge(e.initialAge, now.Sub(e.received))
}

// currentAge is Age for what was received so long ago.
func currentAge(initial, resident time.Duration) time.Duration {
	return clamp(initial + clamp(resident))
}

// TTL says how long the entry is still fresh; below zero, since when it is not.
func (e *Entry) TTL(now time.Time) time.Duration {
	return e.lifetime - e.Age(now)
}

// satisfies reports whether the entry may answer, without validation, a request
// with these directives (RFC 9111 section 4).
func (e *Entry) satisfies(cc *directives, now time.Time) bool {
	if e.control.noCache || cc.noCache || e.purged {
		return false
	}
	ttl := e.TTL(now)
	if e.immutableFor(ttl) {
		return !cc.minFresh.set || ttl >= cc.minFresh.Duration
	}
	return !refusedByRequest(cc, e.Age(now), ttl) && (ttl > 0 || e.maxStale(cc, ttl))
}

// refusedByRequest applies max-age and min-fresh (RFC 9111 sections 5.2.1.1 and
// 5.2.1.3). A max-age compares in whole seconds: a browser's reload sends
// max-age=0, and what is younger than a second need not be asked for again.
func refusedByRequest(cc *directives, age, ttl time.Duration) bool {
	return cc.maxAge.set && age.Truncate(time.Second) > cc.maxAge.Duration ||
		cc.minFresh.set && ttl < cc.minFresh.Duration
}

// maxStale applies the request's max-stale (RFC 9111 section 5.2.1.2).
func (e *Entry) maxStale(cc *directives, ttl time.Duration) bool {
	return cc.maxStale.set && -ttl <= cc.maxStale.Duration && !e.ForbidsStale()
}

// ForbidsStale reports whether the response itself prohibits a stale answer (RFC
// 9111 sections 4.2.4 and 5.2.2.10).
func (e *Entry) ForbidsStale() bool {
	cc := &e.control
	return cc.mustRevalidate || cc.proxyRevalidate || cc.sMaxAge.set || cc.noCache
}

// StaleFor reports whether the entry may answer r although it is not fresh,
// because the origin fails or must be spared: within its stale-if-error window
// (RFC 5861 section 4, of the response or of the request) or within extra, the
// operator's own (RFC 9111 section 4.2.4 calls that configuration). An entry
// that is still fresh, and was only to be validated because the request prefers
// so, may answer too: a preference of the request (section 5.2.1) yields to an
// error, a prohibition by the response never does.
func (e *Entry) StaleFor(now time.Time, r *http.Request, extra time.Duration) bool {
	ttl := e.TTL(now)
	if ttl > 0 {
		return !e.control.noCache
	}
	if e.ForbidsStale() {
		return false
	}
	return -ttl < e.staleWindow(r, extra)
}

// disconnectedMax is how long after its freshness an entry may stand in for an
// origin that cannot be reached. Not a knob: what matters longer has a
// stale-if-error.
const disconnectedMax = 24 * time.Hour

// StaleIfDown reports whether the entry may answer r because the origin cannot be
// reached, or fails (RFC 9111 sections 4.2.4 and 4.3.3). Where the response or the
// request limits that by a stale-if-error, the limit holds.
func (e *Entry) StaleIfDown(now time.Time, r *http.Request) bool {
	window := disconnectedMax
	if e.control.staleIfError.set || requestDirectives(r.Header).staleIfError.set {
		window = e.staleWindow(r, 0)
	}
	return !e.ForbidsStale() && -e.TTL(now) < window
}

// StaleIfError reports whether the entry is to answer r rather than an error of
// the origin's own (RFC 5861 section 4): somebody has asked for that.
func (e *Entry) StaleIfError(now time.Time, r *http.Request) bool {
	window := e.staleWindow(r, 0)
	return window > 0 && !e.ForbidsStale() && -e.TTL(now) < window
}

// staleWindow is how long after its freshness the entry may stand in.
func (e *Entry) staleWindow(r *http.Request, extra time.Duration) time.Duration {
	return max(extra, e.control.staleIfError.Duration, requestDirectives(r.Header).staleIfError.Duration)
}

// StaleLeft says for how long StaleFor will be true yet; zero if it is not.
func (e *Entry) StaleLeft(now time.Time, r *http.Request, extra time.Duration) time.Duration {
	switch ttl := e.TTL(now); {
	case !e.StaleFor(now, r, extra):
		return 0
	case e.ForbidsStale():
		return ttl
	default:
		return ttl + e.staleWindow(r, extra)
	}
}
