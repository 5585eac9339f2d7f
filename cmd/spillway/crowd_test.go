package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"spillway/cmd/surge/crowd"
	"spillway/cmd/surge/functions"
	bench "spillway/cmd/surge/origin"
	"spillway/cmd/surge/wan"
	"spillway/config"
	"spillway/edge/admit"
	"spillway/edge/outcome"
)

// A scene is a node with an origin of known capacity and functions behind it,
// all of them listening on loopback.
type scene struct {
	*node
	origin *bench.Origin
	addr   string
}

// The scene's origin serves ten requests a second: few enough that a busy machine
// under the race detector keeps up with a crowd of four times that.
const (
	sceneSlots    = 4
	sceneService  = 400 * time.Millisecond
	sceneCapacity = 10.0
)

// newScene starts one. What is said of the origin besides is appended to its configuration.
func newScene(t *testing.T, origin string) *scene {
	t.Helper()
	o, err := bench.New(bench.Config{Slots: sceneSlots, Service: sceneService})
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(functions.Config{Platform: "lambda", Service: 20 * time.Millisecond, ColdStart: 100 * time.Millisecond, Body: 8 << 10})
	if err != nil {
		t.Fatal(err)
	}
	originServer, functionServer := httptest.NewServer(o), httptest.NewServer(f)
	t.Cleanup(originServer.Close)
	t.Cleanup(functionServer.Close)
	dir := t.TempDir()
	file := fmt.Sprintf(`
listen: 127.0.0.1:0
http: off
admin: unix:%s/a.sock
state: ""
log: {access: off}
tls: {self_signed: true}
budgets: {spill: {per_hour: $1}}
origins: {app: {servers: [%q]%s}}
functions: {thumb: {provider: web, url: %q, budget: spill, price: {platform: aws-lambda}}}
sites: [{hosts: [localhost], routes: [{origin: app, overflow: {to: [thumb]}}]}]
`, dir, originServer.URL, origin, functionServer.URL)
	c, err := config.Parse(filepath.Join(dir, "spillway.yaml"), []byte(file), nil)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := runNode(t, c)
	// How strict admission is depends on what else keeps the machine busy.
	if err := n.admit.SetLevel(admit.Normal, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return &scene{node: n, origin: o, addr: n.listeners.Addr().String()}
}

// runNode runs a node until stop is called, or else until the end of the test.
func runNode(t *testing.T, c *config.Config) (n *node, stop func()) {
	t.Helper()
	n, err := build(c, "spillway.yaml", new(inheritance), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

// send sends a crowd and checks that nothing of it got lost in the counting.
func (s *scene) send(t *testing.T, c crowd.Config, phases string) crowd.Result {
	t.Helper()
	var err error
	if c.Phases, err = crowd.ParsePhases(phases, sceneCapacity); err != nil {
		t.Fatal(err)
	}
	c.Insecure, c.Addresses, c.Seed, c.Timeout = true, crowd.CarrierNAT, 1, 30*time.Second
	if c.Connect == "" {
		c.Connect = s.addr
	}
	generator, err := crowd.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r, err := generator.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, n := range r.Outcomes {
		sum += n
	}
	for _, n := range r.ClientErrors {
		sum += n
	}
	if r.Offered != r.Answered+r.Errors || sum != r.Offered {
		t.Errorf("offered %d, answered %d, errors %d, outcomes %d", r.Offered, r.Answered, r.Errors, sum)
	}
	return r
}

// TestCrowd sends a crowd of four times the origin's capacity, over each
// protocol.
func TestCrowd(t *testing.T) {
	for _, protocol := range []string{crowd.H1, crowd.H2, crowd.H3} {
		t.Run(protocol, func(t *testing.T) {
			s := newScene(t, "")
			r := s.send(t, crowd.Config{
				Protocol: protocol,
				URLs: []string{
					"https://localhost/shared?cache=60&bytes=4096",
					"https://localhost/own/{visitor}?bytes=4096",
				},
			}, "0.5x:2s,4x:8s")
			if r.Errors != 0 {
				t.Errorf("%d of %d failed: %v, %v, %v", r.Errors, r.Offered, r.Outcomes, r.Reasons, r.ClientErrors)
			}
			// Nobody is refused for sharing an address, and every place is used.
			if r.Outcomes[string(outcome.Refused)] != 0 {
				t.Errorf("refused %d visitors: %v", r.Outcomes[string(outcome.Refused)], r.Reasons)
			}
			for _, o := range []outcome.Outcome{outcome.Hit, outcome.Function} {
				if r.Outcomes[string(o)] == 0 {
					t.Errorf("no %s among %v", o, r.Outcomes)
				}
			}
			if r.Outcomes[string(outcome.Origin)]+r.Outcomes[string(outcome.Queued)] == 0 {
				t.Errorf("the origin answered nothing: %v", r.Outcomes)
			}
			until(t, "rest", func() bool {
				l := s.parts.origins["app"].Limiter().State()
				return l.InFlight == 0 && l.Queued == 0
			})
			if cost := s.parts.functions["thumb"].State().CostUSD; cost <= 0 {
				t.Error("functions cost nothing")
			}
		})
	}
}

// left is how many requests were not answered by the origin or the cache.
func left(r crowd.Result) int64 {
	stayed := r.Outcomes[string(outcome.Origin)] + r.Outcomes[string(outcome.Queued)] +
		r.Outcomes[string(outcome.Hit)] + r.Outcomes[string(outcome.Collapsed)]
	return r.Offered - stayed
}

// TestSlowVisitorsHoldNoPermit sends half of what the origin can do, over a network of
// 80 ms and with every other visitor on 16 KiB a second: the origin is half idle, so that
// nothing may leave it. Some forty answers are under way at a time, of which the limit
// would let twelve hold a permit.
func TestSlowVisitorsHoldNoPermit(t *testing.T) {
	s := newScene(t, ", limit: {max: 12}")
	relay, err := wan.New(wan.Config{
		Listen: "127.0.0.1:0", To: s.addr, RTT: 80 * time.Millisecond, Rate: 16 << 10, Slow: 0.5,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	r := s.send(t, crowd.Config{
		URLs: []string{"https://localhost/own/{visitor}?bytes=262144"}, Connect: relay.Addr().String(),
		// A relay tells flows apart by their sockets.
		OwnSockets: true,
	}, "0.5x:16s")
	if n := left(r); n*20 > r.Offered {
		t.Errorf("%d of %d left an idle origin: %v, %v, %v", n, r.Offered, r.Outcomes, r.Reasons, r.ClientErrors)
	}
}

// TestEventStreamsHoldNoPermit keeps 200 event streams open through a crowd of
// half of what the origin can do. If they held permits, all of it would leave; on
// a busy machine some requests may for other reasons: those of a stall come together.
func TestEventStreamsHoldNoPermit(t *testing.T) {
	s := newScene(t, "")
	r := s.send(t, crowd.Config{
		URLs: []string{"https://localhost/own/{visitor}?bytes=4096"},
		// Opening a stream costs the origin a hundredth of a request.
		Hold: 200, HoldURL: "https://localhost/events?every=1s&slow=0.01",
	}, "0.5x:10s")
	if n := left(r); n > r.Offered/2 {
		t.Errorf("%d of %d left an idle origin: %v, %v, %v", n, r.Offered, r.Outcomes, r.Reasons, r.ClientErrors)
	}
	// They come at once: a stall of the machine sheds some. Permits there are a few dozen.
	shed := 200 - r.Held.Opened
	if shed > 100 || r.Held.Errors["shed"] != int64(shed) || r.Held.OpenAtEnd != r.Held.Opened {
		t.Errorf("of 200 event streams %d were opened, and %d were open at the end: %v", r.Held.Opened, r.Held.OpenAtEnd, r.Held.Errors)
	}
}
