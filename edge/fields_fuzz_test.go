package edge_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"golang.org/x/net/http/httpguts"

	"spillway/edge/outcome"
)

// FuzzRequestFields puts any bytes into the fields that the path and the cache
// read. Whatever they say, the request ends in one outcome and with an answer.
func FuzzRequestFields(f *testing.F) {
	w := newWorld(f, "h1", 100)
	w.origin.says(cacheable(60, "0123456789"))
	add := func(name, value string) { f.Add(name, value, "/plain/a") }
	add("Range", "bytes=0-4")
	add("Range", "bytes=-1,5-,9-2")
	add("If-Range", `W/"a"`)
	add("Priority", "u=0, i")
	add("Priority", `u=9;a="\`)
	add("Cache-Control", "max-stale=, only-if-cached")
	add("If-None-Match", `"a", W/"b", *`)
	add("If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")
	add("Accept", "text/event-stream")
	add("Te", "trailers, gzip;q=0")
	add("Via", "1.1 spillway, 1.1 spillway")
	add("Connection", "upgrade, Host, ,")
	add("Early-Data", "1")
	add("Forwarded", `for="[::1]:80";proto=https,for=_x`)
	f.Fuzz(func(t *testing.T, name, value, path string) {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) || len(path) == 0 || path[0] != '/' {
			return // the protocols' servers let no such request through
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if r.URL, _ = url.ParseRequestURI(path); r.URL == nil {
			return
		}
		r.TLS, r.RequestURI = &tls.ConnectionState{HandshakeComplete: true}, path
		r.Header.Add(name, value)
		before := sum(w.server.Outcomes())
		rec := httptest.NewRecorder()
		w.server.ServeHTTP(rec, r)
		if after := sum(w.server.Outcomes()); after != before+1 {
			t.Errorf("%q: %q %q: %d outcomes", path, name, value, after-before)
		}
		if rec.Code < 200 || rec.Code > 599 || rec.Header().Get("Spillway") == "" {
			t.Errorf("%q: %q %q: %d %v", path, name, value, rec.Code, rec.Header())
		}
	})
}

func sum(outcomes map[outcome.Outcome]uint64) (n uint64) {
	for _, count := range outcomes {
		n += count
	}
	return n
}
