package cache

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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

// A slicedBody reads slice behind slice. It holds the one that it reads and, once half
// of that is read, the next.
type slicedBody struct {
	assembly
	ctx    context.Context
	cancel context.CancelFunc
	head   *piece   // of the version that is sent
	spans  []span   // what is sent, the one that is read first
	texts  [][]byte // what stands before each span, and after the last
	text   []byte   // to be sent first
	at     int64    // the offset of what is sent next
	piece  *piece   // that is read; nil between two
	read   int64    // the offset up to which it was read
	err    error

	ahead   chan opened
	aheadAt int64
}

// An opened is what came of opening a slice.
type opened struct {
	piece *piece
	err   error
}

// Read ends with io.EOF only when all has been read; a slice of another version, and one
// that does not come, are errors.
func (b *slicedBody) Read(p []byte) (n int, err error) {
	for b.err == nil && n == 0 && len(p) > 0 {
		switch {
		case len(b.text) > 0:
			n = copy(p, b.text)
			b.text = b.text[n:]
		case len(b.spans) == 0:
			b.err = io.EOF
		case b.at == b.spans[0].end:
			b.spans = b.spans[1:]
			b.enter()
		default:
			n, b.err = b.readSlice(p)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// enter turns to the next span, and the text before it or after the last.
func (b *slicedBody) enter() {
	if len(b.texts) > 0 {
		b.text, b.texts = b.texts[0], b.texts[1:]
	}
	if len(b.spans) > 0 {
		b.at = b.spans[0].first
	}
}

// readSlice reads from the slice that the next byte is in.
func (b *slicedBody) readSlice(p []byte) (int, error) {
	end := min(b.spans[0].end, b.start(b.at)+b.length)
	if err := b.turnTo(b.start(b.at)); err != nil {
		return 0, err
	}
	if skip := b.at - b.read; skip > 0 {
		if _, err := io.CopyN(io.Discard, b.piece.body, skip); err != nil {
			return 0, cut(err)
		}
		b.read = b.at
	}
	n, err := b.piece.body.Read(p[:min(int64(len(p)), end-b.at)])
	b.at, b.read = b.at+int64(n), b.read+int64(n)
	switch {
	case b.at == end:
		err = nil
		if end == b.piece.span.end {
			err = b.finish()
		}
	case err != nil:
		err = cut(err)
	case b.at-b.piece.span.first >= b.length/2:
		b.lookAhead()
	}
	return n, err
}

// cut is the error for a slice that ends early: never io.EOF.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// finish waits for the end of a slice that was read: then it is stored, and who comes next
// finds it.
func (b *slicedBody) finish() error {
	defer b.drop()
	var more [1]byte
	for {
		switch n, err := b.piece.body.Read(more[:]); {
		case n > 0:
			return errTooLong
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (b *slicedBody) drop() {
	b.piece.close()
	b.piece = nil
}

// turnTo makes the slice of an offset the one that is read.
func (b *slicedBody) turnTo(offset int64) error {
	if b.piece != nil && (b.piece.span.first != offset || b.read > b.at) {
		b.drop()
	}
	if b.piece != nil {
		return nil
	}
	p, err := b.take(offset)
	if err != nil {
		return err
	}
	if !p.of(b.head) {
		if p.close(); !p.other {
			b.cache.overtaken(&b.target, p)
		}
		return fmt.Errorf("slice at %d: %w", offset, errChanged)
	}
	b.piece, b.read = p, offset
	return nil
}

// take opens a slice, unless it is on its way.
func (b *slicedBody) take(offset int64) (*piece, error) {
	if b.ahead != nil {
		o := <-b.ahead
		b.ahead = nil
		if b.aheadAt == offset {
			return o.piece, o.err
		}
		o.piece.close()
	}
	return b.openPatiently(offset)
}

// openPatiently is open for an answer that has begun: where too many wait for the slice,
// or wait in vain, it is asked for alone.
func (b *slicedBody) openPatiently(offset int64) (*piece, error) {
	p, err := b.open(b.ctx, offset)
	if !errors.Is(err, ErrCollapseFull) && !errors.Is(err, ErrCollapseTimeout) {
		return p, err
	}
	alone := Result{State: Bypass, Why: FwdBypass, Policy: b.found.Policy}
	resp, err := b.cache.Fetch(b.ctx, b.request(b.r, offset), alone, b.fetch)
	if err != nil {
		return nil, err
	}
	b.cache.counts.slices.fetched.Add(1)
	return b.fetched(resp, offset), nil
}

// lookAhead begins to open the slice that follows, if it is sent and not stored.
func (b *slicedBody) lookAhead() {
	offset := b.piece.span.end
	if b.ahead != nil || offset >= b.spans[0].end || b.kept(offset) {
		return
	}
	ahead := make(chan opened, 1)
	b.ahead, b.aheadAt = ahead, offset
	go func() {
		var o opened
		defer func() {
			if p := recover(); p != nil { // of the fetch: nobody watches over this goroutine
				o = opened{err: fmt.Errorf("fetch slice at %d: panic: %v", offset, p)}
			}
			ahead <- o
		}()
		o.piece, o.err = b.openPatiently(offset)
	}()
}

// kept reports whether a slice is stored and fresh.
func (b *slicedBody) kept(offset int64) bool {
	key := b.cache.sliceTarget(&b.target, offset)
	e, _ := b.cache.usable(&key, b.r, b.found.Policy)
	defer e.release()
	return e != nil && e.has(b.slicing.at(offset)) && e.satisfies(&b.found.control, time.Now())
}

// Close gives back what is open. What is on its way ends with the context, unless it is
// stored or others wait for it.
func (b *slicedBody) Close() error {
	b.cancel()
	b.drop()
	if b.ahead != nil {
		o := <-b.ahead
		b.ahead = nil
		o.piece.close()
	}
	if b.err == nil {
		b.err = errClosed
	}
	return nil
}
