package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/cache"
	"spillway/edge/edgetest"
)

// runCaching runs f against a node whose route /plain/ has the policy, over each
// protocol.
func runCaching(t *testing.T, policy cache.PolicyConfig, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			f(t, newWorldWith(t, proto, 1, func(_ *edge.Config, routes []edge.RouteConfig) { routes[0].Cache = policy }))
		})
	}
}

const (
	hit  = "hit; reason=fresh"
	full = "origin"
)

// TestCachingKey: what tells requests apart, and what the origin gets.
func TestCachingKey(t *testing.T) {
	policy := cache.PolicyConfig{
		TTL: time.Minute,
		Key: cache.KeyConfig{IgnoreQuery: []string{"utm_*"}, Headers: []string{"X-Tenant"}, Cookies: []string{"tier"}, Device: true},
	}
	runCaching(t, policy, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(rw, "%s %s %s", r.RequestURI, r.Header.Get("X-Tenant"), r.Header.Get("User-Agent"))
		})
		w.ask("GET", "/plain/a?w=1&utm_x=1", "", "User-Agent", "x").check(t, 200, full, "/plain/a?w=1&utm_x=1  x")
		w.ask("GET", "/plain/a?utm_y=2&w=1", "", "User-Agent", "y").check(t, 200, hit, "/plain/a?w=1&utm_x=1  x")
		w.ask("GET", "/plain/a?w=1;utm_x=1", "", "User-Agent", "x").check(t, 200, full, "")
		w.ask("GET", "/plain/a?w=2", "", "User-Agent", "x").check(t, 200, full, "")
		w.ask("GET", "/plain/a?w=1", "", "User-Agent", "x", "X-Tenant", "1").check(t, 200, full, "/plain/a?w=1 1 x")
		w.ask("GET", "/plain/a?w=1", "", "User-Agent", "Mobi").check(t, 200, full, "/plain/a?w=1  Mobi")
		w.ask("GET", "/plain/a?w=1", "", "User-Agent", "Mobi 2").check(t, 200, hit, "/plain/a?w=1  Mobi")
		w.ask("GET", "/plain/a?w=1", "", "User-Agent", "x", "Cookie", "other=1").check(t, 200, hit, "")
		// It could be personal: a route's ttl is a guess, as heuristics are.
		for range 2 {
			w.ask("GET", "/plain/a?w=1", "", "User-Agent", "x", "Cookie", "tier=1").check(t, 200, full, "")
		}
		// A change of the target reaches all that was stored of it.
		w.ask("POST", "/plain/a?w=1", "x").check(t, 200, full, "")
		w.ask("GET", "/plain/a?w=1", "", "User-Agent", "x").check(t, 200, full, "")
		w.ask("GET", "/plain/a?w=1", "", "User-Agent", "Mobi").check(t, 200, full, "")
		w.ask("GET", "/plain/a?w=2", "", "User-Agent", "x").check(t, 200, hit, "")
	})
}

// TestCachingBypass: requests that are to pass by, and a route that is off.
func TestCachingBypass(t *testing.T) {
	policy := cache.PolicyConfig{Bypass: cache.BypassConfig{Cookies: []string{"session"}, Query: []string{"preview"}}}
	runCaching(t, policy, func(t *testing.T, w *world) {
		w.origin.says(cacheable(60, "x"))
		for range 2 {
			a := w.ask("GET", "/plain/a", "", "Cookie", "session=1")
			if a.check(t, 200, full, "x"); a.header.Get("Cache-Status") != "spillway; fwd=bypass; fwd-status=200; detail=route" {
				t.Errorf("Cache-Status: %s", a.header.Get("Cache-Status"))
			}
			w.ask("GET", "/plain/a?preview=1", "").check(t, 200, full, "x")
		}
		w.ask("GET", "/plain/a", "").check(t, 200, full, "x")
		w.ask("GET", "/plain/a", "").check(t, 200, hit, "x")
		w.ask("GET", "/plain/a", "", "Cookie", "session=1").check(t, 200, full, "x")
	})
	runCaching(t, cache.PolicyConfig{Off: true}, func(t *testing.T, w *world) {
		w.origin.says(cacheable(60, "x"))
		for range 2 {
			w.ask("GET", "/plain/a", "").check(t, 200, full, "x")
		}
	})
}

