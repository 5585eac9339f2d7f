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

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
)

func TestPathOriginThenHit(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(cacheable(60, "hello"))
		a := w.ask("GET", "/plain/a", "")
		a.check(t, 200, "origin", "hello")
		if got := a.header.Get("Cache-Status"); got != "spillway; fwd=uri-miss; fwd-status=200; stored" {
			t.Errorf("Cache-Status %q", got)
		}
		a = w.ask("GET", "/plain/a", "")
		a.check(t, 200, "hit; reason=fresh", "hello")
		if !strings.HasPrefix(a.header.Get("Cache-Status"), "spillway; hit; ttl=") || a.header.Get("Age") == "" {
			t.Errorf("Cache-Status %q, Age %q", a.header.Get("Cache-Status"), a.header.Get("Age"))
		}
		w.ask("HEAD", "/plain/a", "").check(t, 200, "hit; reason=fresh", "")
		if n := w.origin.requests.Load(); n != 1 {
			t.Errorf("the origin got %d requests", n)
		}
	})
}

func TestPathCollapse(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		const crowd = 20
		release := make(chan struct{})
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			<-release
			cacheable(60, "shared")(rw, r)
		})
		answers := make(chan answer, crowd)
		for range crowd {
			go func() { answers <- w.ask("GET", "/plain/a", "") }()
		}
		for w.server.InFlight() < crowd {
			time.Sleep(time.Millisecond)
		}
		close(release)
		words := map[string]int{}
		for range crowd {
			a := <-answers
			if a.status != 200 || a.body != "shared" {
				t.Fatalf("got %d %q (%v)", a.status, a.body, a.err)
			}
			words[a.spillway]++
		}
		// Who comes while the first is on its way joins it, or finds it stored.
		if words["origin"] != 1 || words["origin"]+words["collapsed"]+words["hit; reason=fresh"] != crowd {
			t.Errorf("got %v", words)
		}
		if n := w.origin.requests.Load(); n != 1 {
			t.Errorf("the origin got %d requests", n)
		}
	})
}

func TestPathOverflow(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		w.ask("GET", "/spill/a", "").check(t, 200, "function; reason=origin-saturated", "first /spill/a")
		// What may not spill is shed.
		a := w.ask("GET", "/plain/a", "")
		a.check(t, 503, "shed; reason=origin-saturated", "")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		w.ask("POST", "/spill/a", "x=1").check(t, 503, "shed; reason=method-not-spilled", "")
	})
}

func TestPathQueueThenOrigin(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			w := newPatientWorld(t, proto, 1, time.Minute, asItIs)
			release := w.occupy(t)
			got := make(chan answer)
			go func() { got <- w.ask("POST", "/plain/a", "form=1") }()
			w.awaitQueued(1)
			release()
			(<-got).check(t, 200, "queued", "origin /plain/a")
		})
	}
}

func TestPathFunctionFailures(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		// Throttled by its platform: the next in order.
		w.first.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Amzn-Errortype", "TooManyRequestsException")
			rw.Header().Set("Retry-After", "60")
			rw.WriteHeader(http.StatusTooManyRequests)
		})
		w.ask("GET", "/spill/a", "").check(t, 200, "function; reason=origin-saturated", "second /spill/a")
		// Its own failure: nobody else is paid for the same failure.
		w.second.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Google-Status", "crash")
			rw.WriteHeader(http.StatusInternalServerError)
			io.WriteString(rw, "panic: goroutine 1 [running]: main.go:17")
		})
		a := w.ask("GET", "/spill/b", "")
		a.check(t, 502, "failed; reason=function-error", "")
		if strings.Contains(a.body, "goroutine") {
			t.Error("a stack trace reached the visitor")
		}
	})
}

func TestPathBudgetSpent(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		w.budget.Empty(time.Now())
		a := w.ask("GET", "/spill/a", "")
		a.check(t, 503, "shed; reason=budget-spent", "")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if n := w.first.requests.Load() + w.second.requests.Load(); n != 0 {
			t.Errorf("functions got %d requests without money", n)
		}
		w.budget.Reset(time.Now())
		w.ask("GET", "/spill/a", "").check(t, 200, "function; reason=origin-saturated", "")
	})
}

