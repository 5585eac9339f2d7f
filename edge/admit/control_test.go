package admit

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

// idle reads a machine at rest.
func idle() gauges {
	return gauges{
		cpu: func() time.Duration { return 0 }, delay: func() time.Duration { return 0 }, memory: func() float64 { return 0 },
	}
}

// governed runs a Controller in virtual time. The log is what it said; it may be read
// after synctest.Wait.
func governed(t *testing.T, around Surroundings) (*Controller, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	around.Log = slog.New(slog.NewTextHandler(log, nil))
	c := New(config(), 2)
	c.control.senses.gauges = idle()
	c.Use(around)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return c, log
}

// pass lets time pass, and the Controller do what is due.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestKernelHearsTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, log := governed(t, Surroundings{Kernel: k})
		pass(10 * time.Second)
		if s := c.State(); s.Mode != Generic || s.Heartbeat > .3 || s.Heartbeat < 0 || k.beats < 50 {
			t.Errorf("mode %s, heartbeat %v, %d beats", s.Mode, s.Heartbeat, k.beats)
		}
		if k.policy.Level != Normal || k.policy.Stale != stale || !k.policy.Enforce || k.policy.Source.PerSecond != 200 {
			t.Errorf("policy %+v", k.policy)
		}
		if n := strings.Count(log.String(), "judged in the kernel"); n != 1 {
			t.Errorf("said %d times:\n%s", n, log)
		}
	})
}

// A pass that does not end sends no heartbeat, so that the kernel passes everything.
func TestHungPassSendsNoHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		stuck := make(chan struct{})
		spent := func() bool {
			<-stuck
			return false
		}
		c := New(config(), 2)
		c.control.senses.gauges = idle()
		c.Use(Surroundings{Kernel: k, Spent: spent, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		pass(10 * time.Second)
		if k.beats != 0 {
			t.Errorf("%d heartbeats", k.beats)
		}
		close(stuck)
		pass(time.Second)
		if k.beats == 0 {
			t.Error("no heartbeat afterwards")
		}
		stop()
		<-ended
	})
}

// A machine that stood still for a moment is not overloaded; one where work waits for
// several beats in a row is.
func TestStallRaisesNoLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := governed(t, Surroundings{})
		delay := func(d time.Duration) {
			c.control.mu.Lock()
			defer c.control.mu.Unlock()
			c.control.senses.gauges.delay = func() time.Duration { return d }
		}
		f := func(beats int, want Level) {
			t.Helper()
			delay(time.Second)
			pass(time.Duration(beats) * beat)
			delay(0)
			if s := c.State(); s.Level != want {
				t.Errorf("level %s after %d beats, want %s", s.Level, beats, want)
			}
			pass(time.Second)
		}
		pass(time.Second)
		f(1, Normal)
		f(2, Normal)
		f(3, Closed)
	})
}

// Origins that are saturated raise nothing; together with spent functions they do,
// after a second of it.
func TestSpentRaisesTheLevelWhenItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var spent atomic.Bool
		c, _ := governed(t, Surroundings{Spent: spent.Load})
		pass(time.Minute)
		if s := c.State(); s.Level != Normal {
			t.Errorf("level %s without a cause", s.Level)
		}
		spent.Store(true)
		pass(500 * time.Millisecond)
		if s := c.State(); s.Level != Normal {
			t.Errorf("level %s after half a second", s.Level)
		}
		pass(time.Second)
		if s := c.State(); s.Level != Shedding || s.Why == "" {
			t.Errorf("level %s, %q", s.Level, s.Why)
		}
		spent.Store(false)
		pass(hold + 2*beat)
		if s := c.State(); s.Level != Guarded {
			t.Errorf("level %s after the hold time", s.Level)
		}
		pass(hold)
		if s := c.State(); s.Level != Normal {
			t.Errorf("level %s after twice the hold time", s.Level)
		}
	})
}

func TestOperatorHoldsTheLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		if err := c.SetLevel(Closed+1, time.Now().Add(time.Hour)); err == nil {
			t.Error("a level that there is not")
		}
		if err := c.SetLevel(Guarded, time.Now().Add(10*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if s := c.State(); s.Level != Guarded || s.PinnedUntil.IsZero() || k.policy.Level != Guarded {
			t.Errorf("at once: %s, the kernel's %s", s.Level, k.policy.Level)
		}
		if !c.Retry(v4(1)) {
			t.Error("guarded, and no Retry")
		}
		pass(9 * time.Minute)
		if s := c.State(); s.Level != Guarded {
			t.Errorf("level %s", s.Level)
		}
		pass(2 * time.Minute)
		if s := c.State(); s.Level != Normal || !s.PinnedUntil.IsZero() {
			t.Errorf("level %s", s.Level)
		}
		if c.Retry(v4(1)) {
			t.Error("Retry afterwards")
		}
		_ = c.SetLevel(Closed, time.Now().Add(time.Hour))
		_ = c.SetLevel(Normal, time.Time{})
		if s := c.State(); s.Level != Normal {
			t.Errorf("level %s after the pin was taken out", s.Level)
		}
	})
}

// Where the kernel judges it has charged, so that a completed handshake gives back and
// makes known there, once; and who owes there must prove its address.
func TestHandshakesSettleWithTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		for _, connect := range []func() (*Handshake, outcome.Reason){
			func() (*Handshake, outcome.Reason) { return c.Connect(from(1), false) },
			func() (*Handshake, outcome.Reason) { return c.ConnectTCP(from(1)) },
		} {
			h, why := connect()
			if why != outcome.None || (h.receipt != 0) != h.source.Proved {
				t.Errorf("refused for %q, charged %d", why, h.receipt)
			}
			h.Done()
			h.Done()
			h.Close()
		}
		if k.refunds != 2 || k.known != 2 {
			t.Errorf("%d refunds, %d times known; want 2", k.refunds, k.known)
		}
		h, _ := c.ConnectTCP(from(1))
		h.Through(v4(9))
		h.Done()
		if k.refunded != v4(9) {
			t.Errorf("refunded to %s, and the proxy was charged", k.refunded)
		}
		k.owes[v4(1)] = softDebt
		if !c.Retry(v4(1)) || c.Retry(v4(2)) {
			t.Error("Retry is not for who owes more than soft")
		}
		h, _ = c.Connect(from(3), true)
		h.Done()
		h.Cost(3 * time.Second)
		if k.owes[v4(3)] != 3*time.Second {
			t.Errorf("costs: %v", k.owes[v4(3)])
		}
	})
}

// The kernel lets in who answers a Retry. Who does so again and again and completes
// nothing is kept out here, but not those who complete theirs.
func TestProvenSourcesPayForThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		c.maxHalf = 1 << 20
		f := func(name string, a netip.AddrPort, complete bool, least, most int) {
			t.Helper()
			n := 0
			for range 5000 {
				h, why := c.Connect(a, true)
				if why != outcome.None {
					continue
				}
				n++
				if complete {
					h.Done()
				}
				h.Close()
			}
			if n < least || n > most {
				t.Errorf("%s: %d get in, want %d to %d", name, n, least, most)
			}
		}
		f("normal", from(1), false, 5000, 5000)
		_ = c.SetLevel(Guarded, time.Now().Add(time.Hour))
		f("guarded", from(2), false, 2000, 2002)
		f("completing", from(3), true, 5000, 5000)
		if err := c.SetRule(Rule{Prefix: netip.PrefixFrom(v4(4), 32), Allow: true}); err != nil {
			t.Fatal(err)
		}
		f("allowed", from(4), false, 5000, 5000)
	})
}

// A pass takes the machine's gauges and decides, without a kernel.
func BenchmarkPass(b *testing.B) {
	c := New(config(), 2)
	for b.Loop() {
		c.pass()
	}
}
