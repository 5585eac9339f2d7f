package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/edgetest"
)

const (
	// expired is an answer that has expired when it comes, and answers for ten minutes
	// while it is fetched anew.
	expired      = "max-age=10, stale-while-revalidate=600"
	revalidating = "stale; reason=revalidating"
)

// says has the origin answer with a text under a Cache-Control, of an age in seconds.
func (w *world) says(control, age, text string) {
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Cache-Control", control)
		rw.Header().Set("Age", age)
		io.WriteString(rw, text)
	})
}

// TestStaleWhileRevalidate: a crowd gets what has expired at once, in every form, and
// one request renews it.
func TestStaleWhileRevalidate(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.says(expired, "20", "old")
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
		release := make(chan struct{})
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			<-release
			cacheable(60, "new")(rw, r)
		})
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				a := w.ask("GET", "/plain/a", "")
				a.check(t, 200, revalidating, "old")
				if got := a.header.Get("Cache-Status"); got != "spillway; hit; ttl=-10; detail=stale-while-revalidate" &&
					!strings.HasPrefix(got, "spillway; hit; ttl=-1") {
					t.Errorf("Cache-Status: %s", got)
				}
			})
		}
		wg.Wait()
		if head := w.ask("HEAD", "/plain/a", ""); head.header.Get("Content-Length") != "3" {
			t.Errorf("HEAD: %v", head.header)
		}
		close(release)
		await(t, "the renewal", func() bool { return w.cache.State().Renewed == 1 })
		w.ask("GET", "/plain/a", "").check(t, 200, "hit; reason=fresh", "new")
		if n := w.origin.requests.Load(); n != 2 {
			t.Errorf("%d requests to the origin", n)
		}
	})
}

// TestStaleWhileRevalidateIsForbidden: what the response or the request prohibits is
// waited for.
func TestStaleWhileRevalidateIsForbidden(t *testing.T) {
	w := newWorld(t, "h2", 1)
	for i, control := range []string{"must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"} {
		path := fmt.Sprint("/plain/", i)
		w.says(expired+", "+control, "20", "old")
		w.ask("GET", path, "").check(t, 200, "origin", "old")
		w.says("max-age=60", "0", "new")
		w.ask("GET", path, "").check(t, 200, "origin", "new")
	}
	w.says(expired, "20", "old")
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
	w.says("max-age=60", "0", "new")
	w.ask("GET", "/plain/a", "", "Cache-Control", "max-age=0").check(t, 200, "origin", "new")
}

// TestRenewalIsTheLeastImportant: while the origin has no room nothing is fetched in
// the background, at nobody's cost, and the origin is not told to grow for it.
func TestRenewalIsTheLeastImportant(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.says(expired, "20", "old")
		w.ask("GET", "/spill/a", "").check(t, 200, "origin", "old")
		w.says("max-age=60", "0", "new")
		release := w.occupy(t)
		before := w.limiter()
		for range 10 {
			w.ask("GET", "/spill/a", "").check(t, 200, revalidating, "old")
		}
		after := w.limiter()
		if n := w.first.requests.Load() + w.second.requests.Load(); n != 0 || w.origin.requests.Load() != 2 {
			t.Errorf("%d calls of functions, %d of the origin", n, w.origin.requests.Load())
		}
		if after.Blocked != before.Blocked || after.Waited != before.Waited || after.Queued != 0 {
			t.Errorf("limiter %+v, before %+v", after, before)
		}
		release()
		w.settled(t)
		w.ask("GET", "/spill/a", "").check(t, 200, revalidating, "old")
		await(t, "the renewal", func() bool { return w.cache.State().Renewed == 1 })
		w.ask("GET", "/spill/a", "").check(t, 200, "hit; reason=fresh", "new")
	})
}

