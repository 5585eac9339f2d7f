package edge_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge"
	"spillway/edge/cache"
	"spillway/edge/edgetest"
)

// A largeFile is an origin's file in several versions, each byte of which tells where it
// is.
type largeFile struct {
	bodies  [][]byte
	version atomic.Int64
}

func newLargeFile(size, versions int) *largeFile {
	f := &largeFile{bodies: make([][]byte, versions)}
	for v := range f.bodies {
		f.bodies[v] = make([]byte, size)
		for i := range f.bodies[v] {
			f.bodies[v][i] = byte(i ^ i>>8*7 ^ i>>16*31 ^ v*101)
		}
	}
	return f
}

func (f *largeFile) serve(rw http.ResponseWriter, r *http.Request) {
	v := f.version.Load()
	rw.Header().Set("Cache-Control", "max-age=60")
	rw.Header().Set("Content-Type", "a/b")
	rw.Header().Set("ETag", fmt.Sprintf(`"%d"`, v))
	http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(f.bodies[v]))
}

// runSlicing runs f against a node that slices, over each protocol.
func runSlicing(t *testing.T, slots int, cc cache.Config, slice int64, f func(t *testing.T, w *world)) {
	t.Helper()
	cc.CollapseWaiters, cc.CollapseWait, cc.StaleWait = 1000, 10*time.Second, time.Second
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			f(t, newCachingWorld(t, proto, slots, time.Second, cc, func(_ *edge.Config, routes []edge.RouteConfig) {
				routes[0].Cache.Slice = slice
			}))
		})
	}
}

// TestLargeObject: the first answer passes through, the second asks for each slice once,
// and the third for nothing.
func TestLargeObject(t *testing.T) {
	f := newLargeFile(40<<20, 1)
	cc := cache.Config{Memory: 128 << 20, MaxObject: 8 << 20}
	runSlicing(t, 64, cc, 1<<20, func(t *testing.T, w *world) {
		w.origin.says(f.serve)
		for n, want := range []struct {
			how      string
			requests int64
			status   string
		}{
			{"origin", 1, "spillway; fwd=uri-miss; fwd-status=200; detail=too-large"},
			{"origin", 41, "spillway; fwd=uri-miss; fwd-status=206; stored"},
			{hit, 41, "spillway; hit; ttl="},
		} {
			a := w.ask("GET", "/plain/a", "")
			a.check(t, 200, want.how, "")
			if a.body != string(f.bodies[0]) || a.header.Get("Content-Length") != strconv.Itoa(40<<20) {
				t.Errorf("answer %d: %d other bytes, %v", n, len(a.body), a.header)
			}
			if asked := w.origin.requests.Load(); asked != want.requests {
				t.Errorf("answer %d: %d requests, want %d", n, asked, want.requests)
			}
			if status := a.header.Get("Cache-Status"); !strings.HasPrefix(status, want.status) {
				t.Errorf("answer %d: Cache-Status: %s", n, status)
			}
		}
		w.ranged(t, hit, f.bodies[0], 1<<20-1, 1<<20, "Range", "bytes=1048575-1048576")
		w.ranged(t, hit, f.bodies[0], 40<<20-5, 40<<20-1, "Range", "bytes=-5")
		w.ranged(t, hit, f.bodies[0], 3<<20, 9<<20, "Range", "bytes=3145728-9437184")
		w.ask("GET", "/plain/a", "", "If-None-Match", `"0"`).check(t, 304, hit, "")
		w.ask("GET", "/plain/a", "", "Range", "bytes=99999999-").check(t, 416, hit, "")
		if head := w.ask("HEAD", "/plain/a", ""); head.header.Get("Content-Length") != strconv.Itoa(40<<20) {
			t.Errorf("HEAD: %v", head.header)
		}
		w.awaitUnpinned(t, "answered")
		await(t, "the fetches are over", func() bool { return w.cache.State().FillBytes == 0 })
		if s := w.cache.State(); s.Entries != 40 {
			t.Errorf("%+v", s)
		}
	})
}

// TestSliceOfACrowd: those who read one slice at once make one request.
func TestSliceOfACrowd(t *testing.T) {
	f := newLargeFile(2<<20, 1)
	runSlicing(t, 64, cache.Config{Memory: 16 << 20, MaxObject: 1 << 18}, 64<<10, func(t *testing.T, w *world) {
		w.origin.says(f.serve)
		w.ask("GET", "/plain/a", "", "Range", "bytes=0-9").check(t, 206, "origin", string(f.bodies[0][:10]))
		var wg sync.WaitGroup
		for n := range 30 {
			wg.Go(func() {
				a := w.ask("GET", "/plain/a", "", "Range", fmt.Sprintf("bytes=%d-%d", 1<<20+n, 1<<20+20_000))
				if a.err != nil || a.status != 206 || a.body != string(f.bodies[0][1<<20+n:1<<20+20_001]) {
					t.Errorf("%d, %d bytes, %v", a.status, len(a.body), a.err)
				}
			})
		}
		wg.Wait()
		if n := w.origin.requests.Load(); n != 2 {
			t.Errorf("%d requests", n)
		}
	})
}

