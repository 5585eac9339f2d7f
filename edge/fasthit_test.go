package edge_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// secure is a request as the listeners bring it.
func secure(method, target string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// TestHitIsWhatThePathAnswers: a hit has the status, the fields and the body that the
// path would have sent, whatever the settings show, and it counts as one.
func TestHitIsWhatThePathAnswers(t *testing.T) {
	for _, expose := range []string{"outcome", "full", "off"} {
		t.Run(expose, func(t *testing.T) {
			w := newWorldWith(t, "h1", 1, func(c *edge.Config, routes []edge.RouteConfig) {
				c.Expose = expose
				routes[0].Cache = cache.PolicyConfig{Compress: cache.CompressConfig{Codings: []string{"gzip"}}}
			})
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				h := rw.Header()
				h["Cache-Control"] = []string{"max-age=60", "s-maxage=70"}
				h["Surrogate-Key"] = []string{"a b"}
				h["Content-Type"] = []string{"text/plain"}
				h["X-Request-Id"] = []string{"of the origin"}
				h["Cache-Status"] = []string{"upstream; hit"}
				if r.URL.Path == "/plain/gone" {
					rw.WriteHeader(http.StatusGone)
				}
				for range 200 {
					fmt.Fprintln(rw, r.URL.Path)
				}
			})
			for _, c := range [][]string{
				{"/plain/a"},
				{"/plain/a", "Accept-Encoding", "gzip"},
				{"/plain/a", "Accept-Encoding", "br", "X-Request-Id", "mine"},
				{"/plain/gone", "Cache-Control", "max-age=100"},
			} {
				request := func() *http.Request { return secure("GET", c[0], c[1:]...) }
				for range 2 { // fetched, then perhaps brought into another coding
					w.server.ServeHTTP(httptest.NewRecorder(), request())
				}
				before := w.server.Outcomes()[outcome.Hit]
				want := httptest.NewRecorder()
				w.server.ServeHTTP(want, request())
				status, fields, body, ok := w.server.Hit(request())
				for tries := 0; ok && fields.Get("Age") != want.Header().Get("Age") && tries < 3; tries++ { // of another second
					before, want = w.server.Outcomes()[outcome.Hit], httptest.NewRecorder()
					w.server.ServeHTTP(want, request())
					status, fields, body, ok = w.server.Hit(request())
				}
				if !ok {
					t.Fatalf("%q: no hit; the path says %v", c, want.Header())
				}
				if expose == "full" && c[len(c)-1] != "mine" { // a new one for each
					if len(fields["X-Request-Id"]) != 1 || fields.Get("X-Request-Id") == want.Header().Get("X-Request-Id") {
						t.Errorf("%q: got X-Request-Id %q", c, fields["X-Request-Id"])
					}
					delete(fields, "X-Request-Id")
					want.Header().Del("X-Request-Id")
				}
				if status != want.Code || string(body) != want.Body.String() || !maps.EqualFunc(fields, want.Header(), slices.Equal[[]string]) {
					t.Errorf("%q: got %d %v %.20q, want %d %v %.20q", c, status, fields, body, want.Code, want.Header(), want.Body)
				}
				if n := w.server.Outcomes()[outcome.Hit] - before; n != 2 {
					t.Errorf("%q: counted %d hits, want 2", c, n)
				}
			}
		})
	}
}

// TestNoHit: what is no hit leaves no trace. All but the last would be answered out of
// the cache, in another way.
func TestNoHit(t *testing.T) {
	w := newWorldWith(t, "h1", 1, func(c *edge.Config, routes []edge.RouteConfig) {
		c.PriorityHeader = "X-Priority"
		routes[1].Cache.Off = true
	})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=60")
		rw.Header().Set("Content-Type", "text/plain")
		rw.Header().Set("Etag", `"1"`)
		io.WriteString(rw, "kept")
	})
	w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "/plain/a"))
	w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "/stale/a"))
	if _, _, _, ok := w.server.Hit(secure("GET", "/plain/a")); !ok {
		t.Fatal("what is fresh and whole is no hit")
	}
	await(t, "the fetches are over", func() bool { return w.cache.State().Flights == 0 })
	outcomes, stats := w.server.Outcomes(), w.cache.State()
	for _, r := range []*http.Request{
		secure("HEAD", "/plain/a"),
		secure("GET", "/plain/a", "Range", "bytes=0-1"),
		secure("GET", "/plain/a", "If-None-Match", `"1"`),
		secure("GET", "/plain/a", "Cache-Control", "no-cache"),
		secure("GET", "/plain/a", "Cache-Control", "min-fresh=100"),
		secure("GET", "/plain/a", "X-Priority", "1"),
		secure("GET", "/plain/a", "Cookie", "__Host-wait-x=y"),
		secure("GET", "/plain/a", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Key", "x"),
		secure("GET", "/plain/../plain/a"),
		secure("GET", "/stale/a"),
		secure("GET", "/nowhere"),
		secure("POST", "/plain/a"),
		secure("GET", "/plain/b"),
	} {
		if _, fields, _, ok := w.server.Hit(r); ok {
			t.Errorf("%s %s %v is a hit: %v", r.Method, r.RequestURI, r.Header, fields)
		}
	}
	if got := w.server.Outcomes(); !maps.Equal(got, outcomes) {
		t.Errorf("outcomes %v, were %v", got, outcomes)
	}
	if got := w.cache.State(); got != stats {
		t.Errorf("the cache counts %+v, had %+v", got, stats)
	}
	if n := w.server.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
}

