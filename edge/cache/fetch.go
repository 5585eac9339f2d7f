package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Errors of Fetch. Those who get them have no answer and may look for one
// elsewhere; any other error is the fetch's own, or the context's.
var (
	// ErrCollapseFull: too many wait for the same answer already.
	ErrCollapseFull = errors.New("too many requests wait for the same response")
	// ErrCollapseTimeout: the header of the answer did not come in time.
	ErrCollapseTimeout = errors.New("the response that others fetch did not begin in time")
	// ErrLeaderFailed: those who fetched for this request failed, twice. It wraps
	// the second failure.
	ErrLeaderFailed = errors.New("the fetch of the same response failed")
	// ErrLate: the header did not come in Config.StaleWait, and the entry may answer
	// instead. The fetch goes on.
	ErrLate = errors.New("the response did not begin in time, and a stale one may stand in")
	// ErrOnlyIfCached: the request forbids to fetch.
	ErrOnlyIfCached = errors.New("only-if-cached, and not cached")
)

// A Func sends a request to whoever can answer it. It is called at most twice
// per Fetch, and for each slice of a large object. The context may outlive the request
// that made it, and the request it gets is a copy with conditions of its own, and for a
// slice with a range. The response's ContentLength is believed: a body that is shorter or
// longer is an error.
type Func = func(ctx context.Context, r *http.Request) (*http.Response, error)

// A Response is a fetched answer.
type Response struct {
	Status int
	// Header is to be read only. It has an Age where one is due.
	Header http.Header
	// Body is never nil and must be closed. It ends with io.EOF only when the
	// answer is complete; after any other error the answer must be aborted. Where
	// it implements io.WriterTo, writing copies nothing.
	Body io.ReadCloser
	// Entry is set when the answer is complete already, and no range of it. Its body
	// may be sent in one Write, instead of Body, until Body is closed.
	Entry *Entry
	// ContentLength is the body's length, -1 when unknown.
	ContentLength int64
	// Trailer is filled when Body has ended. Shared answers have none.
	Trailer http.Header

	// Hit: all of it was stored, in slices; TTL is then the freshness that is left.
	Hit bool
	TTL time.Duration

	Joined      bool // somebody else fetched it
	Stored      bool // it is kept, once complete
	Revalidated bool // a 304 made the stale entry an answer again
	FwdStatus   int  // what the server said: Status, or 304
	// Refused: it waited for what somebody else fetched, and that was not for it.
	Refused bool
	// Detail says why the answer was not shared.
	Detail string

	head *Entry // of an answer that is shared or stored, with its body or still without
}

// Fetch gets the answer to a request that a lookup could not answer. Requests
// for the same that come while fetch is at work wait for its header; if that
// says so, all get the body as it arrives, else each calls its own fetch at
// once. fetch runs in a goroutine of its own, and goes on when the caller leaves
// as long as anybody wants the answer or it is being stored.
//
// The caller's context ends its wait and its reading. It must live until the
// body is closed. Where the entry may answer when there is an error (RFC 5861 section
// 4), the caller waits no longer than Config.StaleWait, and then gets ErrLate. What was
// found is released by the caller, after Fetch.
//
// An answer that others may share comes in the coding that r prefers, if the policy has
// codings: it is encoded once for all, or decoded, as it arrives.
func (c *Cache) Fetch(ctx context.Context, r *http.Request, found Result, fetch Func) (*Response, error) {
	found.epoch = c.flights.epoch(found.target.hash).Load()
	resp, err := c.obtain(ctx, matchingOriginals(r), found, fetch)
	if err != nil {
		return nil, err
	}
	return c.recoded(ctx, r, &found, resp), nil
}

