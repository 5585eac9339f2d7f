package cache

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// A part says which bytes of a representation an entry holds that has not all of
// them: its body is these bytes, one span behind the other. Such an entry answers
// only what lies wholly within it (RFC 9111 section 3.3).
type part struct {
	spans []span // in order, apart from each other
	size  int64  // of the whole, -1 when unknown
	// While the part is one answer of the origin's, these are the Range that was
	// asked for and the Content-Range that came. The same request gets the same
	// answer: an origin may send less than what is asked, and other than it says.
	asked, said string
}

// maxSpans bounds the spans of one entry: visitors choose them.
const maxSpans = 64

// repeats reports whether the part is the origin's answer to this very Range.
func (p *part) repeats(asked string) bool { return p.asked != "" && p.asked == asked }

// covers reports whether all of a span is held.
func (p *part) covers(s span) bool {
	return slices.ContainsFunc(p.spans, func(held span) bool { return held.covers(s) })
}

// holds reports whether the entry has all bytes that r asks for (RFC 9111
// section 3.3).
func (e *Entry) holds(r *http.Request) bool {
	if e.part == nil {
		return true
	}
	x, ok := e.Excerpt(r)
	if !ok || len(x.spans) == 0 {
		return false
	}
	return !slices.ContainsFunc(x.spans, func(s span) bool { return !e.part.covers(s) })
}

// holdsAs is holds for the entry with another header: with other validators If-Range
// may want the whole.
func (e *Entry) holdsAs(h http.Header, r *http.Request) bool {
	as := *e
	as.header = h
	return as.holds(r)
}

// storablePart says whether a 206 may be stored: the answer to a GET with Range,
// that has one part, and says where its bytes lie. What has fewer bytes than it
// says counts by what came.
func storablePart(r *http.Request, a *answer) bool {
	s, _, ok := parseContentRange(a.header["Content-Range"])
	return ok && r.Method == http.MethodGet && len(r.Header["Range"]) == 1 && a.length > 0 && a.length <= s.length()
}

// stored returns the entry that a 206 is kept as: what an incomplete 200 would be
// (RFC 9111 section 3.3).
func (e *Entry) stored(body []byte, asked string) *Entry {
	s, size, _ := parseContentRange(e.header["Content-Range"])
	held := span{s.first, s.first + int64(len(body))}
	if s.end == size && asksForTail(asked) {
		size = held.end
	}
	p := *e
	p.status = http.StatusOK
	p.header = maps.Clone(e.header)
	delete(p.header, "Content-Range")
	delete(p.header, "Content-Length")
	said := first(e.header, "Content-Range")
	return p.holding(body, &part{[]span{held}, size, asked, said})
}

// asksForTail reports whether a Range asks for one run of bytes up to the end of the
// representation (RFC 9110 section 14.1.2). What answers it in full, and says that it
// reaches the end, ends there: the bytes that came are believed over a Content-Range
// that counts more of them, and the same for the size that it tells. So such a part
// is never combined with one that has the other size.
func asksForTail(asked string) bool {
	ranges, ok := parseRanges([]string{asked})
	return ok && len(ranges) == 1 && (ranges[0].first < 0 || ranges[0].last < 0)
}

// kept returns the entry that a complete answer to r is stored as.
func (e *Entry) kept(r *http.Request, body []byte) *Entry {
	if e.status == http.StatusPartialContent {
		return e.stored(body, r.Header["Range"][0])
	}
	return e.complete(body)
}

// holding returns the entry with a part of its body, or with all of it if that
// part is the whole.
func (e *Entry) holding(body []byte, p *part) *Entry {
	if len(p.spans) == 1 && p.spans[0] == (span{0, p.size}) {
		return e.complete(body)
	}
	held := *e
	held.body, held.part, held.mayRecode, held.hold = body, p, false, hold{}
	return &held
}

// cut returns a complete answer's entry with no more than the first bytes of its
// body.
func (e *Entry) cut(body []byte, size int64) *Entry {
	p := *e
	p.header = maps.Clone(e.header)
	delete(p.header, "Content-Length")
	return p.holding(body, &part{spans: []span{{0, int64(len(body))}}, size: size})
}

// confirmed returns the entry with the body of the stale one that a 304 has
// confirmed.
func (e *Entry) confirmed(stale *Entry) *Entry {
	held := *e
	held.content = stale.content
	body := bytes.Clone(stale.body) // goes to many, for as long as each of them takes
	if stale.part == nil {
		return held.complete(body)
	}
	return held.holding(body, stale.part)
}

