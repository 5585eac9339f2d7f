package cache

import (
	"net/http"
	"slices"
	"strings"
)

// This file says what is stored after an answer of the origin's.

// newStored is an answer as it would be stored, which holds some bytes.
func newStored(asked http.Header, x *exchange, from, to int) *stored {
	e := &stored{
		url: x.url, asked: asked, status: x.status, header: x.header.Clone(), whole: x.whole,
		held:      make([]bool, len(x.whole)),
		requested: x.requested, came: x.received, sure: true,
	}
	if _, ok := dateOf(e.header, "Date"); !ok {
		e.header.Set("Date", x.received.UTC().Format(http.TimeFormat))
	}
	if e.status == 206 {
		e.status = 200 // RFC 9111 section 3.3
		e.header.Del("Content-Range")
	}
	for i := from; i < to; i++ {
		e.held[i] = true
	}
	e.life = freshFor(x.status, e.header, asked, x.received)
	return e
}

// learn notes what an answer that was relayed leaves in the store.
func (m *model) learn(g *got, x *exchange, e *stored) {
	switch {
	case x.behind && (x.fails || x.status >= 500):
		return // it changes nothing (RFC 9111 section 4.3.3)
	case x.status == 304 && x.behind && conditional(x.asked) && e != nil:
		m.confirm(e, e.updated(x, x.asked), x.asked)
		return
	case x.method == "HEAD":
		m.learnHead(g, x, e)
		return
	}
	why := keepable(x.asked, x.status, x.header)
	switch {
	case x.behind && why != "":
		m.doubt(x) // it is gone, unless the reason says nothing about it
		return
	case why != "":
		return
	case x.status == 206 || x.cut:
		m.learnPart(x.asked, x, x.from, x.to)
		return
	}
	n := newStored(x.asked, x, x.from, x.to)
	if n.sure = n.worth(); !n.sure {
		m.doubt(x)
		m.all = append(m.all, n)
		return
	}
	m.put(n)
}

// put stores an entry in the place of those that its request would have selected. Ours:
// of those that a request might select beside it, the ones with a later Date go, for
// they would have to be used instead (RFC 9111 section 4).
func (m *model) put(n *stored) {
	date, _ := dateOf(n.header, "Date")
	m.all = slices.DeleteFunc(m.all, func(e *stored) bool {
		other, _ := dateOf(e.header, "Date")
		beside := !slices.Equal(names(e.header["Vary"]), names(n.header["Vary"]))
		return e.url == n.url && (alike(e.header["Vary"], e.asked, n.asked) || beside && other.After(date))
	})
	m.all = append(m.all, n)
}

// doubt marks as vague what an answer may have replaced.
func (m *model) doubt(x *exchange) {
	for _, e := range m.all {
		if e.url == x.url {
			e.sure = false
		}
	}
}

// worth reports whether an entry is certainly stored. What can neither answer nor be
// validated may be left out.
func (e *stored) worth() bool {
	w, _ := told(e.header)
	validators := e.header.Get("Etag")+e.header.Get("Last-Modified") != ""
	return validators && !w.has("must-understand") || e.life > 0 && !w.has("no-cache")
}

// neverUpdated are the fields that a 304 leaves as they are.
var neverUpdated = []string{"Content-Length", "Content-Range", "Content-Encoding", "Connection", "Keep-Alive"}

// updated is an entry with the fields of a 304 or HEAD (RFC 9111 section 3.2). Ours:
// a weak tag stays, and the Date is that of the update.
func (e *stored) updated(x *exchange, asked http.Header) *stored {
	n := *e
	n.asked, n.requested, n.came, n.soft = asked, x.requested, x.received, false
	n.header = e.header.Clone()
	for _, name := range []string{"Age", "Date"} {
		n.header.Del(name)
	}
	for name, lines := range x.header {
		weak := name == "Etag" && strings.HasPrefix(e.header.Get("Etag"), "W/")
		kept := slices.Contains(neverUpdated, name)
		if !weak && !kept && !slices.Contains(names(x.header["Connection"]), name) {
			n.header[name] = lines
		}
	}
	if _, ok := dateOf(n.header, "Date"); !ok {
		n.header.Set("Date", x.received.UTC().Format(http.TimeFormat))
	}
	n.life = freshFor(n.status, n.header, asked, x.received)
	return &n
}