// TestRenewalLeavesRoom: the last fifth of the limit is for visitors.
func TestRenewalLeavesRoom(t *testing.T) {
	w := newWorld(t, "h2", 5)
	w.says(expired, "20", "old")
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
	w.settled(t)
	leave, inside := make(chan struct{}), atomic.Int64{}
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/plain/occupy") {
			inside.Add(1)
			<-leave
		}
		cacheable(60, "new")(rw, r)
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() { w.ask("GET", fmt.Sprint("/plain/occupy/", i), "") })
	}
	await(t, "four requests", func() bool { return inside.Load() == 4 })
	w.ask("GET", "/plain/a", "").check(t, 200, revalidating, "old")
	if s := w.cache.State(); s.Background != 0 || s.Renewed+s.Unrenewed != 0 {
		t.Errorf("it was fetched: %+v", s)
	}
	leave <- struct{}{}
	await(t, "a place", func() bool { return w.limiter().InFlight == 3 })
	w.ask("GET", "/plain/a", "").check(t, 200, revalidating, "old")
	await(t, "the renewal", func() bool { return w.cache.State().Renewed == 1 })
	close(leave)
	wg.Wait()
}

// TestFailedRenewal: it costs no function, and what there is stays.
func TestFailedRenewal(t *testing.T) {
	w := newWorld(t, "h2", 1)
	w.says(expired, "20", "old")
	w.ask("GET", "/spill/a", "").check(t, 200, "origin", "old")
	w.settled(t)
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.ask("GET", "/spill/a", "").check(t, 200, revalidating, "old")
	await(t, "the failure", func() bool { return w.cache.State().Unrenewed == 1 })
	w.ask("GET", "/spill/a", "").check(t, 200, revalidating, "old")
	if n := w.first.requests.Load() + w.second.requests.Load(); n != 0 || w.budget.State(time.Now()).AtRisk != 0 {
		t.Errorf("%d calls of functions", n)
	}
}

// TestExplainForetellsRevalidation: the explanation is what the request then meets.
func TestExplainForetellsRevalidation(t *testing.T) {
	w := newWorld(t, "h2", 1)
	w.says(expired, "20", "old")
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
	w.settled(t)
	if got := told(w.explain(t, "GET", "/plain/a").Now); len(got) != 1 || got[0] != revalidating {
		t.Errorf("foretold %v", got)
	}
	if n := w.origin.requests.Load(); n != 1 {
		t.Errorf("%d requests to the origin", n)
	}
	w.ask("GET", "/plain/a", "").check(t, 200, revalidating, "old")
}

// TestStaleIfError: what may answer for an error does so for a 500 and for a
// connection that breaks, before a function is asked for the first, and says so.
func TestStaleIfError(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		const stale = "stale; reason=origin-failed"
		breaks := func(rw http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
		fails := func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.WriteHeader(http.StatusInternalServerError)
			io.WriteString(rw, "stack trace")
		}
		check := func(a answer, detail string) {
			t.Helper()
			a.check(t, 200, stale, "kept")
			if got := a.header.Get("Cache-Status"); !strings.HasPrefix(got, "spillway; fwd=stale; ttl=-") || !strings.HasSuffix(got, "detail="+detail) {
				t.Errorf("Cache-Status: %s", got)
			}
		}
		for path, control := range map[string]string{
			"/spill/a": "max-age=10, stale-if-error=600", "/plain/a": "max-age=10, stale-if-error=600", "/plain/c": "max-age=10",
		} {
			w.says(control, "20", "kept")
			w.ask("GET", path, "").check(t, 200, "origin", "kept")
		}
		w.origin.says(fails)
		w.ask("GET", "/spill/b", "").check(t, 500, "origin", "stack trace")
		check(w.ask("GET", "/spill/a", ""), "stale-if-error")
		if n := w.first.requests.Load(); n != 0 {
			t.Errorf("%d calls of a function", n)
		}
		w.origin.says(breaks)
		check(w.ask("GET", "/plain/a", ""), "stale-if-error")
		check(w.ask("GET", "/plain/c", "", "Cache-Control", "stale-if-error=600"), "stale-if-error")
		// RFC 9111 section 4.2.4: without a window as well, while the origin cannot be reached.
		w.ask("GET", "/plain/c", "").check(t, 200, stale, "kept")
		w.origin.says(fails)
		w.ask("GET", "/plain/c", "").check(t, 500, "origin", "stack trace")
	})
}