// TestCachingOffChangesOthers: a route that stores nothing may change what another
// has stored.
func TestCachingOffChangesOthers(t *testing.T) {
	w := newWorldWith(t, "h2", 1, func(_ *edge.Config, routes []edge.RouteConfig) {
		routes[0].Match.Methods = []string{"POST", "PUT"}
		routes[0].Cache.Off = true
		routes[1].Match.Path = "/plain/*"
		routes[1].Cache.Key = cache.KeyConfig{IgnoreQuery: []string{"utm_*"}, SortQuery: true}
	})
	w.origin.says(cacheable(60, "x"))
	w.ask("GET", "/plain/a?b=1&a=1&utm_x=1", "").check(t, 200, full, "x")
	w.ask("GET", "/plain/a?a=1&b=1", "").check(t, 200, hit, "x")
	w.ask("PUT", "/plain/a?b=1&a=1&utm_x=1", "new").check(t, 200, full, "")
	w.ask("GET", "/plain/a?a=1&b=1", "").check(t, 200, full, "x")
}

// TestCachingOfFunctions: what a function answers is stored by the same rules.
func TestCachingOfFunctions(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		w := newWorldWith(t, proto, 1, func(_ *edge.Config, routes []edge.RouteConfig) {
			routes[2].Cache = cache.PolicyConfig{TTL: time.Minute, NegativeTTL: map[string]time.Duration{"404": time.Minute}}
		})
		release := w.occupy(t)
		w.first.says(func(rw http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/spill/none":
				rw.WriteHeader(http.StatusNotFound)
			case "/spill/private":
				rw.Header().Set("Cache-Control", "private")
			}
			io.WriteString(rw, "made")
		})
		const function = "function; reason=origin-saturated"
		w.ask("GET", "/spill/a", "").check(t, 200, function, "made")
		w.ask("GET", "/spill/a", "").check(t, 200, hit, "made")
		w.ask("GET", "/spill/none", "").check(t, 404, function, "made")
		w.ask("GET", "/spill/none", "").check(t, 404, hit, "made")
		w.ask("GET", "/spill/private", "").check(t, 200, function, "made")
		w.ask("GET", "/spill/private", "").check(t, 200, function, "made")
		release()
	}
}

// TestCachingVary: a stored response answers who means the same, and the origin gets
// what was sent.
func TestCachingVary(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Vary", "Accept-Language")
			rw.Header().Set("Content-Language", "de")
			cacheable(60, r.Header.Get("Accept-Language"))(rw, r)
		})
		const sent = "en;Q=0.50,  DE"
		w.ask("GET", "/plain/a", "", "Accept-Language", sent).check(t, 200, full, sent)
		w.ask("GET", "/plain/a", "", "Accept-Language", "de, en;q=0.5").check(t, 200, hit, sent)
		w.ask("GET", "/plain/a", "", "Accept-Language", "fr;q=0.5, de;q=1.0").check(t, 200, hit, sent)
		w.ask("GET", "/plain/a", "", "Accept-Language", "en, de;q=0").check(t, 200, full, "en, de;q=0")
		w.ask("GET", "/plain/a", "").check(t, 200, full, "")
	})
}

// TestCachingNoVarySearch: visitors who bring a parameter of their own share an
// answer, if it says that they may.
func TestCachingNoVarySearch(t *testing.T) {
	runCaching(t, cache.PolicyConfig{}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/plain/a") {
				rw.Header().Set("No-Vary-Search", `params=("fbclid"), key-order`)
			}
			cacheable(60, r.RequestURI)(rw, r)
		})
		w.ask("GET", "/plain/a?w=1&h=2&fbclid=x", "").check(t, 200, full, "/plain/a?w=1&h=2&fbclid=x")
		a := w.ask("GET", "/plain/a?fbclid=y&h=2&w=1", "")
		a.check(t, 200, hit, "/plain/a?w=1&h=2&fbclid=x")
		if got := a.header.Get("No-Vary-Search"); got != `params=("fbclid"), key-order` {
			t.Errorf("No-Vary-Search: %s", got)
		}
		w.ask("GET", "/plain/a?w=1", "").check(t, 200, full, "")
		w.ask("GET", "/plain/b?w=1&fbclid=x", "").check(t, 200, full, "")
		w.ask("GET", "/plain/b?w=1&fbclid=y", "").check(t, 200, full, "")
	})
}

