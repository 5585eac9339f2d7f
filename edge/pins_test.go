package edge_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/cache"
)

// awaitUnpinned returns when nobody reads stored bodies any more. What is never
// released makes it wait until the test's end.
func (w *world) awaitUnpinned(t *testing.T, what string) {
	t.Helper()
	for s := w.cache.State(); s.Pinned != 0; s = w.cache.State() {
		if t.Context().Err() != nil {
			t.Fatalf("%s: pinned for good: %+v", what, s)
		}
		time.Sleep(time.Millisecond)
	}
}

// page is a body of some size that tells its path at every line.
func page(path string, size int) string {
	return strings.Repeat("this is "+path+"\n", size/(9+len(path))+1)[:size]
}

// However an answer out of the cache ends, it gives its pin back.
func TestPinsEnd(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		const size = 200 << 10
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Etag", `"a"`)
			rw.Header().Set("Content-Type", "image/x-raw") // is not encoded
			rw.Header().Set("Content-Length", fmt.Sprint(size))
			io.WriteString(rw, page(r.URL.Path, size))
		})
		path := "/plain/page"
		w.ask("GET", path, "").check(t, 200, "origin", "")
		w.awaitUnpinned(t, "stored")
		a := w.ask("GET", path, "")
		if a.check(t, 200, "hit; reason=fresh", ""); a.body != page(path, size) {
			t.Errorf("another body of %d bytes", len(a.body))
		}
		w.ask("HEAD", path, "").check(t, 200, "hit; reason=fresh", "")
		w.ask("GET", path, "", "If-None-Match", `"a"`).check(t, 304, "hit; reason=fresh", "")
		w.ask("GET", path, "", "Cache-Control", "no-cache")
		w.awaitUnpinned(t, "answered")
		a = w.ask("GET", path, "", "Range", "bytes=1000-100999")
		if a.check(t, 206, "hit; reason=fresh", ""); a.body != page(path, size)[1000:101000] {
			t.Errorf("another range of %d bytes", len(a.body))
		}
		w.ask("GET", path, "", "Range", "bytes=0-9,100000-199999").check(t, 206, "hit; reason=fresh", "")
		w.ask("GET", path, "", "Range", "bytes=900000-").check(t, 416, "hit; reason=fresh", "")
		w.awaitUnpinned(t, "answered in part")
		if n := w.cache.PurgeBy(cache.SelectAll(), true); n != 1 {
			t.Errorf("%d softly purged", n)
		}
		w.ask("GET", path, "").check(t, 200, "origin", "")
		w.awaitUnpinned(t, "fetched after a soft purge")
		if _, err := w.server.Explain(edge.Inquiry{Method: "GET", URL: w.visitor.URL + path}); err != nil {
			t.Error(err)
		}
		w.awaitUnpinned(t, "explained")

		for n := range 40 { // visitors who leave in the middle
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", w.visitor.URL+path, nil)
			if n%2 == 1 {
				req.Header.Set("Range", "bytes=0-99999,100000-")
			}
			resp, err := w.visitor.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadFull(resp.Body, make([]byte, 1000))
			cancel()
			resp.Body.Close()
		}
		w.awaitUnpinned(t, "given up")
	})
}

// Visitors who read what is purged and written over meanwhile get what they asked
// for, to the last byte.
func TestBodiesAreWholeWhileTheStoreChanges(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Content-Length", fmt.Sprint(100<<10))
			io.WriteString(rw, page(r.URL.Path, 100<<10))
		})
		ctx, stop := context.WithCancel(t.Context())
		var purger, visitors sync.WaitGroup
		purger.Go(func() {
			for ctx.Err() == nil {
				w.cache.Purge()
				time.Sleep(time.Millisecond)
			}
		})
		for v := range 8 {
			visitors.Go(func() {
				for n := range 30 {
					path := fmt.Sprintf("/plain/%d", (v+n)%5)
					req, _ := http.NewRequest("GET", w.visitor.URL+path, nil)
					resp, err := w.visitor.Client.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK && (err != nil || !bytes.Equal(body, []byte(page(path, 100<<10)))) {
						t.Errorf("%s: %d bytes, %v", path, len(body), err)
					}
				}
			})
		}
		visitors.Wait()
		stop()
		purger.Wait()
		w.awaitUnpinned(t, "over")
	})
}
