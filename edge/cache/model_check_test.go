package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// candidates are the entries that a request selects, the newest last. They are vague
// when one for the URL may be there or not.
func (m *model) candidates(r *http.Request) (all []*stored, vague bool) {
	for _, e := range m.all {
		if e.url != r.URL.String() {
			continue
		}
		vague = vague || !e.sure
		if e.selects(e.url, r.Header) {
			all = append(all, e)
		}
	}
	return all, vague
}

// check says what is wrong with what a visitor got, or nothing, and notes what is
// stored now.
func (m *model) check(g *got) string {
	r := g.r
	if r.Method != "GET" && r.Method != "HEAD" || len(r.Header["If-Match"]) > 0 {
		return m.checkPassed(g)
	}
	all, vague := m.candidates(r)
	var e *stored // what the lookup finds
	if len(all) > 0 {
		e = all[len(all)-1]
	}
	fits, renewing := false, false
	if e != nil && e.holds(r) {
		fits, renewing = e.fits(r, g.at)
	}
	front := slices.DeleteFunc(slices.Clone(g.seen), func(x *exchange) bool { return x.behind })
	switch {
	case g.fromStore && len(front) > 0:
		return "it was answered from the store, and the origin was asked"
	case g.fromStore:
		if why := m.lawful(g, all, e, vague); why != "" {
			return "answered from the store: " + why
		}
		if !vague && renewing && len(g.seen) == 0 && !wished(r.Header).has("no-store") {
			return "what has expired answered, and was not renewed"
		}
	case !vague && fits:
		return fmt.Sprintf("what answer %s brought was not used", e.header.Get("X-Serial"))
	case wished(r.Header).has("only-if-cached"):
		if !g.refused || len(g.seen) > 0 {
			return "only-if-cached was sent on"
		}
	case len(front) == 0:
		return "nobody was asked"
	default:
		if why := m.checkForwarded(g, front, all, e, vague); why != "" {
			return why
		}
	}
	for _, x := range g.seen {
		if x.behind {
			m.learn(g, x, e)
		}
	}
	return ""
}

// lawful says why an answer out of the store is none that the rules allow, or nothing.
func (m *model) lawful(g *got, all []*stored, e *stored, vague bool) (why string) {
	if !vague && e == nil {
		return "there is nothing that it may be"
	}
	why = "there is nothing that it may be"
	for _, x := range slices.Backward(all) {
		if !vague && x != e {
			continue
		}
		if fits, _ := x.fits(g.r, g.at); !fits {
			why = fmt.Sprintf("answer %s does not fit: %v old, lives %v", x.header.Get("X-Serial"), x.age(g.at), x.life)
		} else if !x.holds(g.r) {
			why = "it has not all bytes"
		} else if why = x.renders(g); why == "" {
			return newer(x, all, g)
		}
	}
	return why
}

// newer says which stored answer the RFC would rather have, or nothing: of all that may
// be used the most recent by its Date must be (RFC 9111 section 4).
func newer(used *stored, all []*stored, g *got) string {
	date, _ := dateOf(used.header, "Date")
	for _, e := range all {
		other, _ := dateOf(e.header, "Date")
		if fits, _ := e.fits(g.r, g.at); fits && e.sure && e.holds(g.r) && other.After(date) {
			return fmt.Sprintf("answer %s has a later Date", e.header.Get("X-Serial"))
		}
	}
	return ""
}

// checkPassed is check for requests that are none for a cache.
func (m *model) checkPassed(g *got) string {
	if len(g.seen) != 1 {
		return fmt.Sprintf("the origin was asked %d times", len(g.seen))
	}
	x := g.seen[0]
	if !equalFields(x.asked, g.r.Header) {
		return fmt.Sprintf("the origin was asked with %v", x.asked)
	}
	if why := relayed(g, x); why != "" || x.fails {
		return why
	}
	unsafe := !slices.Contains([]string{"GET", "HEAD", "OPTIONS", "TRACE"}, g.r.Method)
	if unsafe && x.status >= 200 && x.status < 400 { // RFC 9111 section 4.4
		m.forget(x.url)
		for _, where := range slices.Concat(x.header["Location"], x.header["Content-Location"]) {
			if path, here := onThisOrigin(where); here {
				m.forget(path)
			}
		}
		described := x.header["Content-Location"] // RFC 9110 section 9.3.3
		if g.r.Method == "POST" && x.status < 300 && len(described) == 1 {
			if path, _ := onThisOrigin(described[0]); path == x.url {
				m.learnPost(x)
			}
		}
	}
	return ""
}

