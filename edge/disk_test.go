package edge_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"spillway/edge/cache"
	"spillway/edge/cache/disk"
	"spillway/edge/edgetest"
)

// newDiskWorld has a disk below its cache, which somebody has to run.
func newDiskWorld(t *testing.T, proto string, slots int) (*world, *disk.Tier) {
	t.Helper()
	tier := disk.New(disk.Config{Path: t.TempDir(), Size: 8 << 20}, slog.New(slog.DiscardHandler))
	w := newCachingWorld(t, proto, slots, 0, cache.Config{
		Memory: 1 << 20, MaxObject: 1 << 18, CollapseWaiters: 100, CollapseWait: time.Second, StaleWait: time.Second,
		Purge: cache.PurgeConfig{From: []string{"127.0.0.1", "::1"}},
	}, asItIs, tier)
	return w, tier
}

// written waits for the disk.
func (w *world) written(t *testing.T) {
	t.Helper()
	if err := w.cache.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What lies on the disk answers as what lies in memory does: whole, in ranges, to HEAD
// and conditions, and PURGE reaches it.
func TestHitsFromTheDisk(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			const size = 200 << 10
			w, tier := newDiskWorld(t, proto, 1)
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Cache-Control", "max-age=60")
				rw.Header().Set("Etag", `"a"`)
				rw.Header().Set("Content-Length", fmt.Sprint(size))
				io.WriteString(rw, page(r.URL.Path, size))
			})
			background(t, tier.Run)
			w.written(t)
			paths := []string{"/plain/whole", "/plain/range", "/plain/head", "/plain/condition", "/plain/purged"}
			for _, path := range paths {
				w.ask("GET", path, "").check(t, 200, "origin", "")
				w.ask("GET", path, "").check(t, 200, "hit; reason=fresh", "")
				w.written(t)
			}
			if n := w.cache.State().Disk.Objects; n != len(paths) {
				t.Fatalf("%d objects on the disk", n)
			}
			for i := range 10 { // memory holds five
				w.ask("GET", fmt.Sprint("/plain/", i), "").check(t, 200, "origin", "")
			}
			before := w.origin.requests.Load()
			a := w.ask("GET", "/plain/whole", "")
			if a.check(t, 200, "hit; reason=fresh", ""); a.body != page("/plain/whole", size) {
				t.Errorf("another body of %d bytes", len(a.body))
			}
			a = w.ask("GET", "/plain/range", "", "Range", "bytes=1000-100999")
			if a.check(t, 206, "hit; reason=fresh", ""); a.body != page("/plain/range", size)[1000:101000] {
				t.Errorf("another range of %d bytes", len(a.body))
			}
			w.ask("HEAD", "/plain/head", "").check(t, 200, "hit; reason=fresh", "")
			w.ask("GET", "/plain/condition", "", "If-None-Match", `"a"`).check(t, 304, "hit; reason=fresh", "")
			w.ask("PURGE", "/plain/purged", "")
			if s := w.cache.State(); w.origin.requests.Load() != before || s.Disk.Recalled != 4 {
				t.Errorf("%d requests reached the origin: %+v", w.origin.requests.Load()-before, s.Disk)
			}
			w.ask("GET", "/plain/purged", "").check(t, 200, "origin", "")
			w.awaitUnpinned(t, "answered")
		})
	}
}

// A disk that does nothing keeps nobody from purging memory, who is told.
func TestPurgeBesideAHangingDisk(t *testing.T) {
	w, _ := newDiskWorld(t, "h1", 4)
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Cache-Control", "max-age=60") })
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "")
	w.ask("PURGE", "/plain/a", "").check(t, 200, "local; reason=purged", "{\"status\":\"not-on-disk\",\"purged\":1}\n")
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "")
}