// confirm stores what a 304 has made of an entry, or drops it if the new header forbids
// to store.
func (m *model) confirm(e, updated *stored, asked http.Header) {
	switch keepable(asked, updated.status, updated.header) {
	case "set-cookie":
		e.sure = false
	case "":
		sure := e.sure && updated.worth()
		m.all = slices.DeleteFunc(m.all, func(o *stored) bool { return o == e })
		m.put(updated)
		updated.sure = sure
	default:
		m.all = slices.DeleteFunc(m.all, func(o *stored) bool { return o == e })
	}
}

// learnHead is RFC 9111 section 4.3.5. Which entry it speaks of is vague where the one
// that was found is.
func (m *model) learnHead(g *got, x *exchange, e *stored) {
	all, vague := m.candidates(g.r)
	for _, o := range all {
		if o != e && !vague || x.status != 200 || o.status != 200 {
			continue
		}
		if !o.complete() {
			o.sure = false // the section says SHOULD: what is held in part is left as it is
			continue
		}
		same := true
		for _, name := range []string{"Etag", "Last-Modified"} {
			same = same && (x.header.Get(name) == "" || x.header.Get(name) == o.header.Get(name))
		}
		if !same && !vague {
			o.end(x.received)
			continue
		}
		o.sure = false // what a purge wants to be validated may not be updated
		if same {
			n := o.updated(x, g.r.Header)
			n.sure = false
			m.all = append(m.all, n)
		}
	}
}

// learnPost is RFC 9110 section 9.3.3.
func (m *model) learnPost(x *exchange) {
	w, targeted := told(x.header)
	explicit := w.has("max-age") || w.has("s-maxage") || len(x.header["Expires"]) > 0 && !targeted
	if explicit && keepable(x.asked, x.status, x.header) == "" {
		n := newStored(x.asked, x, x.from, x.to)
		n.sure = n.worth() && n.life > 0 && !x.cut
		if x.cut {
			return
		}
		m.put(n)
	}
}

// learnPart notes bytes of a representation, from the first to before the last.
func (m *model) learnPart(asked http.Header, x *exchange, from, to int) {
	located := x.status == 200 || strings.Contains(x.header.Get("Content-Range"), "-")
	if keepable(asked, x.status, x.header) != "" || !located {
		return
	}
	n, alone := newStored(asked, x, from, to), newStored(asked, x, from, to)
	var newest *stored
	for _, e := range m.all {
		if e.selects(n.url, asked) {
			newest = e
		}
		if e.selects(n.url, asked) && n.sameBytes(e) { // RFC 9111 section 3.4: the other fields stay
			n.header = e.updated(x, asked).header
			n.header.Del("Content-Range")
		}
	}
	n.life = freshFor(x.status, n.header, asked, x.received)
	n.sure = n.worth() && !x.cut && len(asked["If-Range"]) == 0
	for _, e := range m.all {
		if e.url != n.url || !alike(e.header["Vary"], e.asked, asked) {
			continue
		}
		// RFC 9111 section 3.4 lets them be put together. Ours: with the newest that may
		// answer this request, Authorization and all.
		if e.selects(n.url, asked) && n.sameBytes(e) {
			for i := range n.held {
				n.held[i] = n.held[i] || e.held[i]
			}
			n.sure = n.sure && e.sure && e == newest
		} else if e.complete() && e.ttl(x.received) > 0 {
			n.sure = false // ours: what is fresh and whole may stay
		}
	}
	if !n.sure {
		m.doubt(x)
		alone.sure = false
		m.all = append(m.all, alone, n) // it may be stored as it came, too
		return
	}
	m.put(n)
}

// sameBytes reports whether two entries have a strong validator in common.
func (e *stored) sameBytes(o *stored) bool {
	v := strong(e.header)
	return v != "" && v == strong(o.header) && e.whole == o.whole
}
