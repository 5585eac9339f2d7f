package edge_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge"
)

// keeps has the origin answer each language with a text of its own, under the
// given Cache-Control, and confirm what is validated.
func (w *world) keeps(t *testing.T, path, control string, header ...string) {
	t.Helper()
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", control)
		rw.Header().Set("ETag", `"1"`)
		rw.Header().Set("Vary", "Accept-Language")
		if r.Header.Get("If-None-Match") == `"1"` {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(rw, "kept "+r.Header.Get("Accept-Language"))
	})
	w.ask("GET", path, "", header...).check(t, 200, "origin", "")
}

// TestStaleOnOverload: an expired entry answers when the origin is full, before a
// function is paid for, in every form in which it would have answered fresh.
func TestStaleOnOverload(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		const stale = "stale; reason=origin-saturated"
		w.keeps(t, "/stale/a", "max-age=0", "Accept-Language", "de")
		release := w.occupy(t)
		a := w.ask("GET", "/stale/a", "", "Accept-Language", "de")
		a.check(t, 200, stale, "kept de")
		if status := a.header.Get("Cache-Status"); !strings.HasPrefix(status, "spillway; hit; ttl=") {
			t.Errorf("Cache-Status: %s", status) // RFC 9211 section 2.4: a ttl of zero or less is stale
		}
		if a.header.Get("Age") == "" || a.header.Get("Warning") != "" { // RFC 9111 section 5.5: Warning is no more
			t.Errorf("Age %q, Warning %q", a.header.Get("Age"), a.header.Get("Warning"))
		}
		head := w.ask("HEAD", "/stale/a", "", "Accept-Language", "de")
		if head.check(t, 200, stale, ""); head.body != "" || head.header.Get("Content-Length") != "7" {
			t.Errorf("HEAD: %q, Content-Length %s", head.body, head.header.Get("Content-Length"))
		}
		w.ask("GET", "/stale/a", "", "Accept-Language", "de", "If-None-Match", `"1"`).check(t, 304, stale, "")
		w.ask("GET", "/stale/a", "", "Accept-Language", "de", "Range", "bytes=0-1").check(t, 206, stale, "ke")
		w.ask("GET", "/stale/a", "", "Accept-Language", "de", "Cache-Control", "no-cache").check(t, 200, stale, "kept de")
		if n := w.first.requests.Load(); n != 0 {
			t.Errorf("%d calls were paid for", n)
		}
		// Another variant is another answer (RFC 9111 section 4.1).
		w.ask("GET", "/stale/a", "", "Accept-Language", "fr").check(t, 200, "function; reason=origin-saturated", "first /stale/a")
		// As soon as there is room, the next request validates.
		release()
		w.ask("GET", "/stale/a", "", "Accept-Language", "de").check(t, 200, "origin; reason=revalidated", "kept de")
	})
}

// TestStaleIsForbidden: what the response prohibits is not served stale, whatever
// the configuration says (RFC 9111 section 4.2.4).
func TestStaleIsForbidden(t *testing.T) {
	for _, control := range []string{
		"max-age=0, must-revalidate", "max-age=0, proxy-revalidate", // section 5.2.2.2 and 5.2.2.8
		"s-maxage=0", "no-cache", // sections 5.2.2.10 and 5.2.2.4
	} {
		t.Run(control, func(t *testing.T) {
			w := newWorld(t, "h2", 1)
			w.keeps(t, "/stale/a", control)
			defer w.occupy(t)()
			w.ask("GET", "/stale/a", "").check(t, 200, "function; reason=origin-saturated", "first /stale/a")
			w.budget.Empty(time.Now())
			w.ask("GET", "/stale/a", "").check(t, 503, "shed; reason=budget-spent", "")
		})
	}
}

// TestStaleWindow: an entry that expired longer ago than the route says does not
// stand in.
func TestStaleWindow(t *testing.T) {
	w := newWorldWith(t, "h2", 1, func(_ *edge.Config, routes []edge.RouteConfig) { routes[1].StaleOnOverload = time.Nanosecond })
	w.keeps(t, "/stale/a", "max-age=0")
	defer w.occupy(t)()
	w.ask("GET", "/stale/a", "").check(t, 200, "function; reason=origin-saturated", "first /stale/a")
}

// TestStaleIfErrorComesAfterFunctions: what the response itself permits (RFC 5861
// section 4) stands in when functions cannot.
func TestStaleIfErrorComesAfterFunctions(t *testing.T) {
	w := newWorld(t, "h2", 1)
	w.keeps(t, "/spill/a", "max-age=0, stale-if-error=600")
	defer w.occupy(t)()
	w.ask("GET", "/spill/a", "").check(t, 200, "function; reason=origin-saturated", "first /spill/a")
	w.ask("GET", "/spill/a", "", "User-Agent", "Googlebot/2.1").check(t, 200, "stale; reason=origin-saturated", "kept ")
	w.budget.Empty(time.Now())
	w.ask("GET", "/spill/a", "").check(t, 200, "stale; reason=origin-saturated", "kept ")
}

// TestStaleForACrowd: all who ask for the same get it, and nobody is paid for it.
func TestStaleForACrowd(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.keeps(t, "/stale/a", "max-age=0")
		defer w.occupy(t)()
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() { w.ask("GET", "/stale/a", "").check(t, 200, "stale; reason=origin-saturated", "kept ") })
		}
		wg.Wait()
		if calls, asked := w.first.requests.Load(), w.origin.requests.Load(); calls != 0 || asked != 2 {
			t.Errorf("%d calls of the function, %d of the origin", calls, asked)
		}
	})
}

// TestStaleWithoutFunctions: a route that never spills serves what has expired
// before it sheds.
func TestStaleWithoutFunctions(t *testing.T) {
	w := newWorldWith(t, "h2", 1, func(_ *edge.Config, routes []edge.RouteConfig) { routes[1].Overflow = nil })
	w.keeps(t, "/stale/a", "max-age=0")
	defer w.occupy(t)()
	w.ask("GET", "/stale/a", "").check(t, 200, "stale; reason=origin-saturated", "kept ")
	w.ask("GET", "/stale/b", "").check(t, 503, "shed; reason=origin-saturated", "")
}
