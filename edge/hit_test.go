package edge_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A sink takes an answer and keeps nothing of it.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) WriteHeader(int)             {}

// answerer returns what lets a handler answer one request without protocols.
func answerer(h http.Handler) func() {
	r := httptest.NewRequest(http.MethodGet, "/plain/a", nil)
	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	out := &sink{http.Header{}}
	return func() {
		clear(out.header)
		h.ServeHTTP(out, r)
	}
}

// hitter returns what lets a node answer from its cache.
func hitter(t testing.TB) func() {
	w := newWorld(t, "h1", 1)
	w.origin.says(cacheable(3600, "kept"))
	hit := answerer(w.server)
	hit() // the first one fetches it
	return hit
}

var kept = []byte("kept")

// bareHit sends the fields and the body of a hit, and does nothing else.
var bareHit = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", "4")
	h.Set("Cache-Control", "max-age=3600")
	h.Set("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
	h.Set("Age", "1")
	h.Set("Cache-Status", "spillway; hit; ttl=3599")
	h.Set("Spillway", "hit")
	w.Write(kept)
})

// BenchmarkHit is the path of a request that the cache answers, without protocols.
// How often it allocates is no test: the race detector adds to it.
func BenchmarkHit(b *testing.B) {
	hit := hitter(b)
	b.ReportAllocs()
	for b.Loop() {
		hit()
	}
}

// BenchmarkBareHit is the least that a handler does for the same answer.
func BenchmarkBareHit(b *testing.B) {
	hit := answerer(bareHit)
	b.ReportAllocs()
	for b.Loop() {
		hit()
	}
}
