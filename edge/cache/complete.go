package cache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A gap is what a stored part lacks for a request.
type gap struct {
	want   span // what the request asks for
	lacks  span // from the first to the last byte of it that is not held
	ranged bool // the request has Range
}

// gap returns what the part that was found lacks for r, if asking for that alone
// is of use. The representation's size must be known, and of several ranges each
// request takes its own way.
func (res *Result) gap(r *http.Request) (g gap, ok bool) {
	e := res.partial
	if e == nil || r.Method != http.MethodGet || e.part.size < 0 {
		return gap{}, false
	}
	g.want = span{0, e.part.size}
	if g.ranged = len(r.Header["Range"]) > 0; g.ranged {
		ranges, valid := parseRanges(r.Header["Range"])
		spans := resolve(ranges, e.part.size)
		if !valid || len(spans) != 1 || !ifRange(r.Header["If-Range"], e.header) || strongValidator(e.header) == "" {
			return gap{}, false
		}
		g.want = spans[0]
	}
	g.lacks = g.want
	for _, s := range e.part.spans {
		if s.first <= g.lacks.first {
			g.lacks.first = max(g.lacks.first, s.end)
		}
		if s.end >= g.lacks.end {
			g.lacks.end = min(g.lacks.end, s.first)
		}
	}
	return g, g.lacks != g.want && g.lacks.first < g.lacks.end
}

// request returns the request for the missing bytes. With If-Range the origin
// sends the whole instead if it has changed (RFC 9110 section 13.1.5). Without a
// strong validator nothing can be combined: that pays only where the origin sends
// the whole whatever is asked for.
func (g gap) request(r *http.Request, e *Entry) *http.Request {
	out := new(http.Request)
	*out = *r
	out.Header = maps.Clone(r.Header)
	delete(out.Header, "If-None-Match")
	delete(out.Header, "If-Modified-Since")
	delete(out.Header, "If-Range")
	out.Header["Range"] = []string{fmt.Sprintf("bytes=%d-%d", g.lacks.first, g.lacks.end-1)}
	if g.lacks.end == e.part.size {
		out.Header["Range"] = []string{fmt.Sprintf("bytes=%d-", g.lacks.first)}
	}
	if v := strongValidator(e.header); v != "" {
		out.Header["If-Range"] = []string{v}
	}
	return out
}

// askFor asks for what was not found: for the missing bytes alone where a part is
// stored.
func askFor(ctx context.Context, r, out *http.Request, found *Result, fetch Func) (reply, error) {
	if g, ok := found.gap(r); ok {
		return fillGap(ctx, r, found.partial, g, fetch)
	}
	a, err := ask(ctx, r, out, found.Entry, fetch)
	if err == nil && a.entry == nil && a.status == http.StatusPartialContent {
		prior := found.partial
		if prior == nil {
			prior = found.Entry
		}
		a.belongsTo(prior)
	}
	return a, err
}

// belongsTo makes the most of a 206. Without a length its Content-Range tells
// when it is complete. Where it adds to an entry, its fields replace those of the
// entry, and the others stay (RFC 9111 section 3.4).
func (a *answer) belongsTo(prior *Entry) {
	s, size, ok := parseContentRange(a.header["Content-Range"])
	if !ok {
		return
	}
	if a.length < 0 {
		a.length = s.length()
	}
	if prior == nil || prior.size() != size || !prior.sameAs(a.header) {
		return
	}
	h := updated(prior, a.header)
	h["Content-Range"] = a.header["Content-Range"]
	a.header, a.adds = h, true
}

// fillGap asks for the missing bytes. What comes is joined with what is stored
// into the answer, as if all of it came. An answer that cannot be joined is none,
// unless it is the whole; then it asks again, as the request came.
func fillGap(ctx context.Context, r *http.Request, e *Entry, g gap, fetch Func) (reply, error) {
	requested := time.Now()
	resp, err := fetch(ctx, g.request(r, e).WithContext(ctx))
	if err != nil {
		return reply{}, err
	}
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if g.filledBy(resp, e) {
			return joinedReply(resp, e, g, requested), nil
		}
	case http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
	default:
		return reply{
			answer: answer{
				status: resp.StatusCode, header: resp.Header, length: resp.ContentLength,
				requested: requested, received: time.Now(),
			},
			resp: resp, fwdStatus: resp.StatusCode,
		}, nil
	}
	resp.Body.Close()
	return askFor(ctx, r, forwarded(r, nil), &Result{}, fetch)
}

// filledBy reports whether a 206 brings what is missing of this very
// representation.
func (g gap) filledBy(resp *http.Response, e *Entry) bool {
	s, size, ok := parseContentRange(resp.Header["Content-Range"])
	return ok && s == g.lacks && size == e.part.size && e.sameAs(resp.Header) &&
		(resp.ContentLength < 0 || resp.ContentLength == s.length())
}

// joinedReply is the answer to what was wanted.
func joinedReply(resp *http.Response, e *Entry, g gap, requested time.Time) reply {
	a := answer{
		status: http.StatusOK, header: updated(e, resp.Header), length: g.want.length(),
		requested: requested, received: time.Now(), adds: true,
	}
	a.header["Content-Length"] = []string{strconv.FormatInt(a.length, 10)}
	if g.ranged {
		a.status = http.StatusPartialContent
		a.header["Content-Range"] = []string{contentRange(g.want, e.part.size)}
	}
	joined := *resp
	joined.StatusCode, joined.Header, joined.ContentLength, joined.Trailer = a.status, a.header, a.length, nil
	joined.Body = &joinedBody{io.MultiReader(
		bytes.NewReader(e.bytesOf(span{g.want.first, g.lacks.first})),
		&exactly{resp.Body, g.lacks.length()},
		bytes.NewReader(e.bytesOf(span{g.lacks.end, g.want.end})),
	), resp.Body, sync.OnceFunc(e.retain())}
	return reply{answer: a, resp: &joined, fwdStatus: http.StatusPartialContent}
}

// A joinedBody is what is stored and what comes, read in one. What is stored is
// pinned until it is closed: it may be read when the request is over.
type joinedBody struct {
	io.Reader
	comes   io.Closer
	release func()
}

func (b *joinedBody) Close() error {
	b.release()
	return b.comes.Close()
}

// exactly reads so many bytes. Fewer are an error, so that what is stored never
// slips into the place of what is missing.
type exactly struct {
	from io.Reader
	left int64
}

func (x *exactly) Read(p []byte) (int, error) {
	if x.left == 0 {
		return 0, io.EOF
	}
	n, err := x.from.Read(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	if err == io.EOF && x.left > 0 {
		err = io.ErrUnexpectedEOF
	} else if x.left == 0 {
		err = nil
	}
	return n, err
}
