package edge_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge"
	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/recorder"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/limit"
)

// explain asks about a request that a visitor of the world would send.
func (w *world) explain(t *testing.T, method, path string, header ...string) *edge.Explanation {
	t.Helper()
	q := edge.Inquiry{Method: method, URL: w.visitor.URL + path, Header: http.Header{}}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	e, err := w.server.Explain(q)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// told returns the steps as the Spillway field would have them.
func told(steps []recorder.Step) (all []string) {
	for _, s := range steps {
		text := string(s.Outcome)
		if s.Reason != outcome.None && s.Outcome != outcome.Queued {
			text += "; reason=" + string(s.Reason)
		}
		all = append(all, text)
	}
	return all
}

// A traceable is all that a request might change, and that time does not.
type traceable struct {
	cache      cache.State
	outcomes   map[outcome.Outcome]uint64
	inFlight   int64
	limit      [5]uint64
	functions  map[string][6]float64
	money      [2]float64
	backends   [3]int64
	waiting    map[string]waiting.State
	routeCosts []edge.RouteState
}

func (w *world) traces() traceable {
	s, b := w.app.State().Limit, w.budget.State(time.Now())
	t := traceable{
		cache: w.cache.State(), outcomes: w.server.Outcomes(), inFlight: w.server.InFlight(),
		limit:     [5]uint64{uint64(s.Limit), uint64(s.InFlight), uint64(s.Queued), s.Blocked, s.Waited},
		functions: map[string][6]float64{}, money: [2]float64{b.AtRisk, b.Left},
		backends: [3]int64{w.origin.requests.Load(), w.first.requests.Load(), w.second.requests.Load()},
		waiting:  w.server.Waiting(), routeCosts: w.server.Routes(),
	}
	for name, f := range w.paid {
		s := f.State()
		t.functions[name] = [6]float64{
			float64(s.InFlight), float64(s.Calls), s.CostUSD, float64(s.ColdStarts), float64(s.Waited), float64(s.WarmUps),
		}
	}
	return t
}

// A situation is what a request meets, and what becomes of it.
type situation struct {
	name    string
	prepare func(t *testing.T, w *world) (undo func())
	method  string
	path    string
	header  []string
	// now and full are the steps foretold; the request ends as the last of now says.
	now, full string
}

// The one situation that passes by itself, and how long it lasts at least.
const (
	breakerOpen  = "breaker open"
	breakerOpens = 800 * time.Millisecond
)

func saturated(t *testing.T, w *world) func() { return w.occupy(t) }

func nothing(*testing.T, *world) func() { return func() {} }

// holds lets the cache hold what was fetched from the route of a path, fresh for so
// long, and validated by an entity tag.
func holds(path, control string) func(t *testing.T, w *world) {
	return func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", control)
			rw.Header().Set("ETag", `"1"`)
			io.WriteString(rw, "kept")
		})
		w.ask("GET", path, "").check(t, 200, "origin", "kept")
	}
}

func after(first func(*testing.T, *world), second func(*testing.T, *world) func()) func(*testing.T, *world) func() {
	return func(t *testing.T, w *world) func() {
		first(t, w)
		return second(t, w)
	}
}

const (
	toFirst = "queued, function; reason=origin-saturated"
	noTurn  = "function; reason=origin-saturated" // the queue is taken to be full
)

