package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// This file judges what was sent to the origin, and answers that are made of what is
// stored and what came.

// rangeOnly are the fields that ask for a part.
func rangeOnly(h http.Header) http.Header {
	only := http.Header{}
	for _, name := range []string{"Range", "If-Range"} {
		if len(h[name]) > 0 {
			only[name] = h[name]
		}
	}
	return only
}

// sentRight says what is wrong with a request that went to the origin, or nothing: it
// is the visitor's, with the validators of what is stored in place of the visitor's
// own (RFC 9111 section 4.3.1), or it asks for the bytes that a stored part lacks.
func sentRight(r *http.Request, x *exchange, all []*stored, e *stored, vague, again bool) string {
	conditions := []string{"If-None-Match", "If-Modified-Since"}
	rest, own := x.asked.Clone(), r.Header.Clone()
	for _, name := range append(conditions, "Range", "If-Range") {
		rest.Del(name)
		own.Del(name)
	}
	if x.method != r.Method || !equalFields(rest, own) {
		return fmt.Sprintf("the origin was asked %s %v", x.method, x.asked)
	}
	ours := func(e *stored) bool {
		return x.asked.Get("If-None-Match") == e.header.Get("Etag") &&
			x.asked.Get("If-Modified-Since") == e.header.Get("Last-Modified")
	}
	validators := e != nil && e.header.Get("Etag")+e.header.Get("Last-Modified") != ""
	switch {
	case !vague && validators && e.holds(r) && !again:
		if !ours(e) {
			return fmt.Sprintf("the stored answer was not validated: %v", x.asked)
		}
	case conditional(x.asked):
		visitors := slices.Equal(x.asked["If-None-Match"], r.Header["If-None-Match"]) &&
			slices.Equal(x.asked["If-Modified-Since"], r.Header["If-Modified-Since"])
		if !visitors && !slices.ContainsFunc(all, ours) || again {
			return fmt.Sprintf("conditions that nobody set: %v", x.asked)
		}
	}
	if equalFields(rangeOnly(x.asked), rangeOnly(r.Header)) {
		return ""
	}
	for _, e := range all {
		if v := strong(e.header); !e.complete() && x.asked.Get("If-Range") == v {
			return ""
		}
	}
	return fmt.Sprintf("a range that nobody asked for: %v", x.asked)
}

// checkConfirmed is for an answer that a 304 has made out of a stored one.
func (m *model) checkConfirmed(g *got, x *exchange, all []*stored, e *stored, vague bool) string {
	why := "nothing that was stored is confirmed by it"
	for _, e := range slices.Backward(all) {
		if !vague && e != all[len(all)-1] {
			break
		}
		if tag := weakly(x.header.Get("Etag")); tag != "" && tag != weakly(e.header.Get("Etag")) {
			why = "the 304 is about another"
			continue
		}
		updated := e.updated(x, g.r.Header)
		if why = updated.renders(g); why == "" {
			m.confirm(e, updated, g.r.Header)
			return ""
		}
	}
	if vague && relayed(g, x) == "" {
		return "" // to the visitor's own condition
	}
	return "confirmed: " + why
}

// weakly is an entity tag for the weak comparison of RFC 9110 section 8.8.3.2.
func weakly(tag string) string { return strings.TrimPrefix(tag, "W/") }

// checkJoined is for an answer of stored bytes and those that were missing.
func (m *model) checkJoined(g *got, x *exchange, e *stored) string {
	from, to := 0, len(x.whole)
	if lines := g.r.Header["Range"]; len(lines) > 0 {
		from, to, _ = oneRange(lines[0], to)
	}
	want := x.whole[from:to]
	switch {
	case g.cut != nil && x.cut && strings.HasPrefix(want, g.body):
	case g.status == 304 && unchanged(g.r, 200, x.header, false):
	case g.body != want || g.cut != nil:
		return fmt.Sprintf("joined: %d %.60q and not %.60q", g.status, g.body, want)
	case g.header.Get("X-Serial") != x.header.Get("X-Serial"):
		return "joined: the fields are not the newest"
	}
	m.learnPart(g.r.Header, x, from, from+len(g.body))
	return ""
}