// TestHitAges: Age and Cache-Status change with each second, and the answer with the
// entry.
func TestHitAges(t *testing.T) {
	w := newWorld(t, "h1", 1)
	says := func(text string) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Age", "10")
			rw.Header().Set("Content-Type", "text/plain")
			io.WriteString(rw, text)
		})
	}
	says("one")
	asked := time.Now()
	w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "/plain/a"))
	stored := time.Now()
	seen := map[string]bool{}
	for len(seen) < 2 {
		least := 10 + int(time.Since(stored).Seconds())
		_, fields, _, ok := w.server.Hit(secure("GET", "/plain/a"))
		most := 10 + int(time.Since(asked).Seconds())
		if !ok {
			t.Fatal("no hit")
		}
		age, _ := strconv.Atoi(fields.Get("Age"))
		if got := fields.Get("Cache-Status"); age < least || age > most || got != fmt.Sprint("spillway; hit; ttl=", 59-age) {
			t.Fatalf("got Age %q, want %d to %d, and Cache-Status %q", fields.Get("Age"), least, most, got)
		}
		seen[fields.Get("Age")] = true
		time.Sleep(50 * time.Millisecond)
	}
	says("two")
	w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "/plain/a", "Cache-Control", "no-cache"))
	if _, _, body, ok := w.server.Hit(secure("GET", "/plain/a")); !ok || string(body) != "two" {
		t.Errorf("got %q after the entry was replaced", body)
	}
}

// TestHitAcrossReload: what is found before a reload and written after it is nobody else's
// head.
func TestHitAcrossReload(t *testing.T) {
	w := newWorldWith(t, "h1", 1, func(_ *edge.Config, routes []edge.RouteConfig) {
		routes[0].Cache = cache.PolicyConfig{Compress: cache.CompressConfig{Codings: []string{"gzip"}}}
	})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=60")
		rw.Header().Set("Content-Type", "text/plain")
		io.WriteString(rw, page(r.URL.Path, 4<<10))
	})
	w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "/plain/a"))
	vary := func(want string, between func()) {
		t.Helper()
		if _, fields, _, ok := w.server.HitAcross(secure("GET", "/plain/a"), between); !ok || fields.Get("Vary") != want {
			t.Errorf("got %t, Vary: %q, want %q", ok, fields["Vary"], want)
		}
	}
	vary("Accept-Encoding", func() {}) // and it is remembered
	vary("Accept-Encoding", func() {
		w.routes[0].Cache.Compress.Off = true
		w.reload(t)
	})
	vary("", func() {})
}

// TestHitKeepsNoBody: where slow readers have pinned so much that a body is copied for each
// request, the copy goes with the answer.
func TestHitKeepsNoBody(t *testing.T) {
	const object, hits = 900 << 10, 50
	w := newCachingWorld(t, "h1", 1, time.Second, cache.Config{
		Memory: 8 << 20, MaxObject: 1 << 20, CollapseWaiters: 100, CollapseWait: time.Second,
	}, func(*edge.Config, []edge.RouteConfig) {})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=60")
		rw.Header().Set("Content-Type", "image/x-raw")
		rw.Header().Set("Content-Length", fmt.Sprint(object))
		io.WriteString(rw, page(r.URL.Path, object))
	})
	ask := func(n int) *http.Request { return secure("GET", fmt.Sprint("https://edge.test/plain/", n)) }
	for n := range 7 {
		w.server.ServeHTTP(httptest.NewRecorder(), ask(n))
	}
	for n := range 6 { // who read slowly
		found := w.cache.Lookup(ask(n), time.Now())
		defer found.Release()
	}
	lent := w.cache.State().FillBytes
	copied := w.cache.Lookup(ask(6), time.Now())
	if w.cache.State().FillBytes != lent+object {
		t.Fatalf("it is no copy: %+v", w.cache.State())
	}
	copied.Release()
	answer, heap := w.server.HitInto(), func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range hits {
		if !answer(ask(6)) {
			t.Fatal("no hit")
		}
	}
	if after := heap(); after > before+hits*object/2 {
		t.Errorf("%d hits have left %d bytes", hits, after-before)
	}
	if s := w.cache.State(); s.FillBytes != lent {
		t.Errorf("left behind: %+v", s)
	}
}

// BenchmarkFastHit is BenchmarkHit as a fast path answers it.
func BenchmarkFastHit(b *testing.B) {
	w := newWorldWith(b, "h1", 1, func(c *edge.Config, _ []edge.RouteConfig) { c.Expose = "outcome" })
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		cacheable(3600, "kept")(rw, r)
	})
	r := secure("GET", "/plain/a")
	w.server.ServeHTTP(httptest.NewRecorder(), r)
	answer := w.server.HitInto()
	b.ReportAllocs()
	for b.Loop() {
		if !answer(r) {
			b.Fatal("no hit")
		}
	}
}
