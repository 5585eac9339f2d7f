package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// TestPathSpilledRequestsCollapse: however many ask for the same while a function
// is at work on it, it is called and paid for once.
func TestPathSpilledRequestsCollapse(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		const crowd = 20
		inside, leave := make(chan struct{}), make(chan struct{})
		w.first.says(func(rw http.ResponseWriter, r *http.Request) {
			close(inside) // once, or it panics
			<-leave
			cacheable(60, "drawn")(rw, r)
		})
		answers := make(chan answer, crowd)
		var wg sync.WaitGroup
		wg.Go(func() { answers <- w.ask("GET", "/spill/one", "") })
		<-inside
		for range crowd - 1 {
			wg.Go(func() { answers <- w.ask("GET", "/spill/one", "") })
		}
		for w.server.InFlight() < crowd+1 { // with the one that occupies the origin
			if t.Context().Err() != nil {
				t.Fatal("the crowd does not arrive")
			}
		}
		close(leave)
		wg.Wait()
		words := map[string]int{}
		for range crowd {
			a := <-answers
			a.check(t, 200, a.spillway, "drawn")
			words[a.spillway]++
		}
		if n := w.first.requests.Load(); n != 1 || words["function; reason=origin-saturated"] != 1 {
			t.Errorf("%d calls, outcomes %v", n, words)
		}
	})
}

// TestPathPrewarmsWhenTheOriginIsDown: what arrives will not be taken, so that
// functions are made ready for it, and a visitor gets no answer of a warm-up.
func TestPathPrewarmsWhenTheOriginIsDown(t *testing.T) {
	w := newWorldWith(t, "h2", 4, func(_ *edge.Config, routes []edge.RouteConfig) {
		for _, r := range routes {
			if r.Overflow != nil {
				r.Overflow.PrewarmAt = 0.8
			}
		}
	})
	warmed := make(chan string, 1000)
	w.first.says(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Spillway-Warm-Up") != "" {
			warmed <- r.URL.Path
		}
	})
	for range 100 { // until the latency of the origin is known
		w.ask("GET", "/spill/x", "", "Cache-Control", "no-store")
	}
	background(t, w.server.Prewarm)
	w.origin.dies(t)
	for {
		w.ask("GET", "/spill/x", "", "X-Spillway-Warm-Up", "1")
		select {
		case path := <-warmed:
			if path != "/warm-up" {
				t.Errorf("a visitor's request for %s passed for a warm-up", path)
			}
			return
		case <-t.Context().Done():
			t.Fatal("no warm-up came")
		default:
		}
	}
}

// TestPathHedge: what the origin is late with a function answers, too, within its
// share and for safe methods only, and the origin is told to stop.
func TestPathHedge(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newWorldWith(t, proto, 4, func(_ *edge.Config, routes []edge.RouteConfig) {
				for _, r := range routes {
					if r.Overflow != nil {
						r.Overflow.Hedge = 0.0101
					}
				}
			})
			for range 100 { // as many as a hedge needs to know
				w.ask("GET", "/spill/x", "").check(t, 200, "origin", "")
			}
			asked, stopped := make(chan struct{}), make(chan struct{})
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					close(asked)
					<-r.Context().Done()
					close(stopped)
				}
			})
			w.first.says(func(rw http.ResponseWriter, r *http.Request) {
				<-asked // else the origin may never hear of a request that is answered so soon
				io.WriteString(rw, "first "+r.URL.Path)
			})
			began := time.Now()
			w.ask("GET", "/spill/hangs", "").check(t, 200, "function; reason=hedged", "first /spill/hangs")
			if <-stopped; time.Since(began) > 15*time.Second {
				t.Error("the origin was waited for until its time-out")
			}
			w.ask("POST", "/spill/hangs", "x").check(t, 200, "origin", "")
			// The only call of the share is spent: now the visitor waits.
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				time.Sleep(100 * time.Millisecond)
				io.WriteString(rw, "late")
			})
			w.ask("GET", "/spill/late", "").check(t, 200, "origin", "late")
			if n := w.first.requests.Load(); n != 1 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// newHedgingWorld is a world that hedges, and knows how long its origin takes.
func newHedgingWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldWith(t, "h2", 4, func(_ *edge.Config, routes []edge.RouteConfig) {
		for _, r := range routes {
			if r.Overflow != nil {
				r.Overflow.Hedge = 0.02
			}
		}
	})
	for range 100 {
		w.ask("GET", "/spill/x", "").check(t, 200, "origin", "")
	}
	return w
}

// TestPathHedgeIsLost: the origin answers after all, and the function is left.
func TestPathHedgeIsLost(t *testing.T) {
	w := newHedgingWorld(t)
	called, finish := make(chan struct{}), make(chan struct{})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		<-called
		io.WriteString(rw, "after all")
	})
	w.first.says(func(http.ResponseWriter, *http.Request) {
		close(called)
		<-finish
	})
	w.ask("GET", "/spill/late", "").check(t, 200, "origin", "after all")
	close(finish)                               // no platform stops a call because another answered first
	for w.budget.State(time.Now()).AtRisk > 0 { // until the call is settled
		time.Sleep(time.Millisecond)
	}
	if spent := w.budget.State(time.Now()).Periods[0].Spent; spent == 0 {
		t.Error("the call that lost cost nothing")
	}
	// What the origin refuses late the function may have.
	calledAgain := make(chan struct{})
	w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
		<-calledAgain
		rw.WriteHeader(503)
	})
	w.first.says(func(rw http.ResponseWriter, _ *http.Request) {
		close(calledAgain)
		await(t, "the origin's answer", func() bool { return w.limiter().InFlight == 0 })
		rw.WriteHeader(404)
	})
	w.ask("GET", "/spill/other", "").check(t, 404, "function; reason=hedged", "")
}

// TestPathHedgeFails: the error of a function that was asked because the origin was
// late is not repeated by another, whichever of the two fails first.
func TestPathHedgeFails(t *testing.T) {
	f := func(what string, originFirst bool) {
		t.Run(what, func(t *testing.T) {
			w := newHedgingWorld(t)
			called, answered := make(chan struct{}), make(chan struct{})
			w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
				<-called
				if !originFirst {
					<-answered
				}
				rw.WriteHeader(503)
				if originFirst {
					close(answered)
				}
			})
			w.first.says(func(rw http.ResponseWriter, _ *http.Request) {
				close(called)
				if originFirst {
					<-answered
				}
				rw.Header().Set("X-Amzn-Errortype", "Unhandled")
				rw.WriteHeader(502)
				if !originFirst {
					close(answered)
				}
			})
			w.ask("GET", "/spill/late", "").check(t, 503, "origin; reason=origin-throttled", "")
			if n := w.second.requests.Load(); n != 0 {
				t.Errorf("%d calls of the other function", n)
			}
		})
	}
	f("before the origin", false)
	f("after the origin", true)
}

// TestPathThrottledFunctionIsSkipped: one visitor pays a round trip for a throttle,
// and the next ones go to another function at once.
func TestPathThrottledFunctionIsSkipped(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		w.first.says(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("X-Amzn-Errortype", "TooManyRequestsException")
			rw.Header().Set("Retry-After", "20")
			rw.WriteHeader(http.StatusTooManyRequests)
		})
		for i := range 10 {
			path := fmt.Sprintf("/spill/%d", i)
			w.ask("GET", path, "").check(t, 200, "function; reason=origin-saturated", "second "+path)
		}
		if n := w.first.requests.Load(); n != 1 {
			t.Errorf("the throttled function was asked %d times", n)
		}
	})
}
