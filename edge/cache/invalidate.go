package cache

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Invalidate forgets what a request has made out of date, given the status and
// header of its response (RFC 9111 section 4.4). Fetches in flight for the same
// keys are joined by nobody any more and are not stored: they may have been
// answered before the change.
func (c *Cache) Invalidate(r *http.Request, status int, header http.Header) {
	c.invalidate(nil, r, status, header)
}

// invalidate is Invalidate for a site whose routes have policies.
func (c *Cache) invalidate(p *Policy, r *http.Request, status int, header http.Header) {
	if safe(r.Method) || status < 200 || status > 399 {
		return
	}
	t := c.target(r)
	c.forgetAll(p, &t)
	c.invalidateGroups(&t, header)
	for _, name := range [...]string{"Location", "Content-Location"} {
		for _, value := range header[name] {
			if u, ok := sameOrigin(r, &t, value); ok {
				other := c.targetOf(t.scheme, t.host, u)
				c.forgetAll(p, &other)
			}
		}
	}
}

// forget removes a key.
func (c *Cache) forget(t *target) { c.purgeTarget(t, false, time.Time{}) }

// invalidateGroups removes what is in the groups that the response to an unsafe
// request names, on the same origin (RFC 9875 section 3). What shares other groups
// with those entries stays: it does not cascade (section 2.2.1).
func (c *Cache) invalidateGroups(t *target, header http.Header) {
	groups, _ := readGroups(header["Cache-Group-Invalidation"])
	for _, group := range groups {
		c.PurgeBy(t.selectGroup(group), false)
	}
}

// safe lists the methods that change nothing (RFC 9110 section 9.2.1). Unknown
// methods may change anything.
func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// sameOrigin resolves a reference against the request's target. References to
// another origin are none of this response's business: they would let one site
// empty the cache of another (RFC 9111 section 4.4).
func sameOrigin(r *http.Request, t *target, reference string) (*url.URL, bool) {
	u, err := r.URL.Parse(trim(reference))
	if err != nil || u.Opaque != "" {
		return nil, false
	}
	if u.Scheme != "" && !strings.EqualFold(u.Scheme, t.scheme) { // what has a scheme and no host is of no origin
		return nil, false
	}
	if u.Scheme+u.Host != "" && normalHost(t.scheme, u.Host) != t.host {
		return nil, false
	}
	return u, true
}