// TestCachingIsNotPoisoned: what is no part of a key must not choose the answer. The
// fields by which frameworks take another host or path never reach the origin.
func TestCachingIsNotPoisoned(t *testing.T) {
	runCaching(t, cache.PolicyConfig{TTL: time.Minute}, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			for name, values := range r.Header {
				if strings.Contains(strings.Join(values, ","), "evil") {
					fmt.Fprintf(rw, "%s ", name)
				}
			}
		})
		for i, name := range []string{
			"X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Prefix", "Forwarded", "X-Host",
			"X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override", "X_Forwarded_Host",
		} {
			target := fmt.Sprint("/plain/", i)
			w.ask("GET", target, "", name, "host=evil").check(t, 200, full, "")
			if a := w.ask("GET", target, ""); a.body != "" {
				t.Errorf("the next visitor is answered what %s says: %q", name, a.body)
			}
		}
	})
}

// TestCachingExplained: what is told of a request is what its route's policy makes of
// it.
func TestCachingExplained(t *testing.T) {
	w := newWorldWith(t, "h2", 1, func(_ *edge.Config, routes []edge.RouteConfig) {
		routes[0].Cache = cache.PolicyConfig{
			Key: cache.KeyConfig{IgnoreQuery: []string{"utm_*"}}, Bypass: cache.BypassConfig{Cookies: []string{"session"}},
		}
	})
	w.origin.says(cacheable(60, "x"))
	w.ask("GET", "/plain/a?w=1&utm_x=1", "").check(t, 200, full, "x")
	f := func(want cache.Freshness, query string, header http.Header) {
		t.Helper()
		e, err := w.server.Explain(edge.Inquiry{URL: w.visitor.URL + "/plain/a" + query, Header: header})
		if err != nil {
			t.Fatal(err)
		}
		if e.Cache == nil || e.Cache.State != want {
			t.Errorf("%s, %q: %+v, want %s", query, header, e.Cache, want)
		}
	}
	f(cache.Fresh, "?w=1&utm_y=2", nil)
	f(cache.Miss, "?w=2&utm_y=2", nil)
	f(cache.Bypass, "?w=1", http.Header{"Cookie": {"session=1"}})
	// Asking leaves no trace.
	if s := w.server.CacheStates(); s[0].Requests["miss"] != 1 || s[0].Requests["hit"] != 0 || s[0].Requests["bypass"] != 0 {
		t.Errorf("%+v", s[0])
	}
}

// TestCacheStates: each request that asks the cache is counted once, for its route.
func TestCacheStates(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				rw.Header().Set("Cache-Control", "max-age=0")
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			seconds := 60
			if strings.Contains(r.URL.Path, "old") {
				seconds = 0
			}
			cacheable(seconds, "x")(rw, r)
		})
		w.ask("GET", "/stale/a", "")   // miss
		w.ask("GET", "/stale/a", "")   // hit
		w.ask("HEAD", "/stale/a", "")  // hit
		w.ask("GET", "/stale/old", "") // miss
		w.ask("GET", "/stale/old", "") // revalidated
		w.ask("POST", "/stale/a", "x") // bypass
		w.ask("GET", "/nothing", "")   // no route
		w.ask("GET", "/plain/a", "")   // miss, of another
		release := w.occupy(t)         // the same
		w.ask("GET", "/stale/old", "") // stale
		w.ask("GET", "/spill/new", "") // miss: a function answers
		w.ask("GET", "/plain/new", "") // miss: shed
		release()
		for _, s := range w.server.CacheStates() {
			var parts []string
			for _, status := range edge.CacheStatuses {
				parts = append(parts, fmt.Sprintf("%s %d", status, s.Requests[status]))
			}
			got := fmt.Sprintf("%s %.3f", strings.Join(parts, " "), s.HitRatio)
			want := map[string]string{
				"default/stale/*": "hit 2 stale 1 collapsed 0 revalidated 1 miss 2 bypass 1 0.500",
				"default/plain/*": "hit 0 stale 0 collapsed 0 revalidated 0 miss 3 bypass 0 0.000",
				"default/spill/*": "hit 0 stale 0 collapsed 0 revalidated 0 miss 1 bypass 0 0.000",
			}[s.Route]
			if got != want {
				t.Errorf("%s: %s, want %s", s.Route, got, want)
			}
		}
		// They outlive a reload.
		w.reload(t)
		if s := w.server.CacheStates(); len(s) != 3 || s[2].Route != "default/stale/*" || s[2].Requests["hit"] != 2 {
			t.Errorf("%+v", s)
		}
	})
}
