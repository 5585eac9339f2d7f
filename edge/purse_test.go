package edge_test

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"spillway/edge"
)

// routeState waits until the route's calls are paid and returns what it cost.
func (w *world) routeState(t *testing.T, name string, calls uint64) edge.RouteState {
	t.Helper()
	var state edge.RouteState
	await(t, fmt.Sprintf("%d calls for %s", calls, name), func() bool {
		routes := w.server.Routes()
		i := slices.IndexFunc(routes, func(r edge.RouteState) bool { return r.Route == name && r.Calls == calls })
		if i >= 0 {
			state = routes[i]
		}
		return i >= 0
	})
	return state
}

// TestRouteKnowsWhatItSaved: an answer of the cache saves money while the origin is
// full, and only then.
func TestRouteKnowsWhatItSaved(t *testing.T) {
	w := newWorld(t, "h2", 1)
	w.origin.says(cacheable(60, "picture"))
	const picture = "/spill/picture"
	w.ask("GET", picture, "").check(t, 200, "origin", "picture")
	w.ask("GET", picture, "").check(t, 200, "hit; reason=fresh", "picture")
	if r := w.routeState(t, "default/spill/*", 0); r != (edge.RouteState{Route: r.Route}) {
		t.Errorf("with an idle origin: %+v", r)
	}

	release := w.occupy(t)
	defer release()
	w.ask("GET", "/spill/other", "").check(t, 200, "function; reason=origin-saturated", "")
	for range 3 {
		w.ask("GET", picture, "").check(t, 200, "hit; reason=fresh", "picture")
	}
	r := w.routeState(t, "default/spill/*", 1)
	if r.CostUSD <= 0 || r.AvoidableUSD != 0 || math.Abs(r.SavedByCacheUSD-3*r.CostUSD) > 1e-12 || r.SavedByCollapsingUSD != 0 {
		t.Errorf("with a full origin: %+v", r)
	}

	// Two ask for the same at once: one call is made.
	began, finish := make(chan struct{}), make(chan struct{})
	w.first.says(func(rw http.ResponseWriter, r *http.Request) {
		close(began)
		<-finish
		cacheable(60, "shared")(rw, r)
	})
	both := make(chan string, 2)
	go func() { both <- w.ask("GET", "/spill/shared", "").body }()
	<-began
	go func() { both <- w.ask("GET", "/spill/shared", "").body }()
	for w.server.InFlight() < 3 {
		time.Sleep(time.Millisecond)
	}
	close(finish)
	if a, b := <-both, <-both; a != "shared" || b != "shared" {
		t.Errorf("answers %q and %q", a, b)
	}
	r = w.routeState(t, "default/spill/*", 2)
	// Whoever comes late finds the answer in the cache.
	if saved, average := r.SavedByCacheUSD+r.SavedByCollapsingUSD, r.CostUSD/2; math.Abs(saved-4*average) > 1e-12 {
		t.Errorf("%+v, want four calls saved", r)
	}
}

// TestRouteKnowsWhatWasAvoidable: a route that leaves the origin early spends money
// that the origin could have saved; one that leaves an origin which refuses does not.
func TestRouteKnowsWhatWasAvoidable(t *testing.T) {
	w := newWorldWith(t, "h2", 10, func(_ *edge.Config, routes []edge.RouteConfig) { routes[2].Overflow.At = 0.1 })
	release := w.occupy(t)
	w.ask("GET", "/spill/early", "").check(t, 200, "function; reason=origin-saturated", "")
	if r := w.routeState(t, "default/spill/*", 1); r.CostUSD <= 0 || r.AvoidableUSD != r.CostUSD {
		t.Errorf("with one of ten in flight: %+v", r)
	}
	release()
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.ask("GET", "/spill/refused", "").check(t, 200, "function; reason=origin-throttled", "")
	if r := w.routeState(t, "default/spill/*", 2); !(r.AvoidableUSD < r.CostUSD) {
		t.Errorf("of an origin that refuses: %+v", r)
	}
}
