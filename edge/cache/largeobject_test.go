package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A largeObject is an origin with one object whose every byte is known by its offset and
// version.
type largeObject struct {
	size     int64
	version  atomic.Int64
	requests atomic.Int64
	bytes    atomic.Int64
	asked    sync.Map // Range to how often
	control  string
	lies     func(resp *http.Response, r *http.Request) // changes the answer
}

func (o *largeObject) at(version, offset int64) byte {
	return byte((offset>>12)*31 + offset*7 + version*101)
}

// A piece of the object, made as it is read.
type generated struct {
	o       *largeObject
	version int64
	span    span
}

func (g *generated) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), g.span.length()))
	if n == 0 {
		return 0, io.EOF
	}
	for i := range p[:n] {
		p[i] = g.o.at(g.version, g.span.first+int64(i))
	}
	g.span.first += int64(n)
	g.o.bytes.Add(int64(n))
	return n, nil
}

func (g *generated) Close() error { return nil }

func (o *largeObject) fetch(_ context.Context, r *http.Request) (*http.Response, error) {
	o.requests.Add(1)
	counter, _ := o.asked.LoadOrStore(r.Header.Get("Range"), new(atomic.Int64))
	counter.(*atomic.Int64).Add(1)
	v := o.version.Load()
	control := o.control
	if control == "" {
		control = "max-age=60"
	}
	resp := &http.Response{StatusCode: 200, Header: header(
		"Cache-Control: "+control, `ETag: "`+strconv.FormatInt(v, 10)+`"`, "Accept-Ranges: bytes", "Content-Type: a/b", "Cache-Tag: big",
	)}
	whole := span{0, o.size}
	g := &generated{o, v, whole}
	if ranges, ok := parseRanges(r.Header["Range"]); ok {
		spans := resolve(ranges, o.size)
		if len(spans) == 0 {
			resp.StatusCode, resp.Body = 416, http.NoBody
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", o.size))
			return resp, nil
		}
		resp.StatusCode, g.span = 206, spans[0]
		resp.Header.Set("Content-Range", contentRange(g.span, o.size))
	}
	resp.ContentLength, resp.Body = g.span.length(), g
	if matchesETag(r.Header["If-None-Match"], resp.Header.Get("Etag")) {
		resp.StatusCode, resp.Body, resp.ContentLength = 304, http.NoBody, 0
		delete(resp.Header, "Content-Range")
	}
	if o.lies != nil {
		o.lies(resp, r)
	}
	return resp, nil
}

// check compares what came with the object, from an offset.
func (o *largeObject) check(t *testing.T, body string, version, offset int64) {
	t.Helper()
	for i := range len(body) {
		if body[i] != o.at(version, offset+int64(i)) {
			t.Fatalf("byte %d of what begins at %d is wrong", i, offset)
		}
	}
}

const testSlice = 64 << 10

// slicing is a cache, and a policy that slices what is larger than 256 KiB.
func slicingCache(t testing.TB) (*Cache, *Policy) {
	p, err := NewPolicy(PolicyConfig{Slice: testSlice})
	if err != nil {
		t.Fatal(err)
	}
	c := config()
	c.Memory, c.MaxObject = 32<<20, 256<<10
	return New(c), p
}

// slicedAnswer serves a request under a policy, as the edge does.
func slicedAnswer(c *Cache, p *Policy, r *http.Request, fetch Func) (*Response, string, error) {
	found := Result{Policy: p}
	c.Find(r, time.Now(), &found)
	defer found.Release()
	if found.State == Fresh {
		e := found.Entry
		resp := &Response{Status: e.Status(), Header: e.Header().Clone(), Hit: true}
		if e.NotModified(r) {
			resp.Status = 304
			return resp, "", nil
		}
		if x, ok := e.Excerpt(r); ok {
			resp.Status = x.Apply(resp.Header)
			var b strings.Builder
			for _, piece := range x.Pieces() {
				b.Write(piece)
			}
			return resp, b.String(), nil
		}
		return resp, string(e.Body()), nil
	}
	resp, err := c.Fetch(r.Context(), r, found, fetch)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if NotModified(r, resp.Status, resp.Header) {
		resp.Status = 304
		return resp, "", nil
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// mustAsk expects an answer.
func mustAsk(t *testing.T, c *Cache, p *Policy, r *http.Request, fetch Func, status int) (*Response, string) {
	t.Helper()
	resp, body, err := slicedAnswer(c, p, r, fetch)
	if err != nil {
		t.Fatalf("%s %v: %v", r.Method, r.Header, err)
	}
	if resp.Status != status {
		t.Fatalf("%s %v: status %d, want %d", r.Method, r.Header, resp.Status, status)
	}
	return resp, body
}

// settled expects that nobody holds anything any more.
func settled(t *testing.T, c *Cache) {
	t.Helper()
	for range 30_000 {
		if s := c.State(); s.Pinned == 0 && s.FillBytes == 0 && s.Flights == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("left over: %+v", c.State())
}
