package cache

import (
	"hash/maphash"
	"math/bits"
	"net/http"
	"net/url"
	"strings"
)

// A target is the URI of a request, in parts and exactly as it is forwarded: two
// spellings that the origin could tell apart are two keys. Keeping the parts
// apart makes the key unambiguous without joining them for a lookup.
type target struct {
	hash     uint64 // of the parts, with the cache's own seed
	scheme   string
	host     string
	path     string
	query    string
	hasQuery bool

	// varied: the query is what No-Vary-Search makes of the one that was sent, so that
	// other queries have the same key. What was sent is no part of the key.
	varied    bool
	form      byte // what was made of the response: one more than its coding; 0: as it came
	sent      string
	sentQuery bool
	asked     uint64 // how many purges there had been; not part of the key
}

func (c *Cache) target(r *http.Request) target {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	t := target{scheme: scheme, host: normalHost(scheme, r.Host)}
	if sent := r.RequestURI; strings.HasPrefix(sent, "/") {
		// What was sent, not what url.URL makes of it: where a path holds a byte that
		// is not allowed, it forgets which other bytes were escaped.
		t.path, t.query, t.hasQuery = strings.Cut(sent, "?")
	} else {
		t.setURL(r.URL)
	}
	return c.hashed(t)
}

func (c *Cache) targetOf(scheme, host string, u *url.URL) target {
	t := target{scheme: scheme, host: normalHost(scheme, host)}
	t.setURL(u)
	return c.hashed(t)
}

func (t *target) setURL(u *url.URL) {
	t.path, t.query, t.hasQuery = u.Opaque, u.RawQuery, u.ForceQuery || u.RawQuery != ""
	if t.path == "" {
		t.path = u.EscapedPath() // what was sent; allocates only when it is escaped
	}
	if t.path == "" {
		t.path = "/" // RFC 9110 section 4.2.3
	}
}

func (c *Cache) hashed(t target) target {
	t.hash = maphash.String(c.seed, t.path) ^
		bits.RotateLeft64(maphash.String(c.seed, t.host), 21) ^
		bits.RotateLeft64(maphash.String(c.seed, t.query), 42) ^
		bits.RotateLeft64(maphash.String(c.seed, t.scheme), 11)
	if t.hasQuery {
		t.hash = ^t.hash // an empty query is not none
	}
	t.asked = c.purges.count.Load()
	return t
}

// rehashed is hashed for another key of a request that has asked already: a purge that
// comes between must not be missed.
func (c *Cache) rehashed(t target) target {
	asked := t.asked
	t = c.hashed(t)
	t.asked = asked
	return t
}

// normalHost applies RFC 9110 section 4.2.3: letter case and the scheme's own
// port mean nothing.
func normalHost(scheme, host string) string {
	if scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	return strings.ToLower(host)
}

// equal compares all parts. The hash decides most cases at once.
func (t *target) equal(o *target) bool {
	return t.hash == o.hash && t.path == o.path && t.query == o.query && t.host == o.host &&
		t.scheme == o.scheme && t.hasQuery == o.hasQuery && t.form == o.form
}

// clone copies the strings, so that a stored key does not keep a request alive.
func (t *target) clone() target {
	all := t.host + t.path + t.query
	c := *t
	c.host = all[:len(t.host)]
	c.path = all[len(t.host) : len(t.host)+len(t.path)]
	c.query = all[len(t.host)+len(t.path):]
	c.sent = strings.Clone(t.sent)
	return c
}

// parts are the strings that a record keeps of the key, beside hasQuery.
func (t *target) parts() [4]string { return [...]string{t.scheme, t.host, t.path, t.query} }
