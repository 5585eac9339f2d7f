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