// TestSlicesWhileAllChanges: whatever is evicted, purged and changed meanwhile, each
// answer is of one version to the last byte, or breaks off.
func TestSlicesWhileAllChanges(t *testing.T) {
	const size = 1<<20 + 77
	f := newLargeFile(size, 4)
	runSlicing(t, 64, cache.Config{Memory: 1 << 20, MaxObject: 1 << 17}, 32<<10, func(t *testing.T, w *world) {
		w.origin.says(f.serve)
		var whole atomic.Int64
		rapid.Check(t, func(rt *rapid.T) {
			type visit struct{ first, last int }
			visits := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) visit {
				first := rapid.IntRange(0, size-1).Draw(rt, "first")
				return visit{first, rapid.IntRange(first, min(size-1, first+200_000)).Draw(rt, "last")}
			}), 2, 6).Draw(rt, "visits")
			change := rapid.SampledFrom([]string{"", "purge", "soft", "version", "wholes"}).Draw(rt, "change")
			var wg sync.WaitGroup
			for _, v := range visits {
				wg.Go(func() {
					fields := []string{"Range", fmt.Sprintf("bytes=%d-%d", v.first, v.last)}
					if change == "wholes" {
						fields, v = nil, visit{0, size - 1}
					}
					a := w.ask("GET", "/plain/a", "", fields...)
					if a.status == http.StatusOK { // If-Range of the node's own did not hold
						v = visit{0, size - 1}
					}
					version, err := strconv.Atoi(strings.Trim(a.header.Get("ETag"), `"`))
					switch {
					case a.header == nil: // it broke off before its header came
					case a.status != 206 && a.status != 200 || err != nil:
						t.Errorf("%s: %d %v", change, a.status, a.header)
					case !strings.HasPrefix(string(f.bodies[version][v.first:v.last+1]), a.body):
						t.Errorf("%s: bytes %d-%d of version %d are wrong", change, v.first, v.last, version)
					case a.err == nil && len(a.body) != v.last+1-v.first:
						t.Errorf("%s: %d bytes of %d-%d", change, len(a.body), v.first, v.last)
					case a.err == nil:
						whole.Add(1)
					case change != "version":
						t.Errorf("%s: %v", change, a.err)
					}
				})
			}
			wg.Go(func() {
				switch change {
				case "purge":
					w.cache.Purge()
				case "soft":
					w.cache.PurgeBy(cache.SelectAll(), true)
				case "version":
					f.version.Store((f.version.Load() + 1) % int64(len(f.bodies)))
				}
			})
			wg.Wait()
			if change == "version" { // what a new version breaks, it breaks once
				w.cache.Purge()
			}
		})
		w.awaitUnpinned(t, "over")
		await(t, "the fetches are over", func() bool { return w.cache.State().FillBytes == 0 })
		if s := w.cache.State(); s.Slices.Fetched == 0 || s.Slices.Stored == 0 || whole.Load() == 0 {
			t.Errorf("%d whole answers, %+v", whole.Load(), s)
		}
	})
}

// TestSliceOfAFullOrigin: before anything was sent a slice is a request like any other;
// after it the answer breaks, and never ends as if it were whole.
func TestSliceOfAFullOrigin(t *testing.T) {
	f := newLargeFile(8<<20, 1)
	runSlicing(t, 1, cache.Config{Memory: 64 << 20, MaxObject: 1 << 18}, 256<<10, func(t *testing.T, w *world) {
		w.origin.says(f.serve)
		w.ask("GET", "/plain/a", "", "Range", "bytes=0-9").check(t, 206, "origin", "")
		w.ask("GET", "/plain/a", "", "Range", "bytes=0-524287").check(t, 206, "origin", "") // both slices to their ends
		release := w.occupy(t)
		w.ask("GET", "/plain/a", "", "Range", "bytes=0-500000").check(t, 206, hit, string(f.bodies[0][:500_001]))
		w.ask("GET", "/plain/a", "", "Range", "bytes=0-600000").check(t, 503, "shed; reason=origin-saturated", "")
		release()

		resp, err := w.visitor.Client.Get(w.visitor.URL + "/plain/a")
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		release = w.occupy(t) // the visitor reads no more, so that the node asks for no more
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		release()
		if err == nil || !bytes.HasPrefix(f.bodies[0], body) || len(body) == len(f.bodies[0]) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", string(f.bodies[0]))
		w.awaitUnpinned(t, "over")
	})
}

// BenchmarkLargeObject is the CPU of client, node and, where it is asked, origin for a
// download: one of a whole entry, one out of slices that are stored, and one that passes
// through.
func BenchmarkLargeObject(b *testing.B) {
	const size = 32 << 20
	f := newLargeFile(size, 1)
	for _, proto := range edgetest.Protocols {
		for _, kind := range []string{"whole", "slices", "passed"} {
			b.Run(proto+"/"+kind, func(b *testing.B) {
				cc := cache.Config{Memory: 512 << 20, MaxObject: 8 << 20, CollapseWaiters: 100, CollapseWait: time.Second}
				if kind == "whole" {
					cc.MaxObject = size
				}
				w := newCachingWorld(b, proto, 4, time.Second, cc, func(_ *edge.Config, routes []edge.RouteConfig) {
					if kind == "slices" {
						routes[0].Cache.Slice = 1 << 20
					}
				})
				w.origin.says(f.serve)
				download := func() {
					resp, err := w.visitor.Client.Get(w.visitor.URL + "/plain/a")
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
						b.Fatal(n, err)
					}
					resp.Body.Close()
				}
				download()
				download()
				asked, before := w.origin.requests.Load(), cpuTime(b)
				for b.Loop() {
					download()
				}
				b.ReportMetric((cpuTime(b)-before).Seconds()*float64(1<<30/size)/float64(b.N), "cpu-s/GiB")
				b.ReportMetric(float64(w.origin.requests.Load()-asked)/float64(b.N), "requests/op")
			})
		}
	}
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
