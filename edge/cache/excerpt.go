package cache

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"strconv"
)

// An Excerpt is what an entry answers to a request for ranges: some of its bytes
// with 206, or with 416 that there are none where they are asked for.
type Excerpt struct {
	entry    *Entry
	spans    []span // none: 416
	size     int64  // of the representation, -1 when unknown
	said     string // the Content-Range to repeat
	brief    bool   // the request has If-Range, and the client the fields
	boundary string // of several parts
}

// Excerpt returns what the entry answers to r if that asks for ranges. It is not
// ok where the field is to be ignored, and the whole is the answer: for another
// method than GET and another status than 200 (RFC 9110 section 14.2), for what
// is no valid range of bytes, and where If-Range does not hold. The request's
// other conditions come first (section 13.2.2): see NotModified.
func (e *Entry) Excerpt(r *http.Request) (x Excerpt, ok bool) {
	lines := r.Header["Range"]
	if len(lines) == 0 || r.Method != http.MethodGet || e.status != http.StatusOK ||
		!ifRange(r.Header["If-Range"], e.header) || !e.steady(r) {
		return x, false
	}
	ranges, ok := parseRanges(lines)
	if !ok {
		return x, false
	}
	size := e.size()
	if size == 0 {
		return x, false // a client that always asks for ranges must not fail for an empty file
	}
	x = Excerpt{entry: e, size: size, brief: len(r.Header["If-Range"]) > 0}
	if e.part != nil && e.part.repeats(lines[0]) {
		x.spans, x.said = e.part.spans, e.part.said
		return x, true
	}
	if size < 0 {
		size = maxPosition
	}
	x.spans = resolve(ranges, size)
	if len(x.spans) > 1 {
		x.boundary = rand.Text() // nobody can know it, and put it into the body
	}
	return x, true
}

// size is that of the whole representation, -1 when unknown.
func (e *Entry) size() int64 {
	if e.part != nil {
		return e.part.size
	}
	return int64(len(e.body))
}

// Apply turns the header of the entry's own answer into that of the excerpt, and
// returns the status.
func (x *Excerpt) Apply(h http.Header) (status int) {
	if len(x.spans) == 0 {
		for _, name := range aboutTheWhole {
			delete(h, name)
		}
		// RFC 9110 section 15.5.17. It is for this request; a cache that follows must not
		// take it for what is there.
		h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(x.size, 10)}
		h["Content-Length"] = []string{"0"}
		h["Cache-Control"] = []string{"no-store"}
		return http.StatusRequestedRangeNotSatisfiable
	}
	if x.brief {
		x.abbreviate(h)
	}
	length := x.spans[0].length()
	if x.boundary == "" {
		h["Content-Range"] = []string{x.contentRange()}
	} else {
		delete(h, "Content-Range") // RFC 9110 section 15.3.7.2
		h["Content-Type"] = []string{"multipart/byteranges; boundary=" + x.boundary}
		length = 0
		for _, piece := range x.Pieces() {
			length += int64(len(piece))
		}
	}
	h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	return http.StatusPartialContent
}

func (x *Excerpt) contentRange() string {
	if x.said != "" {
		return x.said
	}
	return contentRange(x.spans[0], x.size)
}

// abbreviate leaves out what a client with If-Range has already (RFC 9110 section
// 15.3.7). Last-Modified stays where it is the validator. No value, instead of no
// field, keeps a server from guessing a type.
func (x *Excerpt) abbreviate(h http.Header) {
	h["Content-Type"] = nil
	delete(h, "Content-Encoding")
	delete(h, "Content-Language")
	if len(h["Etag"]) > 0 {
		delete(h, "Last-Modified")
	}
}

// aboutTheWhole are fields of a response that say nothing about a 416.
var aboutTheWhole = [...]string{
	"Age", "Cdn-Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Location",
	"Content-Type", "Etag", "Expires", "Last-Modified", "Surrogate-Control",
}

// Pieces returns the body: one piece for one range, else each range behind the
// head of its part. They are shared, must not be changed, and must not be read once
// the entry is released.
func (x *Excerpt) Pieces() [][]byte {
	switch len(x.spans) {
	case 0:
		return nil
	case 1:
		return [][]byte{x.entry.bytesOf(x.spans[0])}
	}
	return x.parts()
}

// answer makes an answer with the whole entry one with the excerpt.
func (x *Excerpt) answer(resp *Response) {
	var readers []io.Reader
	resp.ContentLength = 0
	for _, piece := range x.Pieces() {
		readers = append(readers, bytes.NewReader(piece))
		resp.ContentLength += int64(len(piece))
	}
	resp.Status = x.Apply(resp.Header)
	resp.Entry, resp.Body = nil, excerptBody{io.MultiReader(readers...), resp.Body}
}

// An excerptBody keeps the entry pinned.
type excerptBody struct {
	io.Reader
	io.Closer
}

// bytesOf returns the bytes of a span that the entry holds.
func (e *Entry) bytesOf(s span) []byte {
	if e.part == nil {
		return e.body[s.first:s.end]
	}
	at := int64(0)
	for _, held := range e.part.spans {
		if held.covers(s) {
			return e.body[at+s.first-held.first:][:s.length()]
		}
		at += held.length()
	}
	return nil
}