// sameAs reports whether a response with this header is of the representation
// that the entry holds, byte for byte: they share a strong validator (RFC 9111
// section 3.4).
func (e *Entry) sameAs(h http.Header) bool {
	v := strongValidator(e.header)
	if v == "" || first(e.header, "Etag") != first(h, "Etag") {
		return false
	}
	return v == first(h, "Etag") || v == first(h, "Last-Modified")
}

// length is that of the body as an answer, -1 for a part.
func (e *Entry) length() int64 {
	if e.part != nil {
		return -1
	}
	return int64(len(e.body))
}

// spans are the bytes that the entry holds.
func (e *Entry) spans() []span {
	if e.part == nil {
		return []span{{0, int64(len(e.body))}}
	}
	return e.part.spans
}

// combine returns the entry with what an older one of the same representation
// holds besides (RFC 9111 section 3.4): the newer header stands. It is nil when
// that would be more than the largest object, or too many spans, or the budget has no
// room for the bytes, which is given back by free. It is good as long as the older one
// is pinned, and until then.
func (e *Entry) combine(old *Entry, maxObject int64, b *budget) (combined *Entry, free func()) {
	p := &part{spans: union(old.spans(), e.spans()), size: e.size()}
	length := int64(0)
	for _, s := range p.spans {
		length += s.length()
	}
	switch {
	case slices.Equal(p.spans, old.spans()):
		return e.holding(old.body, p), func() {} // nothing new
	case length > maxObject, len(p.spans) > maxSpans, !b.take(length):
		return nil, func() {}
	}
	body := make([]byte, length)
	for _, from := range [...]*Entry{old, e} {
		place(body, p.spans, from)
	}
	return e.holding(body, p), func() { b.give(length) }
}

// union returns the spans of both, those that touch as one.
func union(a, b []span) (all []span) {
	both := slices.Concat(a, b)
	slices.SortFunc(both, func(a, b span) int { return int(min(max(a.first-b.first, -1), 1)) })
	for _, s := range both {
		if n := len(all); n > 0 && s.first <= all[n-1].end {
			all[n-1].end = max(all[n-1].end, s.end)
		} else {
			all = append(all, s)
		}
	}
	return all
}

// place copies what an entry holds to where it belongs in a body of these spans.
func place(body []byte, spans []span, e *Entry) {
	at := int64(0)
	for _, s := range spans {
		for _, held := range e.spans() {
			if s.covers(held) {
				copy(body[at+held.first-s.first:], e.bytesOf(held))
			}
		}
		at += s.length()
	}
}

// combining returns the lock under which the parts of a key are put together, so
// that two that come at once do not lose each other.
func (fs *flights) combining(hash uint64) *sync.Mutex { return &fs.shard(hash).combining }

// merged returns what is to be stored of a part that has come, given what there
// is, which may be nothing; nil when that stays as it is. It is good until free.
func (c *Cache) merged(old, e *Entry) (_ *Entry, free func()) {
	switch {
	case old == nil:
	case old.sameAs(e.header) && old.size() == e.size() && e.hasFieldsOf(old):
		return e.combine(old, c.config.MaxObject, &c.fills)
	case old.part == nil && old.sameAs(e.header) && old.size() == e.size():
		e = nil // it brings no bytes
	case old.part == nil && old.TTL(e.received) > 0 && (strongValidator(old.header) == "" || strongValidator(e.header) == ""):
		e = nil // fresh, whole, and not known to be another one
	}
	return e, func() {}
}

// hasFieldsOf reports whether the entry has all fields of an older one, which stay when
// both are put together (RFC 9111 section 3.4). A 206 for which the older one was known
// has them; one that was to be the whole may not, and then what is stored would live by
// other rules than the origin gave.
func (e *Entry) hasFieldsOf(old *Entry) bool {
	for name := range old.header {
		if name != "Content-Length" && e.header[name] == nil {
			return false
		}
	}
	return true
}

// salvage keeps what has come of an answer that was cut short, as a part (RFC
// 9111 section 3.3): of a GET alone. Only a strong validator makes that of use.
func (c *Cache) salvage(t *target, r *http.Request, fl *fill, e *Entry, epoch uint32) {
	body := fl.salvage()
	if r.Method != http.MethodGet || len(body) == 0 || strongValidator(e.header) == "" {
		return
	}
	switch e.status {
	case http.StatusOK:
		c.keep(t, e.cut(body, fl.length), r, epoch)
	case http.StatusPartialContent:
		c.keep(t, e.stored(body, ""), r, epoch)
	}
}

// salvage returns what has come of a body of known length that is to be stored, if
// it was cut short.
func (f *fill) salvage() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.keep || f.length < 0 || f.size >= f.length {
		return nil
	}
	return f.last.data[:f.size]
}
