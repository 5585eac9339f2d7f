package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

// reconfigure changes the configuration in force.
func (o *Origin) reconfigure(t testing.TB, change func(*Config)) {
	t.Helper()
	c := *o.config.Load()
	change(&c)
	apply, err := o.Prepare(c)
	if err != nil {
		t.Fatal(err)
	}
	apply()
}

// TestReconfigureKeeps: what was learned and counted stays with the origin and
// with the servers that stay, and so do connections that nothing made worse.
func TestReconfigureKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://a", "http://b", "http://broken"}})
		dials := map[string]int{}
		servers := network{"a": says(true, ok+"Content-Length: 0\r\n\r\n"), "b": says(true, ok+"Content-Length: 0\r\n\r\n"), "c": says(true, ok+"Content-Length: 0\r\n\r\n")}
		o.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials[addr]++
			return servers.dial(ctx, network, addr)
		}
		for range 100 { // by chance, and enough for five to meet the broken one
			if _, err := o.ask(t); err != nil {
				t.Fatal(err)
			}
		}
		before := o.State()
		o.reconfigure(t, func(c *Config) {
			c.Servers = []string{"http://a", "http://c", "http://broken"}
			c.ReadAhead.Total, c.LongLived = 32<<10, 1
		})
		after := o.State()
		if after.OK != before.OK || after.Servers[0] != before.Servers[0] || after.Servers[2].Breaker != "open" {
			t.Errorf("before %+v\nafter %+v", before, after)
		}
		if o.buffers.total.Load() != 32<<10 {
			t.Error("the memory is bounded as before")
		}
		for range 50 {
			if _, err := o.ask(t); err != nil {
				t.Fatal(err)
			}
		}
		if dials["a:80"] != 1 || dials["c:80"] != 1 {
			t.Errorf("dialed %v", dials)
		}
		o.reconfigure(t, func(c *Config) { c.Timeout = time.Second })
		for range 50 {
			if _, err := o.ask(t); err != nil {
				t.Fatal(err)
			}
		}
		if dials["a:80"] != 2 || dials["b:80"] != 1 {
			t.Errorf("after a change of the timeout: dialed %v", dials)
		}
	})
}

// TestReconfigureRefused: a configuration that does not pass changes nothing.
func TestReconfigureRefused(t *testing.T) {
	o := newOrigin(t, Config{Servers: []string{"http://a"}})
	c := *o.config.Load()
	c.Servers, c.TLS.CA = []string{"http://b"}, "/nowhere/ca.pem"
	if _, err := o.Prepare(c); err == nil || !strings.Contains(err.Error(), "origin test: tls.ca") {
		t.Error(err)
	}
	c.Servers, c.TLS.CA = []string{"gopher://b"}, ""
	if _, err := o.Prepare(c); err == nil {
		t.Error("no error")
	}
	if s := o.State(); len(s.Servers) != 1 || s.Servers[0].URL != "http://a" {
		t.Errorf("%+v", s)
	}
}

// TestReconfigureInFlight: a request goes on under the configuration and on the
// server that it began with. A server that is gone ends it and gets no other.
func TestReconfigureInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://gone"}, Timeout: 10 * time.Second})
		o.dial = network{
			"gone": requests(func(c net.Conn, r *http.Request) bool {
				time.Sleep(5 * time.Second)
				io.WriteString(c, ok+"Content-Length: 3\r\n\r\n")
				time.Sleep(5 * time.Second)
				io.WriteString(c, "abc")
				return true
			}),
			"new": says(true, ok+"Content-Length: 0\r\n\r\n"),
		}.dial
		var log bytes.Buffer
		o.pool.log = slog.New(slog.NewTextHandler(&log, nil))
		var wg sync.WaitGroup
		wg.Go(func() {
			resp, err := o.ask(t)
			if got := bodyOf(t, resp, err); got != "abc" {
				t.Errorf("got %q", got)
			}
		})
		time.Sleep(time.Second)
		gone := o.pool.all()[0]
		o.reconfigure(t, func(c *Config) { c.Servers, c.Timeout = []string{"http://new"}, time.Second })
		for range 10 {
			if _, err := o.ask(t); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		if n := gone.requests.Load(); n != 1 || gone.inFlight.Load() != 0 {
			t.Errorf("%d requests, %d in flight at the server that is gone", n, gone.inFlight.Load())
		}
		for range 2 * streakToOpen { // late news about it concern nobody
			o.pool.failed(gone, false)
		}
		if log.Len() > 0 {
			t.Errorf("logged %s", &log)
		}
		o.checkRest(t)
	})
}

