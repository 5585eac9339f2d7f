package cache

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"spillway/edge/coding"
)

// compressing is a policy of a route that says nothing.
func compressing(t testing.TB, codings ...string) *Policy {
	t.Helper()
	p, err := NewPolicy(PolicyConfig{Compress: CompressConfig{Codings: codings}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// visitCoded answers a request as the edge does, under a policy with codings. The body is
// what was sent.
func visitCoded(t testing.TB, c *Cache, p *Policy, r *http.Request, fetch Func) (status int, h http.Header, body []byte, err error) {
	t.Helper()
	found := Result{Policy: p}
	c.Find(r, time.Now(), &found)
	defer found.Release()
	resp := (*Response)(nil)
	if found.State == Fresh {
		if resp = c.Recode(r.Context(), r, &found); resp == nil {
			e := found.Answer(r)
			h = e.Header().Clone()
			found.Vary(h)
			return wholeAnswer(r, e, h)
		}
	} else if resp, err = c.Fetch(r.Context(), r, found, fetch); err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	h = resp.Header.Clone()
	if resp.Entry != nil {
		return wholeAnswer(r, resp.Entry, h)
	}
	if NotModified(r, resp.Status, h) {
		return http.StatusNotModified, h, nil, nil
	}
	body, err = io.ReadAll(resp.Body)
	return resp.Status, h, body, err
}

// allRecoded waits until all that was begun is stored or given up.
func allRecoded(t *testing.T, c *Cache) {
	t.Helper()
	for c.recodings.runningNow() > 0 {
		time.Sleep(time.Millisecond)
	}
	settled(t, c)
}

func wholeAnswer(r *http.Request, e *Entry, h http.Header) (int, http.Header, []byte, error) {
	if e.NotModified(r) {
		return http.StatusNotModified, h, nil, nil
	}
	if x, ok := e.Excerpt(r); ok {
		return x.Apply(h), h, bytes.Join(x.Pieces(), nil), nil
	}
	return e.Status(), h, bytes.Clone(e.Body()), nil
}

// decoded is a body as other programs decode it.
func decoded(t testing.TB, h http.Header, body []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	var err error
	switch name := h.Get("Content-Encoding"); name {
	case "":
	case "gzip":
		r, err = gzip.NewReader(r)
	case "br":
		r = brotli.NewReader(r)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	default:
		t.Fatalf("Content-Encoding: %s", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decode %s: %v", h.Get("Content-Encoding"), err)
	}
	return string(b)
}

func encoded(t testing.TB, c coding.Coding, body string) string {
	t.Helper()
	b, err := io.ReadAll(coding.Encode(c, coding.NewWhole([]byte(body)), nil))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// awaitEntries waits until so many entries are stored.
func (c *Cache) awaitEntries(n int64) {
	for c.State().Entries != n {
		time.Sleep(time.Millisecond)
	}
}