var situations = []situation{
	{"free", nothing, "GET", "/spill/x", nil, "origin", noTurn},
	{"free, without overflow", nothing, "GET", "/plain/x", nil, "origin", "shed; reason=origin-saturated"},
	{
		"a purge by nobody in particular", nothing, "PURGE", "/spill/x", nil,
		"refused; reason=method-not-allowed", "refused; reason=method-not-allowed",
	},
	{"saturated", saturated, "GET", "/spill/x", nil, toFirst, noTurn},
	{
		"saturated, without overflow", saturated, "GET", "/plain/x", nil,
		"queued, shed; reason=origin-saturated", "shed; reason=origin-saturated",
	},
	{
		"saturated, a form", saturated, "POST", "/spill/x", nil,
		"queued, shed; reason=method-not-spilled", "shed; reason=method-not-spilled",
	},
	{
		"saturated, a crawler", saturated, "GET", "/spill/x",
		[]string{"User-Agent", "Googlebot/2.1"},
		"queued, shed; reason=crawler", "shed; reason=crawler",
	},
	{
		"saturated, a prefetch", saturated, "GET", "/spill/x",
		[]string{"Sec-Purpose", "prefetch"},
		"queued, shed; reason=prefetch", "shed; reason=prefetch",
	},
	{
		"in the cache", after(holds("/spill/x", "max-age=60"), saturated), "GET", "/spill/x", nil,
		"hit; reason=fresh", "hit; reason=fresh",
	},
	{
		"stale", after(holds("/stale/x", "max-age=0"), saturated), "GET", "/stale/x", nil,
		"queued, stale; reason=origin-saturated", "stale; reason=origin-saturated",
	},
	{
		"stale, but forbidden", after(holds("/stale/x", "max-age=0, must-revalidate"), saturated), "GET", "/stale/x", nil,
		toFirst, noTurn,
	},
	{
		"budget spent", func(t *testing.T, w *world) func() {
			w.budget.Empty(time.Now())
			return w.occupy(t)
		}, "GET", "/spill/x", nil, "queued, shed; reason=budget-spent", "shed; reason=budget-spent",
	},
	{
		breakerOpen, func(t *testing.T, w *world) func() {
			undo := w.occupy(t)
			w.first.says(func(rw http.ResponseWriter, r *http.Request) { rw.WriteHeader(500) })
			for i := range 5 {
				w.ask("GET", fmt.Sprintf("/spill/%d", i), "").check(t, 200, "function; reason=origin-saturated", "")
			}
			return undo
		}, "GET", "/spill/x", nil, toFirst, noTurn,
	},
	{"no route", nothing, "GET", "/nowhere", nil, "refused; reason=no-route", "refused; reason=no-route"},
	{"a trick", nothing, "GET", "/plain/%2e%2e/x", nil, "refused; reason=bad-request", "refused; reason=bad-request"},
	{
		"only if cached", nothing, "GET", "/plain/x",
		[]string{"Cache-Control", "only-if-cached"},
		"refused; reason=only-if-cached", "refused; reason=only-if-cached",
	},
}

// TestExplainForetells: what is foretold is what a request then meets, and asking
// changed nothing.
func TestExplainForetells(t *testing.T) {
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			for range 20 {
				wrong, passed := s.foretold(t)
				if wrong == "" {
					return
				}
				if !passed {
					t.Fatal(wrong)
				}
			}
			t.Error("it had always passed before it was asked about")
		})
	}
}

// foretold says what is wrong with what is foretold in a situation, and whether that may
// have passed meanwhile.
func (s *situation) foretold(t *testing.T) (wrong string, passed bool) {
	t.Helper()
	w := newWorld(t, "h2", 1)
	undo := s.prepare(t, w)
	defer undo()
	prepared := time.Now()
	defer func() { passed = s.name == breakerOpen && time.Since(prepared) >= breakerOpens }()
	w.quiet(t)
	before := w.traces()
	e := w.explain(t, s.method, s.path, s.header...)
	if now := w.traces(); !reflect.DeepEqual(before, now) {
		return fmt.Sprintf("before %+v\nnow    %+v", before, now), false
	}
	now, full := told(e.Now), told(e.Full)
	if strings.Join(now, ", ") != s.now || strings.Join(full, ", ") != s.full {
		return fmt.Sprintf("foretold %v, and %v if it were full", now, full), false
	}
	body := ""
	if s.method == "POST" {
		body = "x=1"
	}
	a, last := w.ask(s.method, s.path, body, s.header...), e.Now[len(e.Now)-1]
	if a.spillway != now[len(now)-1] || last.Outcome == outcome.Function && !strings.HasPrefix(a.body, last.Backend) {
		return fmt.Sprintf("it met %d %q %q, and was foretold %+v", a.status, a.spillway, a.body, e.Now), false
	}
	return "", false
}