// TestStaleIfErrorForACrowd: those who waited for the fetch that failed do not ask one
// by one.
func TestStaleIfErrorForACrowd(t *testing.T) {
	w := newWorld(t, "h2", 20)
	w.says("max-age=10, stale-if-error=600", "20", "old")
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
	release := make(chan struct{})
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		<-release
		rw.WriteHeader(http.StatusInternalServerError)
	})
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() { w.ask("GET", "/plain/a", "").check(t, 200, "stale; reason=origin-failed", "old") })
	}
	await(t, "the crowd", func() bool { return w.server.InFlight() == 30 })
	close(release)
	wg.Wait()
	// One for the crowd and one for its successor; few come when the first has failed.
	if n := w.origin.requests.Load(); n > 10 {
		t.Errorf("%d requests to the origin", n)
	}
}

// newLateWorld is newWorld where visitors who may have what has expired wait for the
// origin for a moment only.
func newLateWorld(t *testing.T, proto string) *world {
	cc := patientCache()
	cc.StaleWait = 100 * time.Millisecond
	return newCachingWorld(t, proto, 1, 300*time.Millisecond, cc, asItIs)
}

// TestLateOrigin: a visitor who may have what has expired waits for a moment, the
// fetch goes on and is stored, and its failure costs nobody anything.
func TestLateOrigin(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newLateWorld(t, proto)
			const late = "stale; reason=origin-slow"
			w.says("max-age=10, stale-if-error=600", "20", "old")
			w.ask("GET", "/spill/a", "").check(t, 200, "origin", "old")
			answer := make(chan http.HandlerFunc)
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) { (<-answer)(rw, r) })
			a := w.ask("GET", "/spill/a", "")
			a.check(t, 200, late, "old")
			if got := a.header.Get("Cache-Status"); !strings.HasPrefix(got, "spillway; fwd=stale; ttl=-1") || !strings.HasSuffix(got, "; detail=stale-wait") {
				t.Errorf("Cache-Status: %s", got)
			}
			w.ask("GET", "/spill/a", "").check(t, 200, late, "old") // at once
			answer <- func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
			await(t, "the end", func() bool { return w.cache.State().Background == 0 })
			if n := w.first.requests.Load() + w.second.requests.Load(); n != 0 || w.origin.requests.Load() != 2 {
				t.Errorf("%d calls of functions, %d of the origin", n, w.origin.requests.Load())
			}
			w.ask("GET", "/spill/a", "").check(t, 200, late, "old")
			answer <- cacheable(60, "new")
			await(t, "the end", func() bool { return w.cache.State().Background == 0 })
			w.ask("GET", "/spill/a", "").check(t, 200, "hit; reason=fresh", "new")
		})
	}
}

// TestOwnControlGoesNoFurther: the field for this cache alone is obeyed and removed,
// the one for all such caches is obeyed and passed on (RFC 9213 section 3).
func TestOwnControlGoesNoFurther(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			h := rw.Header()
			h.Set("Spillway-Cache-Control", "max-age=60")
			h.Set("CDN-Cache-Control", "no-store")
			h.Set("Cache-Control", "private")
			io.WriteString(rw, "page")
		})
		f := func(a answer, spillway string) {
			t.Helper()
			a.check(t, 200, spillway, "")
			if h := a.header; h.Get("Spillway-Cache-Control") != "" || h.Get("CDN-Cache-Control") != "no-store" || h.Get("Cache-Control") != "private" {
				t.Errorf("%s: %v", spillway, h)
			}
		}
		f(w.ask("POST", "/plain/a", ""), "origin")
		f(w.ask("GET", "/plain/a", ""), "origin")
		f(w.ask("GET", "/plain/a", ""), "hit; reason=fresh")
	})
}

// TestRenewalEndsWithTheNode: what is under way when the node stops is given up.
func TestRenewalEndsWithTheNode(t *testing.T) {
	gone := make(chan struct{})
	t.Run("node", func(t *testing.T) {
		w := newWorld(t, "h2", 1)
		w.says(expired, "20", "old")
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
		w.settled(t)
		w.origin.says(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			close(gone)
		})
		w.ask("GET", "/plain/a", "").check(t, 200, revalidating, "old")
		await(t, "the renewal", func() bool { return w.origin.requests.Load() == 2 })
	})
	<-gone
}
