package edge

import (
	"net/http"
	"strconv"
	"strings"

	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/origin"
)

// malformed says why a request is refused before anything looks at it.
func malformed(r *http.Request, path string) outcome.Reason {
	switch {
	case r.Method == http.MethodConnect && (r.Header[":protocol"] != nil || r.ProtoMajor == 3 && r.Proto != "HTTP/3.0"):
		return outcome.UnknownProtocol
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return outcome.MethodNotAllowed
	case path == "" || path[0] != '/' || ambiguous(path) || misstated(r):
		return outcome.BadRequest
	case hasToken(r.Header["Upgrade"], "websocket") && r.ContentLength != 0:
		// Servers disagree about whether such a body is one, or the first frames.
		return outcome.BadRequest
	case r.Header["Early-Data"] != nil && !overflow.Safe(r.Method):
		// RFC 8470 section 5.2: a proxy in front got it as early data, and it may be a
		// replay.
		return outcome.TooEarly
	case r.Header["Via"] != nil && loops(r.Header["Via"]):
		return outcome.Loop
	case fields(r.Header) > maxFields:
		return outcome.HeaderTooLarge
	}
	return outcome.None
}

// maxFields is how many field lines a request may have; not a knob: browsers send
// some twenty, and what passes here is walked through and copied many times.
const maxFields = 128

func fields(h http.Header) (n int) {
	for _, values := range h {
		n += len(values)
	}
	return n
}

// loopsAfter is how often a request may have come through nodes; not a knob: a
// chain of two has a reason.
const loopsAfter = 8

// loops reports whether a request goes round in a circle: an origin's address is
// a node's own (RFC 9110 section 7.6.3).
func loops(via []string) bool {
	passed := 0
	for _, list := range via {
		passed += strings.Count(list, origin.Pseudonym)
	}
	return passed >= loopsAfter
}

// misstated reports whether a request has a length that is not its body's (RFC 9113
// section 8.1.1): HTTP/2 ends a request without one, and the server looks at it no
// further.
func misstated(r *http.Request) bool {
	lengths := r.Header["Content-Length"]
	return r.ProtoMajor > 1 && lengths != nil &&
		(len(lengths) > 1 || lengths[0] != strconv.FormatInt(r.ContentLength, 10))
}
