package edge_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sys/unix"

	"spillway/edge"
	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/cache/disk"
	"spillway/edge/edgetest"
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
	app     *origin.Origin
	paid    map[string]*faas.Function
	cache   *cache.Cache
	gate    *admit.Controller // of requests
	node    *edgetest.Node
	visitor *edgetest.Visitor
	arrived atomic.Int64 // requests that the listeners handed over, or found to be hits
	fast    atomic.Int64 // those that they found to be hits
	// What the server was made of, for a reload.
	config   edge.Config
	routes   []edge.RouteConfig
	origins  map[string]origin.Config
	backends edge.Backends
}

// A script is a backend that does what a test says.
type script struct {
	*httptest.Server
	handler  atomic.Pointer[http.HandlerFunc]
	requests atomic.Int64
}

func newScript(t testing.TB, name string) *script {
	s := &script{}
	s.says(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s", name, r.URL.Path) })
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(func() { s.end(t, name) })
	return s
}

// end closes the backend. Of a test that has failed a request may hang there for good, and
// all tests with it: who wants to know which it was must be told.
func (s *script) end(t testing.TB, name string) {
	closed := make(chan struct{})
	go func() { defer close(closed); s.Close() }()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Errorf("%s: a request does not end", name)
	}
}

func (s *script) says(h http.HandlerFunc) { s.handler.Store(&h) }

// dies closes the backend for good. Its port stays taken: else the next to listen there
// could be anybody, and answer.
func (s *script) dies(t testing.TB) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil { // connections may linger
		t.Fatal(err)
	}
	at := s.Listener.Addr().(*net.TCPAddr)
	s.Listener.Close()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}); err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func originConfig(url string, slots int) origin.Config {
	return origin.Config{
		Servers: []string{url}, Limit: limit.Config{Min: slots, Max: slots},
		Queue:     origin.QueueConfig{Length: 1, Wait: 20 * time.Millisecond, UnsafeWait: 300 * time.Millisecond},
		ReadAhead: origin.ReadAheadConfig{PerResponse: 1 << 20, Total: 64 << 20},
		LongLived: 10, ConnectTimeout: 20 * time.Second, Timeout: 20 * time.Second,
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

func newWorld(t testing.TB, proto string, slots int) *world {
	return newWorldWith(t, proto, slots, func(*edge.Config, []edge.RouteConfig) {})
}

// newWorldWith is newWorld with a configuration that the test has changed.
func newWorldWith(t testing.TB, proto string, slots int, change func(*edge.Config, []edge.RouteConfig)) *world {
	return newPatientWorld(t, proto, slots, 300*time.Millisecond, change)
}

// newPatientWorld is newWorldWith with the longest wait of what may not spill, and
// the addresses that may purge.
func newPatientWorld(
	t testing.TB, proto string, slots int, wait time.Duration, change func(*edge.Config, []edge.RouteConfig), purgers ...string,
) *world {
	cc := patientCache()
	cc.Purge.From = purgers
	return newCachingWorld(t, proto, slots, wait, cc, change)
}

// patientCache is the cache of a world in which nobody who waits for a fetch gives up.
func patientCache() cache.Config {
	return cache.Config{
		Memory: 1 << 20, MaxObject: 1 << 18, CollapseWaiters: 100, CollapseWait: time.Minute, StaleWait: time.Minute,
	}
}

// newCachingWorld is newPatientWorld with a cache of the test's own, and disks below it.
func newCachingWorld(
	t testing.TB, proto string, slots int, wait time.Duration, cc cache.Config, change func(*edge.Config, []edge.RouteConfig), disks ...*disk.Tier,
) *world {
	w := &world{origin: newScript(t, "origin"), first: newScript(t, "first"), second: newScript(t, "second")}
	log := slog.New(slog.DiscardHandler)
	w.budget = budget.New("spill", budget.Config{PerMonth: 1}) // an hour may end amid a test
	functions := map[string]*faas.Function{}
	for name, s := range map[string]*script{"first": w.first, "second": w.second} {
		p, err := web.New(web.Config{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		functions[name] = faas.New(name, faas.Config{
			Provider: "web", Memory: 128 << 20, Timeout: 20 * time.Second, MaxConcurrency: 10, MaxResponse: 1 << 20,
			Price: faas.PriceConfig{Platform: "aws-lambda"}, WarmUp: "/warm-up",
		}, p, w.budget, log)
	}
	oc := originConfig(w.origin.URL, slots)
	oc.Queue.UnsafeWait = wait
	o, err := origin.New("app", oc, log)
	if err != nil {
		t.Fatal(err)
	}
	background(t, o.Run)
	w.app, w.paid = o, functions
	w.cache = cache.New(cc)
	for _, tier := range disks {
		w.cache.UseDisk(tier)
	}
	background(t, w.cache.Revalidate)

	spill := &overflow.Config{To: []string{"first", "second"}, At: 1, Methods: []string{"GET", "HEAD"}, MaxBody: 1 << 10}
	setup := edgetest.New(nil)
	setup.Config.Limits.BodyBytes = 5 << 20
	setup.Config.Log.Access, setup.Config.Expose, setup.Config.HTTP = "off", "full", "127.0.0.1:0"
	routes := []edge.RouteConfig{
		{Match: edge.MatchConfig{Path: "/plain/*"}, Origin: "app"},
		{Match: edge.MatchConfig{Path: "/stale/*"}, Origin: "app", Overflow: spill, StaleOnOverload: time.Hour},
		{Match: edge.MatchConfig{Path: "/spill/*"}, Origin: "app", Overflow: spill},
	}
	change(&setup.Config, routes)
	w.config, w.routes, w.origins = setup.Config, routes, map[string]origin.Config{"app": oc}
	w.backends = edge.Backends{Origins: map[string]*origin.Origin{"app": o}, Functions: functions}
	w.gate = admit.New(admit.Config{Enforce: true, HandshakesPerCore: 500, HalfOpen: 1000}, 2)
	w.server, err = edge.NewServer(w.config, w.sites(), w.origins, w.backends, w.cache,
		w.gate, metrics.NewSet(), log)
	if err != nil {
		t.Fatal(err)
	}
	setup.Handler = edge.Counted{Server: w.server, Arrived: &w.arrived, Fast: &w.fast}
	w.node = setup.Start(t)
	w.visitor = w.node.Visitor(t, proto)
	return w
}

func (w *world) sites() []edge.SiteConfig {
	return []edge.SiteConfig{{Hosts: []string{"default"}, Routes: w.routes}}
}

// reload puts w's configuration in force as it is now.
func (w *world) reload(t *testing.T) {
	t.Helper()
	apply, err := w.server.Prepare(w.config, w.sites(), w.origins, w.backends)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

// background runs a part until the test ends.
func background(t testing.TB, run func(context.Context) error) {
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

func (w *world) limiter() limit.State { return w.app.Limiter().State() }

// awaitQueued returns when so many wait for the origin.
func (w *world) awaitQueued(n int) {
	for w.limiter().Queued != n {
		time.Sleep(time.Millisecond)
	}
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
	never := make(chan struct{})
	wg.Go(func() { // again, if the slot is held by who came before for as long as anybody waits
		for end := time.Now().Add(time.Minute); w.ask("GET", "/plain/occupy", "").status == http.StatusServiceUnavailable; {
			if time.Now().After(end) {
				close(never)
				return
			}
		}
	})
	select {
	case <-inside:
	case <-never:
		t.Fatal("the origin's only slot never comes free")
	}
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
