package edge

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/edge/admit"
)

func TestMarkSticksOnOneOperationOnly(t *testing.T) {
	const limit = 30 * time.Second
	var m mark
	f := func(now time.Duration, want bool) {
		t.Helper()
		if got := m.stuck(now*time.Second, limit); got != want {
			t.Errorf("after %ds: stuck %v", now, got)
		}
	}
	f(0, false)
	f(100, false) // nothing goes on
	m.begin()
	f(101, false)
	f(130, false)
	f(131, true)
	m.end()
	f(132, false)
	m.begin()
	f(133, false)
	m.end()
	m.begin() // another one, between two sweeps
	f(164, false)
	f(193, false)
	f(194, true)
}

// What each answer of a connection is charged for, sweep by sweep.
func TestGuardDownloadDebts(t *testing.T) {
	const stall = 30 * time.Second
	f := func(what string, taken int64, spoil func(c *connection, g *guard), want time.Duration) {
		t.Helper()
		c := &connection{}
		g := &guard{conn: c, step: 1}
		c.enter(g)
		g.writes.begin()
		s := sight{stall: stall, finish: time.Hour}
		for s.now < 2*time.Hour {
			s.tick, s.now = time.Second, s.now+time.Second
			c.out.Add(taken)
			spoil(c, g)
			c.keepPace()
			if g.untaken(s) {
				if s.now != want {
					t.Errorf("%s: cut after %v, want %v", what, s.now, want)
				}
				return
			}
		}
		if want != 0 {
			t.Errorf("%s: never cut, want after %v", what, want)
		}
	}
	standing := func(*connection, *guard) {}
	moving := func(_ *connection, g *guard) { g.writes.end(); g.writes.begin() }
	f("nothing", 0, standing, stall)
	f("half the least rate in small writes", minRate/2, moving, 2*stall)
	f("the least rate", minRate, moving, 0)
	f("standing while others move", minRate, standing, starved*stall+time.Second)
	f("no write", 0, func(_ *connection, g *guard) { g.writes = mark{} }, 0)
	f("a patient one", 0, func(_ *connection, g *guard) { g.patience = time.Minute }, time.Minute+time.Second)
	onHTTP1 := func(c *connection, g *guard) {
		g.step, g.writes = 0, mark{}
		if !c.writes.going() {
			c.writes.begin()
		}
	}
	f("half the least rate over HTTP/1.1", minRate/2, onHTTP1, 2*stall)
	f("the least rate over HTTP/1.1", minRate, onHTTP1, 0)
	late := func(c *connection, g *guard) {
		if g.writes.going() && g.owed >= stall/2 {
			g.writes.end()
		}
	}
	f("an end in time", 0, late, 0)
}

func TestRegistry(t *testing.T) {
	r := registry{grant: func(*connection) {}}
	all := []*connection{{}, {}, {}, {}}
	for _, c := range all {
		r.add(c)
	}
	for i, c := range []*connection{all[1], all[3], all[0], all[2]} {
		r.remove(c)
		if got := r.snapshot(nil); len(got) != 3-i || slices.Contains(got, c) {
			t.Errorf("after %d removals: %d left", i+1, len(got))
		}
	}
}

func TestConnectionKeepsItsRequests(t *testing.T) {
	c := &connection{}
	gs := []*guard{{}, {}, {}}
	for _, g := range gs {
		g.conn = c
		c.enter(g)
	}
	for _, g := range []*guard{gs[1], gs[2], gs[0]} {
		if _, idle, _ := c.sweep(sight{stall: time.Second, finish: time.Minute}); idle {
			t.Error("idle with requests")
		}
		c.leave(g, false)
	}
	if _, idle, _ := c.sweep(sight{stall: time.Second, finish: time.Minute}); !idle || c.guards != nil {
		t.Error("not idle without requests")
	}
}

