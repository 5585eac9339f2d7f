package origin

import (
	"testing"
	"time"

	"spillway/edge/synctest"
)

// shares counts where n requests would go that all stay in flight, or end at
// once.
func (p *pool) shares(n int, stay bool) map[string]int {
	got := map[string]int{}
	for range n {
		s, _ := p.pick(nil, false)
		got[s.address.text]++
		if stay {
			s.inFlight.Add(1)
		}
	}
	for _, s := range p.all() {
		s.inFlight.Store(0)
	}
	return got
}

// TestSlowStart: a server that comes back, or comes new, gets a tenth of its
// share at first and all of it at the end, whether much is in flight or nothing.
func TestSlowStart(t *testing.T) {
	f := func(name string, come func(t *testing.T, o *Origin)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{Servers: []string{"http://a", "http://b"}, SlowStart: 10 * time.Second})
				come(t, o)
				for _, tt := range []struct {
					after       time.Duration
					least, most int // of 1000 for b; half is its share
				}{{0, 10, 170}, {5 * time.Second, 150, 600}, {5 * time.Second, 400, 600}} {
					time.Sleep(tt.after)
					for _, stay := range []bool{false, true} {
						if got := o.pool.shares(1000, stay)["http://b"]; got < tt.least || got > tt.most {
							t.Errorf("%v more, stay %v: %d of 1000", tt.after, stay, got)
						}
					}
				}
				if o.pool.named("http://b").cold.Load() != 0 {
					t.Error("still cold")
				}
			})
		})
	}
	f("probes", func(t *testing.T, o *Origin) {
		b := o.pool.named("http://b")
		for range probesToFail {
			o.pool.probed(b, errStalled)
		}
		for range probesToRecover {
			o.pool.probed(b, nil)
		}
	})
	f("breaker", func(t *testing.T, o *Origin) {
		b := o.pool.named("http://b")
		for range streakToOpen {
			o.pool.failed(b, false)
		}
		time.Sleep(2 * time.Second)
		if s, trial := o.pool.pick(nil, true); s != b || !trial {
			t.Fatal("no trial")
		}
		o.pool.succeeded(b, true)
	})
	f("new", func(t *testing.T, o *Origin) {
		o.reconfigure(t, func(c *Config) { c.Servers = []string{"http://a"} })
		o.reconfigure(t, func(c *Config) { c.Servers = []string{"http://a", "http://b"} })
	})
	f("drained", func(t *testing.T, o *Origin) {
		o.Drain("http://b", true)
		o.Drain("http://b", false)
	})
}

// TestSlowStartOfAll: servers that come instead of all others take their full
// shares at once.
func TestSlowStartOfAll(t *testing.T) {
	o := newOrigin(t, Config{Servers: []string{"http://a"}, SlowStart: time.Minute})
	f := func(server string, cold bool, servers ...string) {
		t.Helper()
		o.reconfigure(t, func(c *Config) { c.Servers = servers })
		if got := o.pool.named(server).cold.Load() != 0; got != cold {
			t.Errorf("%s of %v: cold %v", server, servers, got)
		}
	}
	f("http://b", false, "http://b", "http://c")
	f("http://d", true, "http://c", "http://d")
	f("http://c", false, "http://c", "http://d")
}

// TestSlowStartAlone: a cold server without others gets everything.
func TestSlowStartAlone(t *testing.T) {
	o := newOrigin(t, Config{Servers: []string{"http://a"}, SlowStart: time.Hour})
	o.reconfigure(t, func(c *Config) { c.Servers = []string{"http://b"} })
	if got := o.pool.shares(10, true)["http://b"]; got != 10 {
		t.Errorf("%d of 10", got)
	}
	fresh := newOrigin(t, Config{Servers: []string{"http://a", "http://b"}, SlowStart: time.Hour})
	if got := fresh.pool.shares(1000, true)["http://b"]; got < 400 || got > 600 {
		t.Errorf("at the start: %d of 1000", got)
	}
}
