package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"
)

func benchCache(b *testing.B, entries int) (*Cache, []*http.Request) {
	b.Helper()
	cfg := config()
	cfg.Memory = 256 << 20
	c := New(cfg)
	requests := make([]*http.Request, entries)
	for i := range requests {
		path := fmt.Sprintf("/picture/%d.jpg", i)
		put(c, path, 1024, "Content-Type: image/jpeg", "Vary: Accept-Encoding", `Etag: "a"`)
		requests[i] = get(path, "Accept: image/*", "User-Agent: bench")
	}
	return c, requests
}

func BenchmarkLookupHit(b *testing.B) {
	c, requests := benchCache(b, 1<<12)
	now := epoch0.Add(time.Second)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if looked(c, requests[i%len(requests)], now) != Fresh {
			b.Fatal("no hit")
		}
	}
}

// One viral key, from all cores.
func BenchmarkLookupHitViral(b *testing.B) {
	c, requests := benchCache(b, 1)
	now := epoch0.Add(time.Second)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := requests[0].Clone(context.Background())
		for pb.Next() {
			if looked(c, r, now) != Fresh {
				b.Error("no hit")
			}
		}
	})
}

func BenchmarkLookupMiss(b *testing.B) {
	c, _ := benchCache(b, 1<<12)
	r := get("/nothing")
	b.ReportAllocs()
	for b.Loop() {
		if looked(c, r, epoch0) != Miss {
			b.Fatal("a hit")
		}
	}
}

// A store that is full all the time: each put evicts.
func BenchmarkStore(b *testing.B) {
	cfg := config()
	cfg.Memory, cfg.MaxObject = 16<<20, 256<<10
	c := New(cfg)
	r := get("/")
	e := entryFor(r, 200, "Content-Type: image/jpeg", fresh).complete(make([]byte, 1024))
	targets := make([]target, 1<<16)
	for i := range targets {
		targets[i] = c.targetOf("https", "example.com", &url.URL{Path: fmt.Sprintf("/picture/%d.jpg", i)})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.store.put(&targets[i%len(targets)], e, r)
	}
}

// A miss from lookup to the end of a stored body of 1 KiB.
func BenchmarkFetchStored(b *testing.B) {
	benchFetch(b, "Cache-Control: max-age=60")
}

// The same for what may not be stored, on keys that are remembered as such.
func BenchmarkFetchPrivate(b *testing.B) {
	benchFetch(b, "Cache-Control: private")
}

func benchFetch(b *testing.B, control string) {
	cfg := config()
	cfg.Memory = 64 << 20
	c := New(cfg)
	body := make([]byte, 1024)
	fetch := answers(200, string(body), control, "Content-Type: image/jpeg")
	r := get("/")
	paths := make([]string, 256)
	for i := range paths {
		paths[i] = fmt.Sprint("/", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.URL.Path = paths[i%len(paths)]
		resp, err := c.Fetch(context.Background(), r, Result{State: Miss, target: c.target(r)}, fetch)
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if i%len(paths) == 0 {
			c.Purge()
		}
	}
}

// A hundred requests that collapse onto one fetch, per crowd.
func BenchmarkCollapse100(b *testing.B) {
	c := New(config())
	b.ReportAllocs()
	for b.Loop() {
		release := make(chan struct{})
		fetch := func(context.Context, *http.Request) (*http.Response, error) {
			<-release
			return response(200, "x", fresh), nil
		}
		cr := &crowd{}
		cr.ask(c, 100, same(get("/")), func(int) Func { return fetch })
		close(release)
		cr.wg.Wait()
		c.Purge()
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	c := New(config())
	put(c, "/a", 10, "Vary: Accept-Encoding")
	r := get("/a?", "Accept: a")
	put(c, "/a?", 10)
	now := epoch0.Add(time.Second)
	if n := testing.AllocsPerRun(100, func() {
		if looked(c, r, now) != Fresh {
			t.Error("no hit")
		}
	}); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}
