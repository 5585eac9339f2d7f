package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// runTrusting is runWorld behind a proxy that may say how important a request is.
func runTrusting(t *testing.T, proxies []string, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			f(t, newPatientWorld(t, proto, 1, time.Minute, func(c *edge.Config, routes []edge.RouteConfig) {
				c.PriorityHeader, c.TrustedProxies = "x-priority", proxies
				for i := range routes {
					routes[i].Priority = 4
				}
			}))
		})
	}
}

var everyone = []string{"0.0.0.0/0", "::/0"}

// One request may wait; a more important one takes its place.
func TestImportantRequestsGoFirst(t *testing.T) {
	runTrusting(t, everyone, func(t *testing.T, w *world) {
		release := w.occupy(t)
		var all sync.WaitGroup
		all.Go(func() {
			w.ask("POST", "/plain/less", "", "X-Priority", "5").check(t, 503, "shed; reason=origin-saturated", "")
			release()
		})
		w.awaitQueued(1)
		for a := (answer{}); a.status != 200; {
			a = w.ask("POST", "/plain/more", "", "X-Priority", "3")
		}
		all.Wait()
		if s := w.limiter(); s.PushedOut != 1 || s.TurnedAway[5] != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

// Nobody but a trusted proxy says how important a request is, and nobody but it
// reaches a backend with the field.
func TestPriorityOfStrangersIsRemoved(t *testing.T) {
	f := func(proxies []string, said string, passes bool) {
		t.Helper()
		runTrusting(t, proxies, func(t *testing.T, w *world) {
			seen := make(chan string, 2)
			record := func(_ http.ResponseWriter, r *http.Request) { seen <- strings.Join(r.Header["X-Priority"], "|") }
			w.origin.says(record)
			w.first.says(record)
			want := ""
			if passes {
				want = said
			}
			w.ask("GET", "/plain/1", "", "X-Priority", said)
			if got := <-seen; got != want {
				t.Errorf("%q reaches the origin as %q", said, got)
			}
			release := w.occupy(t)
			w.ask("GET", "/spill/1", "", "X-Priority", said)
			release()
			if got := <-seen; got != want {
				t.Errorf("%q reaches the function as %q", said, got)
			}
		})
	}
	f(everyone, "0", true)
	f(everyone, "7", true)
	f(everyone, "8", false)
	f(everyone, "00", false)
	f(everyone, "high", false)
	f(nil, "0", false)
}

// Nor in another spelling, which is the same to a CGI program, nor behind the body.
func TestPriorityOfStrangersHasNoOtherWay(t *testing.T) {
	runTrusting(t, nil, func(t *testing.T, w *world) {
		seen := make(chan string, 1)
		w.origin.says(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			seen <- fmt.Sprint(r.Header["X_priority"], r.Header["X-Priority"], r.Trailer["X-Priority"], r.Trailer["X-Sum"])
		})
		req, err := http.NewRequest("POST", w.visitor.URL+"/plain/1", io.NopCloser(strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X_Priority", "0")
		req.Trailer = http.Header{"X-Priority": {"0"}, "X-Sum": {"1"}}
		resp, err := w.visitor.Client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := <-seen; got != "[] [] [] [1]" {
			t.Errorf("the origin gets %s", got)
		}
	})
}

// learnsToBeLate asks until it is known that the origin misses the routes' deadline.
func (w *world) learnsToBeLate(t *testing.T) {
	t.Helper()
	await(t, "a request that is late", func() bool {
		w.ask("GET", "/plain/learn", "")
		return w.ask("GET", "/spill/learn", "").spillway == "function; reason=deadline"
	})
}

// A route with a deadline leaves the origin while it has room, once it is known to
// be too slow, and only for a function that may be called.
func TestDeadline(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newWorldWith(t, proto, 1, func(_ *edge.Config, routes []edge.RouteConfig) {
				for i := range routes {
					routes[i].Deadline, routes[i].Cache.Off = time.Millisecond, true
				}
			})
			w.origin.says(func(http.ResponseWriter, *http.Request) { time.Sleep(2 * time.Millisecond) })
			w.ask("GET", "/spill/first", "").check(t, 200, "origin", "") // nothing is known yet
			w.learnsToBeLate(t)
			w.ask("GET", "/spill/1", "").check(t, 200, "function; reason=deadline", "first /spill/1")
			w.ask("GET", "/plain/1", "").check(t, 200, "origin", "")
			w.ask("POST", "/spill/1", "x").check(t, 200, "origin", "")
			asked := w.origin.requests.Load()
			for range 130 {
				w.ask("GET", "/spill/1", "")
			}
			if n := w.origin.requests.Load() - asked; n < 1 || n > 5 {
				t.Errorf("the origin is asked %d times in 130, want about 2", n)
			}
			// What no function could take is the origin's all the same.
			w.first.dies(t)
			w.second.dies(t)
			w.ask("GET", "/spill/2", "").check(t, 200, "queued", "")
		})
	}
}