// obtain is Fetch, in the coding that the origin chose.
func (c *Cache) obtain(ctx context.Context, r *http.Request, found Result, fetch Func) (*Response, error) {
	if found.State == Unavailable {
		return nil, ErrOnlyIfCached
	}
	if r.Method == http.MethodPost && found.Why == FwdMethod {
		return c.post(ctx, r, &found, fetch)
	}
	if found.State == Bypass || bypass(r, hasBody(r)) != "" {
		return c.pass(ctx, r, &found, fetch)
	}
	if found.slices != nil {
		return c.fetchSlices(ctx, r, &found, fetch)
	}
	if !collapsible(r, &found) {
		return c.alone(ctx, r, &found, fetch)
	}
	if resp := c.ride(ctx, r, &found, time.Now()); resp != nil {
		return resp, nil
	}
	late, stop := c.lateness(r, &found)
	defer stop()
	for second := false; ; second = true {
		a := c.enter(r, &found, time.Now())
		switch {
		case a.err != nil:
			c.counts.rejected.Add(1)
			return nil, a.err
		case a.entry != nil:
			c.counts.collapsed.Add(1)
			return entryResponse(r, a.entry, &landing{fwdStatus: a.entry.status}, true), nil
		case a.lead != nil:
			return refused(second)(c.lead(ctx, a.lead, r, &found, fetch, late))
		case a.join == nil:
			return refused(second)(c.solo(ctx, r, &found, fetch, late))
		}
		resp, err := c.follow(ctx, a.join, r, &found, late)
		switch {
		case resp != nil:
			return resp, nil
		case err == errNotShared, err == errNotForThis && second:
			return refused(true)(c.solo(ctx, r, &found, fetch, late))
		case err == errNotForThis, errors.Is(err, ErrLeaderFailed) && !second:
			continue
		}
		return nil, err
	}
}

// collapsible reports whether a request may wait for another's answer. With
// Authorization it may only where a stored response shows that RFC 9111 section
// 3.5 allows it.
func collapsible(r *http.Request, found *Result) bool {
	return !found.control.noStore && (!hasAuthorization(r) || found.Entry != nil)
}

// What follow says when there is no answer, but no failure either.
var (
	errNotShared  = errors.New("the response is not shared")
	errNotForThis = errors.New("the response is a variant for others")
)

// refused marks the answer to a request that has waited for another's before.
func refused(waited bool) func(*Response, error) (*Response, error) {
	return func(resp *Response, err error) (*Response, error) {
		if resp != nil {
			resp.Refused = waited
		}
		return resp, err
	}
}

// follow waits for a flight to land.
func (c *Cache) follow(ctx context.Context, f *flight, r *http.Request, found *Result, late <-chan struct{}) (*Response, error) {
	if late != nil && f.late.Load() && c.leaveBehind(f, false) {
		return nil, ErrLate // others have waited long enough for it
	}
	timer := time.NewTimer(c.config.CollapseWait)
	defer timer.Stop()
	select {
	case <-f.decided:
	case <-ctx.Done():
		c.leave(f, false)
		return nil, context.Cause(ctx)
	case <-timer.C:
		c.leave(f, false)
		c.counts.rejected.Add(1)
		return nil, ErrCollapseTimeout
	case <-late:
		if c.leaveBehind(f, false) {
			return nil, ErrLate
		}
		<-f.decided // at this very moment
	}
	l := &f.landing
	switch {
	case l.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrLeaderFailed, l.err)
	case l.panicked != nil:
		return nil, fmt.Errorf("%w: panic", ErrLeaderFailed)
	case !l.shared:
		return nil, errNotShared
	case !f.answers(r, found), c.outlived(f, found):
		f.decline(false)
		return nil, errNotForThis
	}
	c.counts.collapsed.Add(1)
	return f.response(ctx, r, true), nil
}

