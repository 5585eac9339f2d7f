package cache

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"spillway/edge/coding"
)

// maxGrowth bounds what a stored body may become when it is decoded, in largest objects.
const maxGrowth = 16

// forms are the codings that a body may be brought into.
var forms = append(slices.Clone(coding.All), coding.Identity)

// in returns the key of what was made of what is stored under t.
func (t *target) in(c coding.Coding) target {
	made := *t
	made.form = byte(c) + 1
	made.hash ^= uint64(made.form) // the same shard: the low bits do not choose it
	return made
}

// lookRecoded finds in which coding r is answered, and that answer if it is stored.
func (c *Cache) lookRecoded(r *http.Request, res *Result) {
	e := res.Entry
	if e == nil || !e.recodes(res.Policy) || !e.encodedSize() {
		return
	}
	res.varies, res.coding = true, e.wanted(r, res.Policy)
	res.epoch = c.flights.epoch(res.target.hash).Load()
	if res.coding == e.coding || namesOriginal(r, e) {
		return
	}
	key := res.target.in(res.coding)
	if made, _ := c.store.get(&key, r); made != nil && made.content == e.content && made.number == e.number {
		res.recoded = made
	} else {
		made.release()
	}
}

// encodedSize reports whether the body that is there is worth another coding.
func (e *Entry) encodedSize() bool {
	return e.coding != coding.Identity && len(e.body) > 0 || len(e.body) >= leastEncoded
}

// namesOriginal reports whether r asks for a part of the entry as it is.
func namesOriginal(r *http.Request, e *Entry) bool {
	tag := first(e.header, "Etag")
	return len(r.Header["Range"]) > 0 && len(r.Header["If-Range"]) == 1 && strongTag(tag) && trim(r.Header["If-Range"][0]) == tag
}

// Answer returns the entry to answer with: Entry, or the same in a coding that the
// request prefers. Who has the body of Entry, and asks whether that is still good, is told
// so, whatever is preferred by now.
func (r *Result) Answer(req *http.Request) *Entry {
	if r.recoded == nil || r.Entry.NotModified(req) && !r.recoded.NotModified(req) {
		return r.Entry
	}
	return r.recoded
}

// Vary adds to the header of an answer that there are others for other values of
// Accept-Encoding.
func (r *Result) Vary(h http.Header) {
	if r.varies {
		h["Vary"] = varyOnEncoding(h["Vary"])
	}
}

// Recode returns the entry that was found in the coding that r prefers, if it is to be
// made first. It returns nil if Answer is the answer: also where too many are being made,
// for the bytes as they are go out at no cost.
func (c *Cache) Recode(ctx context.Context, r *http.Request, found *Result) *Response {
	e := found.Entry
	if !found.varies || found.coding == e.coding || found.recoded != nil || !transformable(r) || e.NotModified(r) {
		return nil
	}
	return c.recode(ctx, r, found, &original{entry: e, coding: found.coding, keep: true})
}

// transformable reports whether a request gets what is still to be made: the whole of a
// body, or its head alone.
func transformable(r *http.Request) bool {
	return r.Method == http.MethodHead || r.Method == http.MethodGet && len(r.Header["Range"]) == 0
}

// recoded returns an answer that others may share in the coding that r prefers: the
// same, if it is in that.
func (c *Cache) recoded(ctx context.Context, r *http.Request, found *Result, resp *Response) *Response {
	e := resp.head
	if e == nil || !e.recodes(found.Policy) {
		return resp
	}
	if r.Method == http.MethodHead && (resp.Entry == nil || resp.Entry.body == nil) {
		return headRecoded(r, found, resp)
	}
	if resp.Entry != nil && !e.encodedSize() {
		return resp
	}
	body, growing := resp.Body.(*reader)
	if growing && resp.ContentLength < 0 && e.coding == coding.Identity && !body.fill.reaches(leastEncoded) {
		return resp
	}
	o := &original{entry: e, coding: e.wanted(r, found.Policy), keep: resp.Stored || resp.Entry != nil}
	if growing {
		o.grows = body.fill
	}
	if (growing || resp.Entry != nil) && o.coding != e.coding && transformable(r) && !e.NotModified(r) {
		if made := c.recode(ctx, r, found, o); made != nil {
			resp.Body.Close()
			made.Joined, made.Stored, made.Revalidated, made.FwdStatus = resp.Joined, resp.Stored, resp.Revalidated, resp.FwdStatus
			made.Refused, made.Detail = resp.Refused, cmp.Or(resp.Detail, made.Detail)
			return made
		}
	}
	resp.Header = withVary(resp.Header)
	return resp
}

// headRecoded makes of the origin's answer to HEAD what GET would be answered, without
// what only the content tells (RFC 9110 section 9.3.2): its length, and its entity tag.
func headRecoded(r *http.Request, found *Result, resp *Response) *Response {
	e := resp.head
	to := e.wanted(r, found.Policy)
	if to == e.coding || len(e.header["Content-Length"]) == 0 {
		resp.Header = withVary(resp.Header) // how much there is, nobody knows
		return resp
	}
	made := withAge(e.in(to, ""), time.Now())
	if !resp.Joined && len(resp.Header["Age"]) == 0 {
		delete(made, "Age")
	}
	delete(made, "Etag")
	resp.Header, resp.Entry, resp.ContentLength, resp.Detail = made, nil, -1, cmp.Or(resp.Detail, to.String())
	return resp
}

// recode answers with the original in its other coding: from the store, out of what is
// being made, or by beginning to. It returns nil where none of that can be.
func (c *Cache) recode(ctx context.Context, r *http.Request, found *Result, o *original) *Response {
	key := c.place(&found.target, o.entry).in(o.coding)
	key.asked = found.target.asked
	made, rc := c.enterRecoding(r, found, o, &key)
	switch {
	case made != nil:
		resp := entryResponse(r, c.withHeader(made, &key, r, found, o), &landing{}, false)
		resp.Detail = o.coding.String()
		return resp
	case rc != nil:
		return rc.response(ctx)
	case o.coding == coding.Identity:
		if resp := c.decodeAlone(ctx, o); resp != nil {
			return resp
		}
	}
	c.recodings.refused.Add(1)
	return nil
}

func withVary(h http.Header) http.Header {
	vary := varyOnEncoding(h["Vary"])
	if len(vary) == len(h["Vary"]) {
		return h
	}
	h = maps.Clone(h)
	h["Vary"] = vary
	return h
}
