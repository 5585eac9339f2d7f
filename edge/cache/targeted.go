package cache

import (
	"net/http"
	"time"

	"github.com/dunglas/httpsfv"
)

// OwnControl is the field that speaks to this cache alone. It goes no further than
// the node.
const OwnControl = "Spillway-Cache-Control"

// targets are the fields that this cache obeys instead of Cache-Control and Expires:
// the target list of RFC 9213 section 2.2, the most applicable first.
var targets = [...]string{OwnControl, "Cdn-Cache-Control"}

// responseDirectives reads the directives of a response that are for this cache. The
// first field of the target list that is valid and not empty replaces Cache-Control
// (RFC 9213 section 2.2); one that cannot be read counts as if it were not there
// (section 2.1).
func responseDirectives(h http.Header) directives {
	for _, name := range targets {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := targetedDirectives(lines); ok {
				return d
			}
		}
	}
	return parseControl(h["Cache-Control"])
}

// targetedDirectives reads a targeted field, a Dictionary of RFC 9651. It is not ok
// when the field is empty or invalid.
func targetedDirectives(lines []string) (d directives, ok bool) {
	dictionary, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dictionary.Names()) == 0 {
		return directives{}, false
	}
	d.present, d.targeted = true, true
	for _, name := range dictionary.Names() {
		member, _ := dictionary.Get(name)
		item, _ := member.(httpsfv.Item) // an inner list is of a wrong type, as nil is
		d.setTyped(name, item.Value)
	}
	return d, true
}

// setTyped records one directive, whose parameters mean nothing (RFC 9213 section
// 2.1). A value of a type that the directive cannot have is not made use of: what
// allows something then allows nothing, as section 4.2.1 of RFC 9111 wants it of
// freshness. What forbids to share does so all the same, for a mistake of the origin
// must not publish anything.
func (d *directives) setTyped(name string, value any) {
	forbids, allows := value != false, value == true
	switch name {
	case "no-store":
		d.noStore = forbids
	case "no-cache":
		d.noCache = forbids
	case "private":
		d.private = forbids
	case "public":
		d.public = allows
	case "must-revalidate":
		d.mustRevalidate = allows
	case "proxy-revalidate":
		d.proxyRevalidate = allows
	case "must-understand":
		d.mustUnderstand = allows
	case "immutable":
		d.immutable = allows
	case "max-age":
		d.maxAge = typedDelta(value)
	case "s-maxage":
		d.sMaxAge = typedDelta(value)
	case "stale-if-error":
		d.staleIfError = typedDelta(value)
	case "stale-while-revalidate":
		d.staleWhileRevalidate = typedDelta(value)
	}
}

// typedDelta is a number of seconds: an Integer, and not negative.
func typedDelta(value any) delta {
	seconds, _ := value.(int64)
	return delta{time.Duration(min(max(seconds, 0), int64(maxDelta/time.Second))) * time.Second, true}
}
