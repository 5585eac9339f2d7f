package cache

import (
	"context"
	"io"
	"net/http"
	"time"
)

// ride answers a request for a range out of a fetch of the whole that is in
// flight, if the first byte of the range has come: then the request waits for
// nobody, and the origin is spared. It returns nil otherwise.
func (c *Cache) ride(ctx context.Context, r *http.Request, found *Result, now time.Time) *Response {
	if len(r.Header["Range"]) == 0 || r.Method != http.MethodGet {
		return nil
	}
	sh := c.flights.shard(found.target.hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.groups[found.target.hash] // of those without Range
	if g == nil || !g.target.equal(&found.target) {
		return nil
	}
	for _, f := range g.flights {
		if f.epoch != c.flights.epoch(found.target.hash).Load() || !f.settled || f.landing.length < 0 {
			continue
		}
		e := f.landing.verdict.entry
		if !f.answers(r, found) || c.outlived(f, found) || !e.satisfies(&found.control, now) {
			continue
		}
		if s, ok := e.only(r, f.landing.length); ok && f.landing.fill.expectFrom(s.first) {
			c.counts.collapsed.Add(1)
			return f.excerpt(ctx, r, s, now)
		}
	}
	return nil
}

// only returns the bytes that r asks for, of an answer whose body has that
// length and is still to come. It is not ok when these are not in one piece.
func (e *Entry) only(r *http.Request, length int64) (span, bool) {
	if e.status != http.StatusOK || !ifRange(r.Header["If-Range"], e.header) || !e.steady(r) {
		return span{}, false
	}
	ranges, ok := parseRanges(r.Header["Range"])
	if !ok {
		return span{}, false
	}
	spans := resolve(ranges, length)
	if len(spans) != 1 {
		return span{}, false
	}
	return spans[0], true
}

// expectFrom is expect for a reader of what begins at an offset: that byte must
// have come.
func (f *fill) expectFrom(offset int64) bool {
	f.mu.Lock()
	come := f.size > offset
	f.mu.Unlock()
	return come && f.expect()
}

// excerpt is the answer with a span of what a flight brings.
func (f *flight) excerpt(ctx context.Context, r *http.Request, s span, now time.Time) *Response {
	l := &f.landing
	resp := sharedResponse(l, true, now)
	x := Excerpt{spans: []span{s}, size: l.length, brief: len(r.Header["If-Range"]) > 0}
	resp.Status, resp.ContentLength = x.Apply(resp.Header), s.length()
	body := l.fill.attach(ctx)
	body.consume(int(s.first))
	resp.Body = rideBody{io.LimitReader(body, s.length()), body}
	return resp
}

// A rideBody ends with its span, whatever becomes of the rest.
type rideBody struct {
	io.Reader
	io.Closer
}
