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

// BenchmarkHit is the path of a request that the cache answers, without protocols.
func BenchmarkHit(b *testing.B) {
	w := newWorld(b, "h1", 1)
	w.origin.says(cacheable(3600, "kept"))
	r := httptest.NewRequest(http.MethodGet, "/plain/a", nil)
	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	out := &sink{http.Header{}}
	for range 2 { // the first one fetches it
		w.server.ServeHTTP(out, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		clear(out.header)
		w.server.ServeHTTP(out, r)
	}
}
