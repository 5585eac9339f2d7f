package edge

import (
	"crypto/tls"
	"sync"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// What is used again keeps nothing of a visitor, nor of his connection.
func TestBatchForgets(t *testing.T) {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: "a.test"},
		{Name: ":path", Value: "/"},
		{Name: "cookie", Value: "secret"},
		{Name: "accept", Value: "image/png"},
	}
	b := &batch{}
	for _, more := range []int{6, 5} { // the second is no hit, and said less
		for range 3 {
			if !b.request().read(fields[:more], 1000, "192.0.2.1:1", new(tls.ConnectionState)) {
				t.Fatal("no request")
			}
			b.answers = append(b.answers, streamAnswer{})
		}
		b.answers = b.answers[:0]
	}
	b.finish(nil)
	if len(b.requests) != 3 {
		t.Fatalf("%d requests", len(b.requests))
	}
	for i, r := range b.requests {
		values := r.values[:cap(r.values)]
		if r.TLS != nil || r.Host != "" || len(r.Header) > 0 || values[0] != "" || values[1] != "" {
			t.Errorf("request %d: %+v, %q", i, r.Request, values)
		}
	}
}

// A batch that was finished may be another connection's: the race detector tells who looks at
// it still.
func TestBatchIsLeftAlone(t *testing.T) {
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 1000 {
				batches.Get().(*batch).finish(nil)
			}
		})
	}
	readers.Wait()
}
