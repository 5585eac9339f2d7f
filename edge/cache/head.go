package cache

import (
	"net/http"
	"time"
)

// updateByHead applies what the answer to a HEAD says of the entry that a GET has
// brought (RFC 9111 section 4.3.5). Where it speaks of the same representation, its
// fields become those of the entry, which is as fresh as they say; otherwise the
// entry has been overtaken, and is stale.
func (c *Cache) updateByHead(t *target, r *http.Request, found *Result, a *reply, epoch uint32) {
	e := found.Entry
	if r.Method != http.MethodHead || e == nil || a.entry != nil || a.status != http.StatusOK || e.status != http.StatusOK {
		return
	}
	if !sameRepresentation(e.header, a.header) {
		if now := time.Now(); e.TTL(now) > 0 {
			c.keep(t, e.expired(now), r, epoch)
		}
		return
	}
	if e.purged && len(a.header["Etag"])+len(a.header["Last-Modified"]) == 0 {
		return // it says nothing of what a purge wants to be validated
	}
	l := c.weigh(r, &reply{answer: confirmed(e, &a.answer), entry: e}, found)
	c.confirm(t, r, e, &l, epoch)
}

// sameRepresentation compares the validators and the length that the answer to a
// HEAD has with those of a stored one (RFC 9111 section 4.3.5).
func sameRepresentation(stored, h http.Header) bool {
	for _, name := range [...]string{"Etag", "Last-Modified", "Content-Length"} {
		if len(h[name]) > 0 && first(h, name) != first(stored, name) {
			return false
		}
	}
	return true
}

// expired returns the entry as one whose freshness ends now. It is good as long as
// the entry is pinned.
func (e *Entry) expired(now time.Time) *Entry {
	ended := *e
	ended.hold, ended.lifetime = hold{}, min(e.lifetime, e.Age(now))
	return &ended
}