func TestListenReload(t *testing.T) {
	folder := t.TempDir()
	c := Config{
		Listen: "127.0.0.1:0", HTTP: "off",
		TLS:    writePair(t, folder, time.Now().Add(time.Hour), false),
		Limits: LimitsConfig{BodyBytes: 1, HeaderBytes: 1 << 10, Streams: 1},
		HTTP3:  HTTP3Config{Enabled: true, GSO: true, ECN: true, AltSvcMaxAge: time.Hour},
	}
	var log strings.Builder
	l, err := NewListeners(c, testSteering(t), nil, admit.New(admit.Config{}, 1), http.NotFoundHandler(), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Shutdown(t.Context())

	bad := c
	bad.TLS.Cert = "missing"
	bad.Limits.BodyBytes = 2
	if err := l.Reload(bad, nil); err == nil || l.rules.Load().bodyBytes != 1 {
		t.Errorf("error %v, and part of a bad configuration in force", err)
	}
	next := c
	next.TLS = TLSConfig{SelfSigned: true}
	next.Limits.BodyBytes, next.HTTP3.AltSvcMaxAge = 2, time.Minute
	if err := l.Reload(next, []string{"a.test"}); err != nil {
		t.Fatal(err)
	}
	if got := l.rules.Load(); got.bodyBytes != 2 || !strings.HasSuffix(got.altSvc[0], "; ma=60") {
		t.Errorf("in force: %+v", got)
	}
	if got := l.Certificate().Subject.CommonName; got != "Spillway self-signed" {
		t.Errorf("certificate of %q", got)
	}
	next.Limits.Streams = 2
	if err := l.Reload(next, nil); err == nil || !strings.HasPrefix(err.Error(), "limits.streams cannot change") {
		t.Errorf("error %v", err)
	}
}

func TestListenDisablesOffloads(t *testing.T) {
	f := func(c HTTP3Config, gso, ecn string) {
		t.Helper()
		t.Setenv("QUIC_GO_DISABLE_GSO", "")
		t.Setenv("QUIC_GO_DISABLE_ECN", "")
		if err := disableOffloads(c); err != nil {
			t.Fatal(err)
		}
		if g, e := os.Getenv("QUIC_GO_DISABLE_GSO"), os.Getenv("QUIC_GO_DISABLE_ECN"); g != gso || e != ecn {
			t.Errorf("%+v: GSO %q, ECN %q", c, g, e)
		}
	}
	f(HTTP3Config{GSO: true, ECN: true}, "", "")
	f(HTTP3Config{ECN: true}, "true", "")
	f(HTTP3Config{GSO: true}, "", "true")
}

func TestListenShutdownWithoutRun(t *testing.T) {
	c := Config{Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", TLS: TLSConfig{SelfSigned: true}, HTTP3: HTTP3Config{Enabled: true}}
	l, err := NewListeners(c, testSteering(t), nil, admit.New(admit.Config{}, 1), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if l.HTTPAddr() == nil || port(l.Addr()) == 0 {
		t.Errorf("addresses %v and %v", l.HTTPAddr(), l.Addr())
	}
	for range 2 {
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := l.Run(t.Context()); err != nil {
		t.Errorf("run after shutdown: %v", err)
	}
}

// A request that was read before its connection was closed, and whose goroutine begins when
// the shutdown is over, comes to no handler: what that needs may be gone.
func TestListenBeginsNothingAfterShutdown(t *testing.T) {
	begun := false
	c := Config{Listen: "127.0.0.1:0", HTTP: "off", TLS: TLSConfig{SelfSigned: true}}
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { begun = true })
	l, err := NewListeners(c, testSteering(t), nil, admit.New(admit.Config{}, 1), h, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), connectionKey{}, &connection{tcp: remoteConn{}}))
	l.ServeHTTP(httptest.NewRecorder(), r)
	if !begun {
		t.Fatal("no handler before the shutdown")
	}
	if err := l.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	begun = false
	l.ServeHTTP(httptest.NewRecorder(), r)
	if begun {
		t.Error("a handler after the shutdown")
	}
}

// nothing is a ResponseWriter at no cost.
type nothing struct{ header http.Header }

func (n nothing) Header() http.Header               { return n.header }
func (nothing) WriteHeader(int)                     {}
func (nothing) Write(p []byte) (int, error)         { return len(p), nil }
func (nothing) SetWriteDeadline(_ time.Time) error  { return nil }
func (nothing) SetReadDeadline(_ time.Time) error   { return nil }
func (nothing) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }

// BenchmarkGuard measures what the listeners add to a request with a small
// answer, apart from the protocol's own work.
func BenchmarkGuard(b *testing.B) {
	body := make([]byte, 1024)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
	for _, proto := range []int{1, 2, 3} {
		b.Run(map[int]string{1: "h1", 2: "h2", 3: "h3"}[proto], func(b *testing.B) {
			l := &Listeners{handler: h}
			l.rules.Store(&rules{stall: 30 * time.Second, step: 1 << 18, bodyBytes: 1 << 20, altSvc: []string{"x"}})
			c := &connection{}
			r := httptest.NewRequest("GET", "/", nil)
			r.ProtoMajor = proto
			r = r.WithContext(context.WithValue(r.Context(), connectionKey{}, c))
			w := nothing{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				l.ServeHTTP(w, r)
			}
		})
	}
}
