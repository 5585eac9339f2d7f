package cache

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// epoch0 is the time that pure tests call now.
var epoch0 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func config() Config {
	return Config{Memory: 8 << 20, MaxObject: 1 << 20, CollapseWaiters: 1000, CollapseWait: 5 * time.Second}
}

// header makes a header of "Name: value" lines.
func header(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h
}

// get makes a GET request for a path of one host.
func get(target string, lines ...string) *http.Request { return request("GET", target, lines...) }

func request(method, target string, lines ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Host = "example.com"
	r.Header = header(lines...)
	return r
}

// response makes a response with a body of known length.
func response(status int, body string, lines ...string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: header(lines...), ContentLength: int64(len(body)),
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// answers makes a fetch that always answers alike.
func answers(status int, body string, lines ...string) Func {
	return func(context.Context, *http.Request) (*http.Response, error) {
		return response(status, body, lines...), nil
	}
}

// noFetch fails the test: what it is given to must come from the cache.
func noFetch(t *testing.T) Func {
	return func(context.Context, *http.Request) (*http.Response, error) {
		t.Error("fetched")
		return response(500, ""), nil
	}
}

// serve looks a request up and fetches what is not fresh, as the edge does.
func serve(c *Cache, r *http.Request, fetch Func) (*Response, Result, error) {
	found := c.Lookup(r, time.Now())
	if found.State == Fresh {
		e := found.Entry
		return &Response{
			Status: e.Status(), Header: e.Header(), Entry: e,
			Body: &wholeBody{bytes.NewReader(e.Body()), e},
		}, found, nil
	}
	defer found.Release()
	resp, err := c.Fetch(r.Context(), r, found, fetch)
	return resp, found, err
}

// read serves a request to the end of its body.
func read(t *testing.T, c *Cache, r *http.Request, fetch Func) (*Response, string) {
	t.Helper()
	resp, _, err := serve(c, r, fetch)
	if err != nil {
		t.Fatalf("fetch %s: %v", r.URL, err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatalf("read %s: %v", r.URL, err)
	}
	return resp, string(body)
}

// state is what a lookup now says.
func state(c *Cache, r *http.Request) Freshness { return looked(c, r, time.Now()) }

// looked is what a lookup says; what it found is released.
func looked(c *Cache, r *http.Request, now time.Time) Freshness {
	found := c.Lookup(r, now)
	defer found.Release()
	return found.State
}

// lookup finds what answers a request, until the test ends.
func lookup(t *testing.T, c *Cache, r *http.Request, now time.Time) Result {
	found := c.Lookup(r, now)
	t.Cleanup(func() { found.Release() })
	return found
}

// peek is lookup without a trace.
func peek(t *testing.T, c *Cache, r *http.Request, now time.Time, p *Policy) Glance {
	g := c.Peek(r, now, p)
	t.Cleanup(func() { g.Release() })
	return g
}
