package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// An assembly is an answer that is put together of slices.
type assembly struct {
	slicing
	cache *Cache
	r     *http.Request
	found *Result
	fetch Func
	// mayBeStale: an expired slice may stand in when there is an error. Before the
	// answer has begun the caller decides that, if it has the entry.
	mayBeStale bool
}

// A piece is one slice, open for reading.
type piece struct {
	span   span
	size   int64 // of the object
	header http.Header
	age    int64 // in seconds
	ttl    time.Duration
	body   io.ReadCloser
	// resp is how it was fetched, nil for one out of the store. Where it is no slice that
	// was asked for, other is set.
	resp  *Response
	other bool
}

// Errors of an assembly.
var (
	errChanged = errors.New("the slices of an object are of two versions")
	errNoSlice = errors.New("the answer to a request for a slice is none")
)

// stored is the piece out of a pinned entry.
func (a *assembly) stored(e *Entry, offset int64, now time.Time) *piece {
	p := &piece{header: e.header, size: e.size(), age: int64(e.Age(now) / time.Second), ttl: e.TTL(now)}
	p.span = span{offset, min(offset+a.length, p.size)}
	p.body = &wholeBody{bytes.NewReader(e.bytesOf(p.span)), e}
	return p
}

// fetched is the piece that an answer brings.
func (a *assembly) fetched(resp *Response, offset int64) *piece {
	p := &piece{header: resp.Header, body: resp.Body, resp: resp}
	var ok bool
	p.span, p.size, ok = parseContentRange(resp.Header["Content-Range"])
	p.other = !ok || resp.Status != http.StatusPartialContent || strongValidator(resp.Header) == "" ||
		p.span != span{offset, min(offset+a.length, p.size)} ||
		resp.ContentLength >= 0 && resp.ContentLength != p.span.length()
	if seconds, ok := parseAge(resp.Header["Age"]); ok {
		p.age = int64(seconds / time.Second)
	}
	return p
}

// of reports whether the piece is of the version of another.
func (p *piece) of(version *piece) bool {
	return !p.other && p.size == version.size && strongValidator(p.header) == strongValidator(version.header)
}

// fetchSlices answers r out of slices, those that are stored and those that it asks for.
// Nothing is answered before the first slice that is not stored has come; where its
// version is another one than that of the slices before it, these are forgotten and the
// answer begins anew. What cannot be sliced after all is asked for as it came.
func (c *Cache) fetchSlices(ctx context.Context, r *http.Request, found *Result, fetch Func) (*Response, error) {
	s := *found.slices
	for range 2 {
		a := &assembly{slicing: s, cache: c, r: r, found: found, fetch: fetch, mayBeStale: found.Entry == nil}
		resp, err := a.begin(ctx)
		if !errors.Is(err, errChanged) && !errors.Is(err, errNoSlice) {
			return resp, err
		}
		s.size = a.size
		if s.size <= c.config.MaxObject || errors.Is(err, errNoSlice) {
			break
		}
	}
	if s.size <= c.config.MaxObject {
		c.larges.forget(s.target.hash)
	} else {
		c.larges.shun(s.target.hash, time.Now())
	}
	plain := Result{State: Miss, Why: found.Why, Policy: found.Policy, control: found.control, target: s.target}
	plain.target.asked = c.purges.count.Load()
	return c.Fetch(ctx, r, plain, fetch)
}

// overtaken forgets the slices of an object of which one has come that is of another
// version. Many visitors see that at once: the first does it. An object that changes
// often is left alone for a time.
func (c *Cache) overtaken(t *target, by *piece) {
	version, now, done := strongValidator(by.header), time.Now(), false
	c.larges.change(t.hash, func(k *large) {
		if done = k.version == version && now.Sub(k.changed) < changeSeen; done {
			return
		}
		if now.Sub(k.changed) < restless {
			k.avoid = now.Add(restless)
		}
		k.size, k.version, k.changed = by.size, version, now
	})
	if !done {
		c.counts.slices.changes.Add(1)
		c.purgeSlices(t, false, time.Time{})
	}
}