// TestReconfigureWhileRunning: probes go to the servers of the configuration in
// force, and what they found is void when they end.
func TestReconfigureWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://a", "http://b"}, Health: HealthConfig{Path: "/"}})
		o.dial = network{"a": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
		ctx, stop := contextOf(t)
		done := make(chan error)
		go func() { done <- o.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if s := o.State(); s.Servers[0].Probe != "ok" || s.Servers[1].Probe != "failing" {
			t.Errorf("%+v", s.Servers)
		}
		o.reconfigure(t, func(c *Config) { c.Servers = []string{"http://b", "http://c"} })
		time.Sleep(10 * time.Second)
		if s := o.State(); s.Servers[0].Probe != "failing" || s.Servers[1].Probe != "failing" {
			t.Errorf("%+v", s.Servers)
		}
		o.reconfigure(t, func(c *Config) { c.Health.Path = "" })
		time.Sleep(time.Second)
		if s := o.State(); s.Servers[0].Probe != "ok" || s.Servers[1].Probe != "ok" || !s.Up {
			t.Errorf("%+v", s.Servers)
		}
		stop()
		<-done
	})
}

// TestReconfigureUnderLoad changes everything all the time. No request fails.
func TestReconfigureUnderLoad(t *testing.T) {
	a, _ := serverOf(t, "http", echoes)
	b, _ := serverOf(t, "h2c", echoes)
	o := newOrigin(t, Config{Servers: []string{a}})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p, ok := o.limiter.Acquire(0, 1)
				if !ok {
					t.Error("no permit")
					return
				}
				resp, err := o.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), p)
				if err != nil {
					t.Error(err)
					return
				}
				if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(body), "HTTP/") {
					t.Errorf("%q %v", body, err)
				}
				resp.Body.Close()
			}
		})
	}
	for i := range 200 {
		o.reconfigure(t, func(c *Config) {
			c.Servers = [][]string{{a}, {a, b}, {b}}[i%3]
			c.Timeout = time.Duration(20+i%2) * time.Second
			c.LongLived = 1 + i
		})
		o.relink(o.pool.all()[0])
	}
	close(stop)
	wg.Wait()
	o.checkRest(t)
}

// TestDrain: a drained server ends what it has and gets nothing more, unless it
// is the last one.
func TestDrain(t *testing.T) {
	o := newOrigin(t, Config{Servers: []string{"http://a", "http://b"}})
	drain := func(server string, on bool) {
		t.Helper()
		if err := o.Drain(server, on); err != nil {
			t.Fatal(err)
		}
	}
	f := func(what string, a, b bool) {
		t.Helper()
		got := o.pool.shares(200, false)
		if (got["http://a"] > 0) != a || (got["http://b"] > 0) != b {
			t.Errorf("%s: %v", what, got)
		}
	}
	drain("http://a", true)
	f("one drained", false, true)
	if s := o.State(); !s.Servers[0].Draining || s.Servers[1].Draining || !s.Up {
		t.Errorf("%+v", s)
	}
	o.reconfigure(t, func(c *Config) { c.LongLived = 5 })
	f("after a reload", false, true)
	for range probesToFail {
		o.pool.probed(o.pool.named("http://b"), errStalled)
	}
	f("the other is sick", true, false)
	for range probesToRecover {
		o.pool.probed(o.pool.named("http://b"), nil)
	}
	f("the other is back", false, true)
	drain("http://b", true)
	f("all drained", true, true)
	drain("http://b", false)
	f("one is back", false, true)
	drain("http://a", false)
	f("none", true, true)
	if err := o.Drain("http://c", true); err == nil || !strings.Contains(err.Error(), `no server "http://c"`) {
		t.Error(err)
	}
}

// TestDrainBroken: a drained server is not tried while others are there, and the
// only one is.
func TestDrainBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{"http://a", "http://b", "http://c"}})
		o.dial = network{"b": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
		o.Drain("http://a", true)
		for range streakToOpen {
			o.pool.failed(o.pool.named("http://a"), false)
			o.pool.failed(o.pool.named("http://c"), false)
		}
		time.Sleep(time.Hour)
		for range 20 {
			if _, err := o.ask(t); err != nil {
				t.Fatal(err)
			}
		}
		if s := o.State().Servers; s[0].Requests != 0 || s[2].Requests == 0 {
			t.Errorf("%d requests to a drained server, %d to a broken one", s[0].Requests, s[2].Requests)
		}
		for range probesToFail {
			o.pool.probed(o.pool.named("http://b"), errStalled)
			o.pool.probed(o.pool.named("http://c"), errStalled)
		}
		_, err := o.ask(t)
		checkFailure(t, err, outcome.OriginDown, false)
		if failure := (*Error)(nil); !errors.As(err, &failure) || errors.Is(err, errNoServer) {
			t.Error("the last server was not tried")
		}
	})
}