// lead fetches for all.
func (c *Cache) lead(
	ctx context.Context, f *flight, r *http.Request, found *Result, fetch Func, late <-chan struct{},
) (*Response, error) {
	fetching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	release := found.retain() // the flight may outlive the leader
	go func() {
		defer c.arrive(f)
		defer release()
		c.fly(fetching, f, r, found, fetch)
	}()
	select {
	case <-f.decided:
	case <-ctx.Done():
		c.leave(f, true)
		return nil, context.Cause(ctx)
	case <-late:
		if c.leaveBehind(f, true) {
			return nil, ErrLate
		}
		<-f.decided // at this very moment
	}
	if p := f.landing.panicked; p != nil {
		panic(p) // where the server expects it
	}
	if err := f.landing.err; err != nil {
		return nil, err
	}
	return f.response(ctx, r, false), nil
}

// response is what one of those who waited gets.
func (f *flight) response(ctx context.Context, r *http.Request, joined bool) *Response {
	l := &f.landing
	switch {
	case l.entry != nil:
		return entryResponse(r, l.entry, l, joined)
	case l.fill != nil:
		resp := sharedResponse(l, joined, time.Now())
		resp.Body = l.fill.attach(ctx)
		return resp
	}
	stop := context.AfterFunc(ctx, f.cancel)
	return directResponse(l.direct, &directBody{l.direct.Body, func() { stop(); f.cancel() }}, l.verdict.why)
}

// pass sends a request that is none for a cache.
func (c *Cache) pass(ctx context.Context, r *http.Request, found *Result, fetch Func) (*Response, error) {
	resp, err := fetch(ctx, r)
	if err != nil {
		return nil, err
	}
	c.invalidate(found.Policy, r, resp.StatusCode, resp.Header)
	return directResponse(resp, resp.Body, passedBecause(r, found)), nil
}

// directResponse is an answer for one, as it came.
func directResponse(resp *http.Response, body io.ReadCloser, why string) *Response {
	return &Response{
		Status: resp.StatusCode, Header: resp.Header, Body: body, ContentLength: resp.ContentLength,
		Trailer: resp.Trailer, FwdStatus: resp.StatusCode, Detail: why,
	}
}

// sharedResponse is the head of an answer that others may get too.
func sharedResponse(l *landing, joined bool, now time.Time) *Response {
	e := l.verdict.entry
	header := e.header
	if joined || l.aged {
		header = withAge(e, now)
	}
	return &Response{
		Status: e.status, Header: header, ContentLength: l.length,
		Joined: joined, Stored: l.stored, Revalidated: l.revalidated, FwdStatus: l.fwdStatus, Detail: l.verdict.why,
		head: e,
	}
}

// entryResponse is an answer to r that is complete. Closing it releases the entry.
func entryResponse(r *http.Request, e *Entry, l *landing, joined bool) *Response {
	resp := &Response{
		Status: e.status, Header: withAge(e, time.Now()), Body: &wholeBody{bytes.NewReader(e.Body()), e}, Entry: e,
		ContentLength: int64(len(e.Body())), Joined: joined, Stored: l.stored, Revalidated: l.revalidated,
		FwdStatus: l.fwdStatus, Detail: l.verdict.why, head: e,
	}
	if x, ok := e.Excerpt(r); ok && !e.NotModified(r) {
		x.answer(resp)
	}
	return resp
}

// withAge adds the Age that a cache must generate (RFC 9111 section 5.1).
func withAge(e *Entry, now time.Time) http.Header {
	h := maps.Clone(e.header)
	h["Age"] = []string{strconv.FormatInt(int64(e.Age(now)/time.Second), 10)}
	return h
}

// A wholeBody keeps the io.WriterTo of its reader, and an entry pinned.
type wholeBody struct {
	*bytes.Reader
	entry *Entry // nil once closed
}

func (b *wholeBody) Close() error {
	if b.entry != nil {
		b.Reset(nil)
		b.entry.release()
		b.entry = nil
	}
	return nil
}

// A directBody is read by the leader alone, out of a fetch that it might have
// shared.
type directBody struct {
	io.ReadCloser
	done func()
}

func (b *directBody) Close() error {
	err := b.ReadCloser.Close()
	b.done()
	return err
}