// onThisOrigin returns the path of a reference that is to the origin of the history.
func onThisOrigin(where string) (path string, here bool) {
	lower := strings.ToLower(where)
	for _, origin := range []string{"http://example.com", "//example.com:80", "//example.com"} {
		if strings.HasPrefix(lower, origin) {
			return where[len(origin):], true
		}
	}
	return where, strings.HasPrefix(where, "/") && !strings.HasPrefix(where, "//")
}

// relayed says how an answer differs from the origin's, or nothing.
func relayed(g *got, x *exchange) string {
	if x.fails {
		if g.failed == nil {
			return "the origin's failure became an answer"
		}
		return ""
	}
	status, body := x.status, x.whole[x.from:x.to]
	if unchanged(g.r, x.status, x.header, false) {
		status, body = 304, ""
	}
	switch {
	case g.failed != nil:
		return "the answer became an error: " + g.failed.Error()
	case g.status != status:
		return fmt.Sprintf("the status is %d and not %d", g.status, status)
	case g.r.Method != "HEAD" && g.body != body:
		return fmt.Sprintf("the body is %.60q and not %.60q", g.body, body)
	case !equalFields(endToEnd(g.header), endToEnd(x.header)):
		return fmt.Sprintf("the header is %v and not %v", endToEnd(g.header), endToEnd(x.header))
	}
	return ""
}

// checkForwarded is check for a request that went to the origin.
func (m *model) checkForwarded(g *got, front []*exchange, all []*stored, e *stored, vague bool) string {
	if len(front) > 2 {
		return fmt.Sprintf("the origin was asked %d times", len(front))
	}
	r, last := g.r, front[len(front)-1]
	for i, x := range front {
		if why := sentRight(r, x, all, e, vague, i > 0); why != "" {
			return why
		}
	}
	if g.stood {
		why := "nothing may stand in"
		for _, x := range slices.Backward(all) {
			if !x.standsIn(r, g.at) {
				continue
			}
			if why = x.renders(g); why == "" {
				return ""
			}
		}
		return "stood in: " + why
	}
	errors := last.fails || last.status == 503
	if errors && !vague && e != nil && e.holds(r) && e.standsIn(r, g.at) {
		return "what has expired did not stand in for an error"
	}
	if last.status == 304 && conditional(last.asked) && (vague || e != nil && e.holds(r)) {
		return m.checkConfirmed(g, last, all, e, vague)
	}
	if joined := last.status == 206 && !equalFields(rangeOnly(last.asked), rangeOnly(r.Header)); joined {
		return m.checkJoined(g, last, e)
	}
	if why := relayed(g, last); why != "" && !addedTo(g, last, all) {
		return "relayed: " + why
	}
	if !last.fails {
		m.learn(g, last, e)
	}
	return ""
}

// addedTo reports whether an answer is a part with the fields of what is stored of the
// same representation, where it has none itself (RFC 9111 section 3.4).
func addedTo(g *got, x *exchange, all []*stored) bool {
	for _, e := range all {
		added := *x
		added.header = e.updated(x, g.r.Header).header
		if x.status == 206 && newStored(g.r.Header, &added, 0, 0).sameBytes(e) && relayed(g, &added) == "" {
			return true
		}
	}
	return false
}

func conditional(h http.Header) bool { return len(h["If-None-Match"])+len(h["If-Modified-Since"]) > 0 }

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

// purge notes a purge.
func (m *model) purge(url string, soft bool, now time.Time) {
	if !soft {
		m.forget(url)
	}
	for _, e := range m.all {
		if e.url == url && !e.soft {
			e.soft = true
			e.end(now)
		}
	}
}

// forget drops what is stored for a URL.
func (m *model) forget(url string) {
	m.all = slices.DeleteFunc(m.all, func(e *stored) bool { return e.url == url })
}