func TestPathStaleBeforeFunction(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"1"`)
			cacheable(0, "old")(rw, r)
		})
		w.ask("GET", "/stale/a", "").check(t, 200, "origin", "old")
		release := w.occupy(t)
		defer release()
		w.ask("GET", "/stale/a", "").check(t, 200, "stale; reason=origin-saturated", "old")
	})
}

func TestPathOriginDead(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.dies(t)
		a := w.ask("GET", "/spill/a", "")
		if a.status != 200 || !strings.HasPrefix(a.spillway, "function; reason=origin-") {
			t.Errorf("got %d %q %q (%v)", a.status, a.spillway, a.body, a.err)
		}
		// A form that cannot have reached the origin fails without harm.
		if a := w.ask("POST", "/spill/a", "x=1"); a.status < 500 || strings.HasPrefix(a.spillway, "function") {
			t.Errorf("got %d %q", a.status, a.spillway)
		}
	})
}

func TestPathOriginRefusesItself(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Retry-After", "7")
			rw.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(rw, "origin is full")
		})
		w.ask("GET", "/spill/a", "").check(t, 200, "function; reason=origin-throttled", "first /spill/a")
		a := w.ask("GET", "/plain/a", "")
		a.check(t, 503, "origin; reason=origin-throttled", "origin is full")
		if a.header.Get("Retry-After") != "7" {
			t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
		}
	})
}

func TestPathTruncatedAnswer(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Content-Length", "1000")
			io.WriteString(rw, "half of it")
			rw.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		if a := w.ask("GET", "/plain/a", ""); a.err == nil {
			t.Errorf("a truncated answer looked complete: %d %q", a.status, a.body)
		}
		w.origin.says(cacheable(60, "whole"))
		w.ask("GET", "/plain/a", "").check(t, 200, "origin", "whole")
	})
}

func TestPathRefusals(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.ask("GET", "/nowhere", "").check(t, 404, "refused; reason=no-route", "")
		w.ask("GET", "/plain/%2e%2e/x", "").check(t, 400, "refused; reason=bad-request", "")
		w.ask("TRACE", "/plain/x", "").check(t, 405, "refused; reason=method-not-allowed", "")
		w.ask("GET", "/plain/x", "", "Cache-Control", "only-if-cached").check(t, 504, "refused; reason=only-if-cached", "")
		if n := w.origin.requests.Load(); n != 0 {
			t.Errorf("the origin got %d requests", n)
		}
	})
}

func TestPathCrawlerSpendsNothing(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		w.ask("GET", "/spill/a", "", "User-Agent", "facebookexternalhit/1.1", "Cache-Control", "no-store").
			check(t, 503, "shed; reason=crawler", "")
		release()
	})
}

func TestPathRedirect(t *testing.T) {
	w := newWorld(t, "h1", 1)
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r, _ := http.NewRequest(http.MethodGet, "http://"+w.node.Listeners.HTTPAddr().String()+"/x?y", nil)
	r.Host = "any.test"
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want := fmt.Sprintf("https://any.test:%d/x?y", edgetest.Port(w.node.Listeners.Addr()))
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusMovedPermanently || got != want {
		t.Errorf("%d to %q, want 301 to %q", resp.StatusCode, got, want)
	}
	if got := resp.Header.Get("Spillway"); got != "local; reason=redirect" {
		t.Errorf("Spillway: %s", got)
	}
	if n := w.server.Outcomes()[outcome.Local]; n != 1 {
		t.Errorf("%d requests ended here, want 1", n)
	}
}

// TestPathStreams asks that bytes reach the visitor as the origin sends them,
// and that an event stream holds no permit.
func TestPathStreams(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		next := make(chan string)
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/plain/events" {
				io.WriteString(rw, "short")
				return
			}
			rw.Header().Set("Content-Type", "text/event-stream")
			rw.(http.Flusher).Flush()
			for s := range next {
				io.WriteString(rw, s)
				rw.(http.Flusher).Flush()
			}
		})
		resp, err := w.visitor.Client.Get(w.visitor.URL + "/plain/events")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, s := range []string{"data: 1\n\n", "data: 2\n\n"} {
			next <- s
			got := make([]byte, len(s))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != s {
				t.Fatalf("got %q (%v), want %q", got, err, s)
			}
			// The origin takes one request at a time, and the stream is none.
			w.ask("GET", "/plain/a"+s[6:7], "").check(t, 200, "origin", "short")
		}
		close(next)
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 0 {
			t.Errorf("got %q (%v) after the end", rest, err)
		}
	})
}

// TestPathAddsUp asks that every request ends in exactly one outcome.
func TestPathAddsUp(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(cacheable(60, "x"))
		const each = 20
		var wg sync.WaitGroup
		for i := range each {
			for _, path := range []string{"/plain/a", fmt.Sprintf("/spill/%d", i), "/nowhere"} {
				wg.Go(func() { w.ask("GET", path, "") })
			}
		}
		wg.Wait()
		w.settled(t) // a visitor may have its answer before that is counted
		var sum uint64
		for _, n := range w.server.Outcomes() {
			sum += n
		}
		if sum != 3*each || w.server.Outcomes()[outcome.Refused] != each {
			t.Errorf("got %v, want %d in all", w.server.Outcomes(), 3*each)
		}
	})
}

// TestPathCollapseTimeout asks that those who waited in vain for another's fetch
// are served by an origin that has room.
func TestPathCollapseTimeout(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			cc := patientCache()
			cc.CollapseWait = 100 * time.Millisecond
			w := newCachingWorld(t, proto, 10, time.Minute, cc, asItIs)
			first := make(chan struct{})
			var leader atomic.Bool
			w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
				if leader.CompareAndSwap(false, true) {
					<-first
				}
				cacheable(60, "answer")(rw, r)
			})
			answers := make(chan answer, 5)
			for range cap(answers) {
				go func() { answers <- w.ask("GET", "/plain/a", "") }()
			}
			for range cap(answers) - 1 {
				if a := <-answers; a.status != 200 {
					t.Errorf("got %d %q (%v)", a.status, a.spillway, a.err)
				}
			}
			close(first)
			(<-answers).check(t, 200, "origin", "answer")
		})
	}
}

// TestPathBrokenFunctionIsPaidOnce asks that a crowd for one picture does not
// pay for the same failure again and again.
func TestPathBrokenFunctionIsPaidOnce(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			const crowd = 20
			cc := patientCache()
			cc.CollapseWaiters = crowd - 1
			w := newCachingWorld(t, proto, 1, time.Minute, cc, asItIs)
			release := w.occupy(t)
			defer release()
			answers := make(chan answer, crowd+1)
			come := func() { answers <- w.ask("GET", "/spill/a", "") }
			w.first.says(func(rw http.ResponseWriter, r *http.Request) {
				switch w.first.requests.Load() {
				case 2:
					go come() // in the place of who asked first, and has the failure
					fallthrough
				case 1:
					w.awaitFull("/spill/a") // all have joined, or joined again
				}
				rw.Header().Set("X-Google-Status", "crash")
				rw.WriteHeader(http.StatusInternalServerError)
			})
			for range crowd {
				go come()
			}
			for range crowd + 1 {
				if a := <-answers; a.status != 502 {
					t.Errorf("got %d %q (%v)", a.status, a.spillway, a.err)
				}
			}
			// Who waited for the first to fetch lets one more try, and believes that. So
			// does the one who came late.
			if n := w.first.requests.Load() + w.second.requests.Load(); n > 3 {
				t.Errorf("%d calls for a crowd of %d", n, crowd)
			}
		})
	}
}

// awaitFull returns when as many wait for the fetch of a path as may, or after ten
// seconds.
func (w *world) awaitFull(path string) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		e, err := w.server.Explain(edge.Inquiry{Method: "GET", URL: w.visitor.URL + path})
		if err != nil || !e.Cache.Joins {
			return
		}
	}
}

func TestPathUploads(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprint(rw, n)
		})
		small, large := strings.Repeat("x", 500), strings.Repeat("x", 3<<20)
		w.ask("POST", "/spill/a", small).check(t, 200, "origin", "500")
		w.ask("POST", "/spill/a", large).check(t, 200, "origin", fmt.Sprint(len(large)))
		// Too large, and of a length that is told only at the end.
		req, err := http.NewRequest("POST", w.visitor.URL+"/spill/a", io.MultiReader(strings.NewReader(large), strings.NewReader(large)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.visitor.Client.Do(req)
		if err != nil {
			return // the connection may break before the answer is read
		}
		defer resp.Body.Close()
		if resp.StatusCode != 413 || resp.Header.Get("Spillway") != "refused; reason=body-too-large" {
			t.Errorf("got %d %q", resp.StatusCode, resp.Header.Get("Spillway"))
		}
	})
}

func TestPathHeadOfUnknownLength(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) { rw.(http.Flusher).Flush() })
		a := w.ask("HEAD", "/plain/a", "")
		a.check(t, 200, "origin", "")
		if got := a.header.Get("Content-Length"); got != "" {
			t.Errorf("Content-Length %q of nobody knows what", got)
		}
	})
}

// TestPathTooManyRequests asks that what an origin says about one client is not
// undone for money.
func TestPathTooManyRequests(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) { rw.WriteHeader(http.StatusTooManyRequests) })
		w.ask("GET", "/spill/a", "").check(t, 429, "origin", "")
	})
}
