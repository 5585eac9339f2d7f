package cache

import (
	"net/http"
	"time"
)

// This file holds the rules for answers that are not fresh (RFC 5861), and for those
// that need no validation though the request would have one (RFC 8246). What the
// operator allows beside them is in StaleFor.

// revalidationWindow is how long after its freshness the entry may answer while it is
// being revalidated (RFC 5861 section 3). What prohibits stale answers prohibits this
// as well (RFC 9111 section 4.2.4).
func (e *Entry) revalidationWindow() time.Duration {
	if e.ForbidsStale() {
		return 0
	}
	return e.control.staleWhileRevalidate.Duration
}

// staleWhileRevalidate reports whether the entry may answer at once although it has
// expired, and is to be revalidated in the background (RFC 5861 section 3). A request
// that says how old an answer it takes is taken at its word (RFC 9111 section 5.2.1).
func (e *Entry) staleWhileRevalidate(cc *directives, now time.Time) bool {
	if cc.noCache || cc.maxAge.set || cc.minFresh.set || cc.maxStale.set {
		return false
	}
	ttl := e.TTL(now)
	return ttl <= 0 && -ttl < e.revalidationWindow()
}

// staleIfError reports whether the entry has expired and may answer r when an error
// is met (RFC 5861 section 4): the response or the request says so, and not only the
// operator.
func (e *Entry) staleIfError(now time.Time, r *http.Request) bool {
	return e.TTL(now) <= 0 && e.StaleFor(now, r, 0)
}

// StaleIfError is staleIfError for a lookup's result.
func (res *Result) StaleIfError(now time.Time, r *http.Request) bool {
	return res.Entry != nil && res.State != Unavailable && res.Entry.staleIfError(now, r)
}

// immutableFor reports whether an entry that is fresh for so long needs no validation
// (RFC 8246 section 2): a browser's reload, max-age=0, asks for one of things that
// cannot have changed. A forced reload, no-cache, is the signal of section 2.1 that
// one is necessary, and does not come here.
func (e *Entry) immutableFor(ttl time.Duration) bool { return e.control.immutable && ttl > 0 }