// quiet waits until nothing is under way but what occupies the origin.
func (w *world) quiet(t *testing.T) {
	t.Helper()
	busy := func() bool {
		for _, f := range w.paid {
			if f.State().InFlight > 0 {
				return true
			}
		}
		inFlight := int64(w.app.State().Limit.InFlight)
		return w.server.InFlight() > inFlight || w.cache.State().Flights > inFlight
	}
	for busy() {
		if t.Context().Err() != nil {
			t.Fatal("it does not come to rest")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestExplainOriginDown: then nobody waits for it, whatever the limit says.
func TestExplainOriginDown(t *testing.T) {
	w := newWorld(t, "h2", 4)
	probed := w.origins["app"] // what probes have found stays; a breaker closes soon
	probed.Health = origin.HealthConfig{Path: "/", Interval: 10 * time.Millisecond, Timeout: 20 * time.Second}
	apply, err := w.app.Prepare(probed)
	if err != nil {
		t.Fatal(err)
	}
	apply()
	// Its port stays taken: the next to listen there could be anybody.
	w.origin.says(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	await(t, "the origin is down", func() bool { return !w.app.Up() })
	e := w.explain(t, "GET", "/spill/x")
	if got := told(e.Now); e.Origin.Up || len(got) != 1 || got[0] != "function; reason=origin-down" ||
		!slices.Equal(e.Now, e.Full) {
		t.Errorf("up %t, foretold %v and %v", e.Origin.Up, e.Now, e.Full)
	}
	w.ask("GET", "/spill/x", "").check(t, 200, "function; reason=origin-down", "first /spill/x")
}

// TestExplainNamesEachRung asks what is said of the rungs where a decision does
// not show it.
func TestExplainNamesEachRung(t *testing.T) {
	w := newWorldWith(t, "h2", 4, func(c *edge.Config, _ []edge.RouteConfig) { c.TrustedProxies = []string{"127.0.0.1"} })
	holds("/stale/x", "max-age=0")(t, w)
	e := w.explain(t, "GET", "/stale/x", "X-Forwarded-For", "192.0.2.7")
	if e.Client.Visitor != netip.MustParseAddr("192.0.2.7") || !e.Client.Trusted ||
		e.Client.Peer != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("client %+v", e.Client)
	}
	if e.Route.Route != "default/stale/*" || len(e.Passed) != 1 ||
		e.Passed[0] != (edge.PassedLook{Route: "default/plain/*", Why: "path"}) {
		t.Errorf("route %+v, passed %v", e.Route, e.Passed)
	}
	if c := e.Cache; c.State != cache.Stale || !c.Entry || c.TTL > 0 || c.StaleLeft < 3500 ||
		c.StaleLeft > 3600 || c.Forbids {
		t.Errorf("cache %+v", c)
	}
	if o := e.Origin; !o.Up || o.Limit != 4 || o.InFlight != 0 || !o.Room || o.QueueLimit != 4 || o.Share != 1 {
		t.Errorf("origin %+v", o)
	}
	if len(e.Functions) != 2 || e.Functions[0].Name != "first" || e.Functions[0].Worst <= 0 ||
		e.Functions[0].Budget != "spill" || *e.Functions[0].Left != 1 {
		t.Errorf("functions %+v", e.Functions)
	}
	if e := w.explain(t, "PUT", "/spill/x", "Content-Length", "2000"); e.Barred != outcome.MethodNotSpilled {
		t.Errorf("PUT is barred by %q", e.Barred)
	}
	if e := w.explain(t, "GET", "/spill/x", "Content-Length", "2000"); e.Barred != outcome.BodyTooLarge {
		t.Errorf("2000 bytes are barred by %q", e.Barred)
	}
	if e := w.explain(t, "GET", "/spill/x", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Key", "x"); e.Barred != outcome.Upgrade {
		t.Errorf("a WebSocket is barred by %q", e.Barred)
	}
	if e := w.explain(t, "GET", "/plain/x", "Content-Length", "9000000"); told(e.Now)[0] != "refused; reason=body-too-large" {
		t.Errorf("9 MB: %v", told(e.Now))
	}
	if e, err := w.server.Explain(edge.Inquiry{URL: "http://any.test/plain/x"}); err != nil ||
		told(e.Now)[0] != "local; reason=redirect" {
		t.Errorf("plain HTTP: %v (%v)", e, err)
	}
}

// TestExplainAFetchInFlight: who asks for what somebody fetches would share it.
func TestExplainAFetchInFlight(t *testing.T) {
	w := newWorld(t, "h2", 1)
	inside, leave, joined := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		close(inside)
		<-leave
		cacheable(60, "dra")(rw, r)
		rw.(http.Flusher).Flush()
		<-joined // who is late still shares it
		io.WriteString(rw, "wn")
	})
	answers := make(chan answer, 2)
	go func() { answers <- w.ask("GET", "/spill/one", "") }()
	<-inside
	e := w.explain(t, "GET", "/spill/one")
	if got := told(e.Now); !e.Cache.Joins || got[0] != "collapsed" ||
		got[len(got)-1] != "function; reason=origin-saturated" {
		t.Errorf("%+v, foretold %v", e.Cache, got)
	}
	go func() { answers <- w.ask("GET", "/spill/one", "") }()
	for w.server.InFlight() < 2 {
		time.Sleep(time.Millisecond)
	}
	close(leave)
	await(t, "the other shares it", func() bool { return w.cache.State().Collapsed == 1 })
	close(joined)
	words := map[string]int{(<-answers).spillway: 1, (<-answers).spillway: 1}
	if !maps.Equal(words, map[string]int{"origin": 1, "collapsed": 1}) {
		t.Errorf("they met %v", words)
	}
}

// TestExplainALateFetch: who asks for what others have waited for long enough gets the
// expired entry at once.
func TestExplainALateFetch(t *testing.T) {
	w := newLateWorld(t, "h2")
	w.says("max-age=10, stale-if-error=600", "20", "old")
	w.ask("GET", "/plain/a", "").check(t, 200, "origin", "old")
	leave := make(chan struct{})
	defer close(leave)
	w.origin.says(func(http.ResponseWriter, *http.Request) { <-leave })
	const late = "stale; reason=origin-slow"
	w.ask("GET", "/plain/a", "").check(t, 200, late, "old")
	e := w.explain(t, "GET", "/plain/a")
	if now, full := told(e.Now), told(e.Full); !e.Cache.Late || e.Cache.Joins ||
		!slices.Equal(now, []string{late}) || !slices.Equal(full, now) {
		t.Errorf("%+v, foretold %v, %v", e.Cache, now, full)
	}
	w.ask("GET", "/plain/a", "").check(t, 200, late, "old")
}

// TestExplainRefusesWhatIsNoRequest: its error says what is wrong.
func TestExplainRefusesWhatIsNoRequest(t *testing.T) {
	w := newWorld(t, "h2", 1)
	f := func(q edge.Inquiry, want string) {
		t.Helper()
		if _, err := w.server.Explain(q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", q, err, want)
		}
	}
	f(edge.Inquiry{URL: "img.example.com/a"}, "is not a URL such as https://")
	f(edge.Inquiry{URL: "ftp://img.example.com/a"}, "is not a URL such as https://")
	f(edge.Inquiry{URL: "https://%"}, "invalid URL escape")
	f(edge.Inquiry{URL: "https://a.test/", Method: "GE T"}, "invalid method")
	f(edge.Inquiry{URL: "https://a.test/", Header: http.Header{"Content-Length": {"many"}}}, `"many" is not a length`)
}

// TestExplainWaitingRoom: who would have to wait behind others is told so, and
// nobody loses a turn by it.
func TestExplainWaitingRoom(t *testing.T) {
	w := newWorldWith(t, "h2", 1, func(_ *edge.Config, routes []edge.RouteConfig) {
		for i := range routes {
			routes[i].Waiting = &waiting.Config{}
		}
	})
	release := w.occupy(t)
	g := w.guest()
	g.visit("/plain/1").check(t, 503, sentToWait, "")
	e := w.explain(t, "GET", "/plain/1", "Sec-Fetch-Mode", "navigate")
	if got := told(e.Now); len(got) != 1 || got[0] != sentBack || !e.Waiting.Waits ||
		e.Waiting.Standing != "behind" || e.Waiting.Visitors != 1 {
		t.Errorf("%v, %+v", got, e.Waiting)
	}
	release()
	var cookies []string
	for name, value := range g.jar {
		cookies = append(cookies, name+"="+value)
	}
	for range 3 {
		e = w.explain(t, "GET", "/plain/1", "Sec-Fetch-Mode", "navigate", "Cookie", strings.Join(cookies, "; "))
		if got := told(e.Now); e.Waiting.Standing != "called" || got[0] != "queued" ||
			e.Now[0].Seconds != waiting.Hold.Seconds() {
			t.Errorf("%v, %+v", e.Now, e.Waiting)
		}
	}
	g.visit("/plain/1").check(t, 200, "origin", "origin /plain/1")
}

// TestExplainTheQueue: how long a request would wait depends on whether the queue
// stands, and whether it would, if no more may, on who is there.
func TestExplainTheQueue(t *testing.T) {
	w := newPatientWorld(t, "h2", 1, time.Minute, func(c *edge.Config, routes []edge.RouteConfig) {
		c.PriorityHeader, c.TrustedProxies = "X-Priority", everyone
		for i := range routes {
			routes[i].Priority = 5
		}
	})
	f := func(want string, patience time.Duration, header ...string) {
		t.Helper()
		e := w.explain(t, "POST", "/plain/x", append(header, "User-Agent", "one")...) // of one group
		if got := strings.Join(told(e.Now), ", "); got != want || e.Now[0].Seconds != patience.Seconds() {
			t.Errorf("%v: foretold %+v", header, e.Now)
		}
	}
	const waits, full = "queued, shed; reason=origin-saturated", "shed; reason=origin-saturated"
	release := w.occupy(t)
	f(waits, time.Minute)
	var all sync.WaitGroup
	all.Go(func() { w.ask("POST", "/plain/waits", "", "User-Agent", "one").check(t, 200, "queued", "") })
	w.awaitQueued(1)
	f(full, 0)
	f(full, 0, "X-Priority", "5")
	f(full, 0, "X-Priority", "high")
	f(waits, time.Minute, "X-Priority", "4")
	time.Sleep(200 * time.Millisecond) // so long that the queue stands
	f(waits, time.Minute, "X-Priority", "4")
	release()
	all.Wait()
}

// TestExplainAStandingQueue: there what cannot spill does not wait for long.
func TestExplainAStandingQueue(t *testing.T) {
	w := newPatientWorld(t, "h2", 2, time.Minute, func(*edge.Config, []edge.RouteConfig) {})
	var held []limit.Permit
	for p, ok := w.app.Limiter().Acquire(0, 1); ok; p, ok = w.app.Limiter().Acquire(0, 1) {
		held = append(held, p)
	}
	var all sync.WaitGroup
	all.Go(func() { w.ask("POST", "/plain/waits", "", "User-Agent", "one").check(t, 200, "queued", "") })
	w.awaitQueued(1)
	time.Sleep(200 * time.Millisecond) // so long that the queue stands
	if e := w.explain(t, "POST", "/plain/x", "User-Agent", "one"); told(e.Now)[0] != "queued" || e.Now[0].Seconds > 1 {
		t.Errorf("foretold %+v", e.Now)
	}
	for _, p := range held {
		p.Release(limit.Cancel)
	}
	all.Wait()
}

// TestExplainACalledVisitOfALateRoute: who has waited asks the origin, late or not.
func TestExplainACalledVisitOfALateRoute(t *testing.T) {
	w := newWorldWith(t, "h2", 1, func(_ *edge.Config, routes []edge.RouteConfig) {
		for i := range routes {
			routes[i].Waiting, routes[i].Deadline, routes[i].Cache.Off = &waiting.Config{}, time.Millisecond, true
		}
	})
	w.origin.says(func(http.ResponseWriter, *http.Request) { time.Sleep(2 * time.Millisecond) })
	w.learnsToBeLate(t)
	if got := told(w.explain(t, "GET", "/spill/1").Now); got[0] != "function; reason=deadline" {
		t.Errorf("a stranger is foretold %v", got)
	}
	release := w.occupy(t)
	g := w.guest()
	g.visit("/plain/1").check(t, 503, sentToWait, "")
	release()
	var cookies []string
	for name, value := range g.jar {
		cookies = append(cookies, name+"="+value)
	}
	e := w.explain(t, "GET", "/spill/1", "Sec-Fetch-Mode", "navigate", "Cookie", strings.Join(cookies, "; "))
	if got := told(e.Now); e.Waiting.Standing != "called" || got[0] != "queued" {
		t.Errorf("foretold %v, %+v", got, e.Waiting)
	}
	g.visit("/spill/1").check(t, 200, "origin", "")
}

// TestExplainAmidTraffic: it may be asked while requests are served.
func TestExplainAmidTraffic(t *testing.T) {
	w := newWorld(t, "h2", 2)
	w.origin.says(cacheable(0, "x"))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 50 {
				w.ask("GET", fmt.Sprintf("/stale/%d", i%3), "")
			}
		})
		wg.Go(func() {
			for range 50 {
				if e := w.explain(t, "GET", fmt.Sprintf("/stale/%d", i%3)); len(e.Now) == 0 || len(e.Full) == 0 {
					t.Errorf("%+v", e)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzExplain: whatever is asked about, there is an answer or an error.
func FuzzExplain(f *testing.F) {
	f.Add("GET", "https://edge.test/spill/x", "Accept", "text/html")
	f.Add("CONNECT", "https://[::1]:8443", ":protocol", "websocket")
	f.Add("PUT", "http://a.test:80/?q#f", "Content-Length", "-1")
	f.Add("GET", "https://a.test/plain/%2e%2e/", "Host", "..")
	f.Add("GET", "https:opaque", "Cookie", "__Host-wait-=;;=")
	f.Add("HEAD", "https://user@a.test/stale/x", "Range", "bytes=0-")
	w := newWorld(f, "h1", 1)
	f.Fuzz(func(t *testing.T, method, url, name, value string) {
		e, err := w.server.Explain(edge.Inquiry{Method: method, URL: url, Header: http.Header{http.CanonicalHeaderKey(name): {value}}})
		if err == nil && (len(e.Now) == 0 || len(e.Full) == 0) {
			t.Errorf("nothing is told: %+v", e)
		}
	})
}

// TestExplainNamesWhatIsWrongWithAFunction: the reason, and what stands behind it.
func TestExplainNamesWhatIsWrongWithAFunction(t *testing.T) {
	w := newWorld(t, "h2", 1)
	defer w.occupy(t)()
	w.first.says(func(rw http.ResponseWriter, r *http.Request) { rw.WriteHeader(500) })
	for i := range 5 {
		w.ask("GET", fmt.Sprintf("/spill/%d", i), "").check(t, 200, "function; reason=origin-saturated", "")
	}
	w.quiet(t)
	f := w.explain(t, "GET", "/spill/x").Functions
	for try := 0; f[0].Breaker == "half-open" && try < 20; try++ { // a second has passed; one more failure opens it for longer
		w.ask("GET", fmt.Sprintf("/spill/again/%d", try), "")
		w.quiet(t)
		f = w.explain(t, "GET", "/spill/x").Functions
	}
	if f[0].Reason != outcome.FunctionUnavailable || f[0].Breaker != "open" || f[1].Reason != outcome.None || f[1].Ready == 0 {
		t.Errorf("%+v", f)
	}
	w.budget.Empty(time.Now())
	if f := w.explain(t, "GET", "/spill/x").Functions; f[1].Reason != outcome.BudgetSpent || *f[1].Left != 0 {
		t.Errorf("%+v", f)
	}
}
