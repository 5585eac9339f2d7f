package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// newPurgedWorld is a world whose origin tags what it answers, with the addresses
// that may purge.
func newPurgedWorld(t *testing.T, proto string, change func(*edge.Config, []edge.RouteConfig), purgers ...string) *world {
	t.Helper()
	w := newPatientWorld(t, proto, 4, time.Second, change, purgers...)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Cache-Control", "max-age=60, stale-if-error=60")
		h.Set("ETag", `"1"`)
		h.Set("Surrogate-Key", "all "+strings.TrimPrefix(r.URL.Path, "/plain/"))
		h.Set("Cache-Tag", "tagged")
		h.Set("Surrogate-Control", "max-age=60")
		h.Set("Cache-Groups", `"g"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(rw, r.Method, " ", r.URL.Path)
	})
	return w
}

func asItIs(*edge.Config, []edge.RouteConfig) {}

// TestPurgeMethod purges over each protocol, from an address that may.
func TestPurgeMethod(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newPurgedWorld(t, proto, asItIs, "127.0.0.0/8")
			paths := []string{"/plain/a", "/plain/b", "/plain/c"}
			f := func(want string, path string, purged int, header ...string) {
				t.Helper()
				for _, p := range paths {
					w.ask("GET", p, "")
				}
				w.ask("PURGE", path, "", header...).check(t, 200, "local; reason=purged", fmt.Sprintf("{\"status\":\"ok\",\"purged\":%d}\n", purged))
				var gone strings.Builder
				for _, p := range paths {
					if a := w.ask("GET", p, ""); a.spillway != "hit; reason=fresh" {
						gone.WriteString(strings.TrimPrefix(p, "/plain/") + " " + a.spillway + " ")
					}
				}
				if gone.String() != want {
					t.Errorf("PURGE %s %q: gone %q, want %q", path, header, gone.String(), want)
				}
			}
			f("a origin ", "/plain/a", 1)
			f("", "/plain/none", 0)
			f("b origin c origin ", "/plain/a", 2, "Surrogate-Key", "b c")
			f("a origin b origin c origin ", "/plain/a", 3, "Cache-Tag", "x, tagged")
			f("a origin b origin c origin ", "/plain/none", 3, "Cache-Groups", `"g"`)
			f("a origin; reason=revalidated ", "/plain/a", 1, "Spillway-Soft-Purge", "1")
			f("b origin; reason=revalidated ", "/plain/a", 1, "Fastly-Soft-Purge", "1", "Surrogate-Key", "b")
			w.ask("PURGE", "/plain/a", "", "Surrogate-Key", " ").check(t, 400, "refused; reason=bad-request", "")
			if s := w.cache.State(); s.Purges.URL != 3 || s.Purges.Tag != 5 || s.Purges.Group != 1 || s.Purged != 11 {
				t.Errorf("%+v, %d entries", s.Purges, s.Purged)
			}
		})
	}
}

// TestPurgeMethodIsRefused: who may not purge gets 405, by the address that is at
// the other end of the connection, and the origin never hears of it.
func TestPurgeMethodIsRefused(t *testing.T) {
	const refused = "refused; reason=method-not-allowed"
	f := func(want int, purgers, proxies []string, header ...string) {
		t.Helper()
		for _, proto := range edgetest.Protocols {
			w := newPurgedWorld(t, proto, func(c *edge.Config, _ []edge.RouteConfig) { c.TrustedProxies = proxies }, purgers...)
			w.ask("GET", "/plain/a", "")
			a := w.ask("PURGE", "/plain/a", "", header...)
			if a.status != want || want == 405 && (a.spillway != refused || a.header.Get("Allow") == "") {
				t.Errorf("%s, from %v, proxies %v, %q: %d %s", proto, purgers, proxies, header, a.status, a.spillway)
			}
			if fresh := w.cache.State().Entries == 1; fresh != (want == 405) {
				t.Errorf("%s: the entry is there: %t", proto, fresh)
			}
			if n := w.origin.requests.Load(); n != 1 {
				t.Errorf("%s: the origin was asked %d times", proto, n)
			}
		}
	}
	f(405, nil, nil)
	f(405, []string{"203.0.113.7"}, nil)
	f(200, []string{"203.0.113.7", "127.0.0.1"}, nil)
	// What an untrusted peer says of itself proves nothing.
	f(405, []string{"203.0.113.7"}, nil, "X-Forwarded-For", "203.0.113.7")
	f(405, []string{"203.0.113.7"}, nil, "Forwarded", "for=203.0.113.7")
	f(200, []string{"127.0.0.1"}, nil, "X-Forwarded-For", "192.0.2.9")
	// A trusted proxy says who asks: its own address is not the visitor's.
	f(200, []string{"203.0.113.7"}, []string{"127.0.0.1"}, "X-Forwarded-For", "203.0.113.7")
	f(405, []string{"127.0.0.1"}, []string{"127.0.0.1"}, "X-Forwarded-For", "203.0.113.7")
	f(405, []string{"203.0.113.7"}, []string{"127.0.0.1"}, "X-Forwarded-For", "203.0.113.7, 192.0.2.9")
}

// A route that takes a few methods only is purged all the same.
func TestPurgeMethodBesideARoutesOwn(t *testing.T) {
	w := newPurgedWorld(t, "h2", func(_ *edge.Config, routes []edge.RouteConfig) { routes[0].Match.Methods = []string{"GET"} }, "127.0.0.1")
	w.ask("GET", "/plain/a", "")
	w.ask("PURGE", "/plain/a", "").check(t, 200, "local; reason=purged", "")
	w.ask("PURGE", "/none", "").check(t, 404, "refused; reason=no-route", "")
	if n := w.cache.State().Entries; n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

// A route that names the method passes it on as any other.
func TestPurgeMethodOfARoute(t *testing.T) {
	w := newPurgedWorld(t, "h2", func(_ *edge.Config, routes []edge.RouteConfig) {
		routes[0].Match.Methods = []string{"GET", "PURGE"}
	})
	w.ask("PURGE", "/plain/a", "").check(t, 200, "origin", "PURGE /plain/a")
}

// TestTagsEndAtTheNode: what is said to the cache alone reaches visitors only where
// the configuration says so.
func TestTagsEndAtTheNode(t *testing.T) {
	names := []string{"Surrogate-Key", "Cache-Tag"}
	w := newPurgedWorld(t, "h2", asItIs)
	for _, path := range []string{"/plain/a", "/plain/a", "/plain/b"} { // fetched, stored, fetched
		a := w.ask("GET", path, "")
		for _, name := range names {
			if value := a.header.Get(name); value != "" {
				t.Errorf("%s of %s is %q", name, path, value)
			}
		}
		// What is for every cache, or for one that obeys it, goes on.
		if a.header.Get("Cache-Groups") == "" || a.header.Get("Surrogate-Control") == "" {
			t.Errorf("%v", a.header)
		}
	}
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Surrogate-Key", "secret")
		rw.Header().Set("Cache-Control", "private")
		io.WriteString(rw, "private")
	})
	if value := w.ask("GET", "/plain/private", "").header.Get("Surrogate-Key"); value != "" {
		t.Errorf("what is not stored tells %q", value)
	}
}

// TestWarm: each result, through the path of all requests.
func TestWarm(t *testing.T) {
	w := newPurgedWorld(t, "h2", asItIs)
	f := func(url, result, why string, status int) {
		t.Helper()
		got, err := w.server.Warm(t.Context(), edge.Inquiry{URL: url})
		if err != nil || got.Result != result || got.Why != why || got.Status != status || got.URL != url {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
	}
	const host = "https://" + edgetest.Host
	f(host+"/plain/a", edge.WarmStored, "", 200)
	f(host+"/plain/a", edge.WarmFresh, "", 200)
	f(host+"/none", edge.WarmFailed, "404 Not Found", 404)
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-Purpose") != "prefetch" {
			t.Error("the request is not said to be a prefetch")
		}
		switch r.URL.Path {
		case "/plain/private":
			rw.Header().Set("Cache-Control", "private")
		case "/plain/broken":
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Content-Length", fmt.Sprint(4<<20))
			io.WriteString(rw, strings.Repeat("x", 2<<20)) // more than is read ahead
			panic(http.ErrAbortHandler)
		case "/plain/error":
			rw.WriteHeader(http.StatusInternalServerError)
		}
	})
	f(host+"/plain/private", edge.WarmNotStorable, "private", 200)
	f(host+"/plain/nothing", edge.WarmNotStorable, "no-freshness", 200)
	f(host+"/plain/broken", edge.WarmFailed, "the answer broke off", 0)
	f(host+"/plain/error", edge.WarmFailed, "500 Internal Server Error", 500)
	for _, bad := range []string{"", "/plain/a", "http://" + edgetest.Host + "/plain/a"} {
		if got, err := w.server.Warm(t.Context(), edge.Inquiry{URL: bad}); err == nil {
			t.Errorf("%q is warmed: %+v", bad, got)
		}
	}
}

// TestWarmWantsWhatIsFresh: what has expired is waited for, and is no success when it
// stands in for an error.
func TestWarmWantsWhatIsFresh(t *testing.T) {
	w := newPurgedWorld(t, "h2", asItIs)
	var fails atomic.Bool
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		if fails.Load() {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		rw.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=600, stale-if-error=600")
		rw.Header().Set("Age", "100")
	})
	f := func(result, why string, status int) {
		t.Helper()
		got, err := w.server.Warm(t.Context(), edge.Inquiry{URL: "https://" + edgetest.Host + "/plain/a"})
		if err != nil || got.Result != result || got.Why != why || got.Status != status {
			t.Errorf("%+v, %v, want %s %s", got, err, result, why)
		}
	}
	f(edge.WarmStored, "", 200)
	f(edge.WarmStored, "", 200)
	fails.Store(true)
	f(edge.WarmFailed, "stale-if-error", 200)
}

// A warming is paid for by nobody.
func TestWarmSpendsNothing(t *testing.T) {
	w := newWorld(t, "h2", 1)
	defer w.occupy(t)()
	got, err := w.server.Warm(t.Context(), edge.Inquiry{URL: "https://" + edgetest.Host + "/spill/a"})
	if err != nil || got.Result != edge.WarmFailed || got.Status != 503 || w.first.requests.Load() != 0 {
		t.Errorf("%+v, %v, %d calls", got, err, w.first.requests.Load())
	}
}