// begin opens slices up to the first that is not stored, and returns the answer.
func (a *assembly) begin(ctx context.Context) (*Response, error) {
	var head, next *piece
	brought := &Response{}
	age, ttl, hit := int64(0), time.Duration(0), true
	wanted, _ := a.plan(a.r, nil)
	for offset := range a.offsets(wanted) {
		p, err := a.open(ctx, offset)
		if err != nil {
			head.close()
			return nil, err
		}
		if err = a.accept(p, head); err != nil {
			if head == nil && err == errNoSlice && p.answers() {
				if tellsOfObject(a.r, p.resp.Status) {
					a.cache.larges.forget(a.target.hash)
				}
				return p.resp, nil
			}
			head.close()
			p.close()
			return nil, err
		}
		age = max(age, p.age)
		if head == nil {
			ttl = p.ttl
		}
		ttl = min(ttl, p.ttl)
		if p.resp != nil {
			brought, hit = p.resp, false
		}
		switch {
		case head == nil:
			head = p
		case p.span.first == head.span.end: // what is read after the first, and on its way
			next = p
		default:
			p.close() // it is looked for again in its turn
		}
		if !hit || NotModified(a.r, http.StatusOK, head.header) {
			break
		}
		if next != nil {
			next.close()
			next = nil
		}
	}
	spans, ranged := a.plan(a.r, head.header)
	resp := &Response{
		Status: http.StatusOK, Header: maps.Clone(head.header), ContentLength: a.size,
		Hit: hit, TTL: ttl, Joined: brought.Joined, Stored: brought.Stored, Revalidated: brought.Revalidated,
		FwdStatus: brought.FwdStatus, Refused: brought.Refused, Detail: brought.Detail,
	}
	delete(resp.Header, "Content-Range")
	resp.Header["Content-Length"] = []string{strconv.FormatInt(a.size, 10)}
	if hit || age > 0 {
		resp.Header["Age"] = []string{strconv.FormatInt(age, 10)}
	}
	b := &slicedBody{assembly: *a, head: head, piece: head, read: head.span.first, spans: spans}
	b.mayBeStale = true
	if ranged && !NotModified(a.r, http.StatusOK, head.header) {
		b.texts = a.excerpt(resp, head, spans)
	}
	b.enter()
	if next != nil {
		b.ahead, b.aheadAt = make(chan opened, 1), next.span.first
		b.ahead <- opened{next, nil}
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	resp.Body = b
	return resp, nil
}

// accept says why a piece cannot stand beside the first one of the answer, or nil.
func (a *assembly) accept(p, head *piece) error {
	switch {
	case p.other:
		return errNoSlice
	case head == nil && p.size != a.size && (p.resp == nil || len(p.header["Vary"]) > 0):
		// What is known is of an older version, or of another variant, whose slices are
		// as good as these.
		a.size = p.size
		return errChanged
	case p.size != a.size || head != nil && !p.of(head):
		a.size = p.size
		a.cache.overtaken(&a.target, p)
		return errChanged
	}
	return nil
}

// answers reports whether what came for the first slice is the answer to any range: the
// whole, or that there is nothing.
func (p *piece) answers() bool {
	switch p.resp.Status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusRequestedRangeNotSatisfiable:
		return false
	}
	return true
}

// excerpt turns the head of the answer into that of one with ranges, and returns what
// stands before, between and after several of them.
func (a *assembly) excerpt(resp *Response, head *piece, spans []span) (texts [][]byte) {
	x := Excerpt{
		entry: &Entry{header: head.header, part: &part{}}, spans: spans, size: a.size,
		brief: len(a.r.Header["If-Range"]) > 0,
	}
	if len(spans) > 1 {
		x.boundary = rand.Text()
		for i, piece := range x.parts() {
			if i%2 == 0 {
				texts = append(texts, piece)
			}
		}
	}
	resp.Status = x.Apply(resp.Header)
	length := int64(0)
	for _, s := range spans {
		length += s.length()
	}
	for _, text := range texts {
		length += int64(len(text))
	}
	resp.ContentLength = length
	resp.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	return texts
}

func (p *piece) close() {
	if p != nil && p.body != nil {
		p.body.Close()
		p.body = nil
	}
}
