package edge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/edgetest"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/faas/budget"
	"spillway/origin/faas/web"
	"spillway/origin/limit"
)

// A world is a whole node with an origin and two functions behind it, all real
// but for the origin's and the functions' own work.
type world struct {
	server  *edge.Server
	origin  *script
	first   *script // the preferred function
	second  *script
	budget  *budget.Budget
	node    *edgetest.Node
	visitor *edgetest.Visitor
}

// A script is a backend that does what a test says.
type script struct {
	*httptest.Server
	handler  atomic.Pointer[http.HandlerFunc]
	requests atomic.Int64
}

func newScript(t *testing.T, name string) *script {
	s := &script{}
	s.says(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", name, r.URL.Path) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *script) says(h http.HandlerFunc) { s.handler.Store(&h) }

func originConfig(url string, slots int) origin.Config {
	return origin.Config{
		Servers: []string{url}, Limit: limit.Config{Min: slots, Max: slots},
		Queue:     origin.QueueConfig{Length: 1, Wait: 20 * time.Millisecond, UnsafeWait: 300 * time.Millisecond},
		ReadAhead: origin.ReadAheadConfig{PerResponse: 1 << 20, Total: 64 << 20},
		LongLived: 10, ConnectTimeout: 2 * time.Second, Timeout: 20 * time.Second,
	}
}

// runWorld runs f against a node whose origin takes one request at a time, over
// each protocol.
func runWorld(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) { f(t, newWorld(t, proto, 1)) })
	}
}

func newWorld(t *testing.T, proto string, slots int) *world {
	w := &world{origin: newScript(t, "origin"), first: newScript(t, "first"), second: newScript(t, "second")}
	log := slog.New(slog.DiscardHandler)
	w.budget = budget.New("spill", budget.Config{PerHour: 1})
	functions := map[string]*faas.Function{}
	for name, s := range map[string]*script{"first": w.first, "second": w.second} {
		p, err := web.New(web.Config{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		functions[name] = faas.New(name, faas.Config{
			Provider: "web", Memory: 128 << 20, Timeout: 5 * time.Second, MaxConcurrency: 10, MaxResponse: 1 << 20,
			Price: faas.PriceConfig{Platform: "aws-lambda"},
		}, p, w.budget, log)
	}
	oc := originConfig(w.origin.URL, slots)
	o, err := origin.New("app", oc, log)
	if err != nil {
		t.Fatal(err)
	}
	background(t, o.Run)

	spill := &overflow.Config{To: []string{"first", "second"}, At: 1, Methods: []string{"GET", "HEAD"}, MaxBody: 1 << 10}
	setup := edgetest.New(nil)
	setup.Config.Limits.BodyBytes = 5 << 20
	setup.Config.AccessLog, setup.Config.Expose, setup.Config.HTTP = "off", "full", "127.0.0.1:0"
	w.server, err = edge.NewServer(setup.Config, []edge.SiteConfig{{
		Hosts: []string{"default"},
		Routes: []edge.RouteConfig{
			{Match: edge.MatchConfig{Path: "/plain/*"}, Origin: "app", Cache: true},
			{Match: edge.MatchConfig{Path: "/stale/*"}, Origin: "app", Cache: true, Overflow: spill, StaleOnOverload: time.Hour},
			{Match: edge.MatchConfig{Path: "/spill/*"}, Origin: "app", Cache: true, Overflow: spill},
		},
	}}, map[string]origin.Config{"app": oc}, edge.Backends{
		Origins: map[string]*origin.Origin{"app": o}, Functions: functions,
	}, cache.New(cache.Config{Memory: 1 << 20, MaxObject: 1 << 18, CollapseWaiters: 100, CollapseWait: time.Second}),
		admit.New(admit.Config{Enforce: true, HandshakesPerCore: 500, HalfOpen: 1000}, 2), metrics.NewSet(), log)
	if err != nil {
		t.Fatal(err)
	}
	setup.Handler = w.server
	w.node = setup.Start(t)
	w.visitor = w.node.Visitor(t, proto)
	return w
}

// background runs a part until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// An answer is what a visitor saw.
type answer struct {
	status   int
	spillway string
	body     string
	header   http.Header
	err      error
}

func (w *world) ask(method, path, body string, header ...string) answer {
	req, err := http.NewRequest(method, w.visitor.URL+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.visitor.Client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Spillway"), string(b), resp.Header, err}
}

// occupy fills the origin's only slot until the function that it returns is
// called.
func (w *world) occupy(t *testing.T) (release func()) {
	t.Helper()
	inside, leave := make(chan struct{}), make(chan struct{})
	previous := *w.origin.handler.Load()
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/plain/occupy" {
			close(inside)
			<-leave
			return
		}
		previous(rw, r)
	})
	var wg sync.WaitGroup
	wg.Go(func() { w.ask("GET", "/plain/occupy", "") })
	<-inside
	return func() { close(leave); wg.Wait() }
}

func (a answer) check(t *testing.T, status int, spillway, body string) {
	t.Helper()
	if a.err != nil {
		t.Fatalf("got error %v, want %d", a.err, status)
	}
	if a.status != status || a.spillway != spillway || (body != "" && a.body != body) {
		t.Errorf("got %d, %q, body %q; want %d, %q, body %q", a.status, a.spillway, a.body, status, spillway, body)
	}
}

func cacheable(seconds int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d", seconds))
		io.WriteString(w, body)
	}
}

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
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		got := make(chan answer)
		go func() { got <- w.ask("POST", "/plain/a", "form=1") }()
		for w.server.InFlight() < 2 {
			time.Sleep(time.Millisecond)
		}
		release()
		// It may have come just after the slot was freed; then it did not wait.
		if a := <-got; a.spillway != "queued" && a.spillway != "origin" {
			t.Errorf("got %d %q %q (%v)", a.status, a.spillway, a.body, a.err)
		}
	})
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
		w.budget.Reset()
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
		w.origin.CloseClientConnections()
		w.origin.Listener.Close()
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
			w := newWorld(t, proto, 10)
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
	runWorld(t, func(t *testing.T, w *world) {
		release := w.occupy(t)
		defer release()
		w.first.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("X-Google-Status", "crash")
			rw.WriteHeader(http.StatusInternalServerError)
		})
		const crowd = 20
		answers := make(chan answer, crowd)
		for range crowd {
			go func() { answers <- w.ask("GET", "/spill/a", "") }()
		}
		for range crowd {
			if a := <-answers; a.status != 502 && a.status != 503 {
				t.Errorf("got %d %q (%v)", a.status, a.spillway, a.err)
			}
		}
		// Two flights of the crowd, and what came when those had landed.
		if n := w.first.requests.Load(); n > crowd/2 {
			t.Errorf("%d calls for a crowd of %d", n, crowd)
		}
	})
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
