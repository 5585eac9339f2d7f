package admit

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

func config() Config {
	return Config{Enforce: true, HandshakesPerCore: 500, HalfOpen: 1000, Connections: 100_000, InFlight: 1000}
}

func v4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func from(n uint32) netip.AddrPort { return netip.AddrPortFrom(v4(n), 1234) }

// A carrier's one address completes far more handshakes than any limit, in any
// order of beginning and completing, while the node is short: nobody is
// refused.
func TestCompletedHandshakesAreNeverLimited(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := config()
		c.HalfOpen = 200 // short from 100 on
		c.HandshakesPerCore = 1
		k := New(c, 1)
		var open []*Handshake
		for range rapid.IntRange(1, 8000).Draw(t, "visitors") {
			if len(open) > 150 || len(open) > 0 && rapid.Bool().Draw(t, "complete") {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				open[i].Done()
				open = append(open[:i], open[i+1:]...)
			}
			h, why := k.Connect(from(1), true)
			if why != outcome.None {
				t.Fatalf("refused: %s, %+v", why, k.State())
			}
			open = append(open, h)
		}
	})
}

func TestFloodOfHalfOpenFromOneSourceIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(config(), 2)
		const flooder, others = 1, 1000
		refused := 0
		for range 20 { // 2 s of 10,000 a second that never complete
			for range 1000 {
				if _, why := k.Connect(from(flooder), true); why != outcome.None {
					refused++
				}
			}
			// Meanwhile visitors come from elsewhere and complete.
			for n := range uint32(20) {
				h, why := k.Connect(from(others+n), true)
				if why != outcome.None {
					t.Fatalf("a visitor from elsewhere was refused: %+v", k.State())
				}
				h.Done()
			}
			time.Sleep(100 * time.Millisecond)
		}
		s := k.State()
		if refused < 15_000 {
			t.Errorf("%d of 20000 refused", refused)
		}
		if s.RefusedSource != uint64(refused) || s.RefusedFull+s.RefusedHalfOpen != 0 {
			t.Errorf("refused for something else than the source: %+v", s)
		}
		if s.HalfOpen >= halfOpenFactor*s.HalfOpenLimit {
			t.Errorf("one source fills the node: %+v", s)
		}
	})
}

// Connections that nobody finished are forgiven with time.
func TestDebtDecays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(config(), 2)
		var open []*Handshake
		for range 3000 {
			if h, why := k.Connect(from(1), true); why == outcome.None {
				open = append(open, h)
			}
		}
		if _, why := k.Connect(from(1), true); why != outcome.TooManyRequests {
			t.Fatalf("not limited: %+v", k.State())
		}
		for _, h := range open[:len(open)/2] {
			h.Close()
		}
		time.Sleep(15 * time.Second)
		if _, why := k.Connect(from(1), true); why != outcome.None {
			t.Errorf("still limited: %+v", k.State())
		}
	})
}

// Nobody is limited while the node has enough of everything, whatever a source
// has failed.
func TestNobodyIsLimitedWithoutShortage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(config(), 2)
		for range 10_000 {
			h, why := k.Connect(from(1), true)
			if why != outcome.None {
				t.Fatalf("refused: %+v", k.State())
			}
			h.Fail()
			h.Close()
			time.Sleep(2 * time.Millisecond) // below the node's rate, above the source's
		}
		if k.Retry(v4(1)) {
			t.Error("must prove its address")
		}
	})
}

// Forged packets with a victim's address send the victim to Retry at most.
func TestForgedAddressesDoNotRefuseTheVictim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(config(), 2)
		for range 3000 {
			k.Connect(from(1), false)
		}
		if !k.Retry(v4(1)) {
			t.Error("the victim need not prove its address")
		}
		if _, why := k.Connect(from(1), true); why != outcome.None {
			t.Errorf("the victim, having proved its address, is refused: %+v", k.State())
		}
	})
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(config(), 2)
		if k.Retry(v4(1)) {
			t.Error("the first visitor must prove its address")
		}
		// Faster than 500 a second on each of two cores.
		for range 200 {
			h, _ := k.Connect(from(1), false)
			h.Done()
		}
		if !k.Retry(v4(2)) {
			t.Error("too many handshakes, and no Retry")
		}
		time.Sleep(time.Second)
		if k.Retry(v4(2)) {
			t.Error("Retry a second later")
		}
		// Slowly, and none complete.
		for n := range uint32(1001) {
			k.Connect(from(n), false)
			time.Sleep(2 * time.Millisecond)
		}
		if !k.Retry(v4(5000)) {
			t.Errorf("too many half open, and no Retry: %+v", k.State())
		}
	})
}

// A flood is asked for its address from its first moment on: as long as it lasts, hardly
// anybody begins a handshake unproved, though the node be too busy to look all the time.
func TestRetryForAsLongAsTooManyAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New(config(), 2)
		begun := 0
		for n := range uint32(2000) {
			if !k.Retry(v4(n)) {
				k.Connect(from(n), false)
				begun++
			}
			time.Sleep(100 * time.Microsecond)
			if n%500 == 499 {
				time.Sleep(100 * time.Millisecond) // busy with handshakes
			}
		}
		if begun > 100 { // what comes at once, and not 500 a second on each core besides
			t.Errorf("%d of 2000 handshakes began", begun)
		}
		time.Sleep(time.Second)
		if k.Retry(v4(1)) {
			t.Error("Retry a second after the flood")
		}
	})
}

func TestShort(t *testing.T) {
	f := func(enforce bool) {
		t.Helper()
		k := New(Config{Enforce: enforce, HandshakesPerCore: 500, HalfOpen: 2}, 1)
		for i, want := range []bool{false, false, enforce} {
			if got := k.Short(); got != want {
				t.Errorf("enforced %v, %d half open: short %v", enforce, i, got)
			}
			k.Connect(netip.MustParseAddrPort("192.0.2.1:1"), true)
		}
	}
	f(true)
	f(false)
}

func TestFullNodeRefusesAll(t *testing.T) {
	c := config()
	c.Connections = 3
	k := New(c, 1)
	var last *Handshake
	for n := range uint32(3) {
		last, _ = k.Connect(from(n), true)
		last.Done()
	}
	if _, why := k.Connect(from(9), true); why != outcome.TooManyRequests {
		t.Errorf("reason %q", why)
	}
	last.Close()
	last.Close()
	if _, why := k.Connect(from(9), true); why != outcome.None {
		t.Errorf("refused with room for one: %q", why)
	}
	if _, why := k.Connect(from(9), true); why == outcome.None {
		t.Error("closing twice made room for two")
	}
}

func TestWithoutEnforcementAllIsCountedAndNothingRefused(t *testing.T) {
	c := config()
	c.Enforce, c.Connections, c.HalfOpen, c.InFlight = false, 1, 1, 1
	k := New(c, 1)
	for range 10 {
		if _, why := k.Connect(from(1), true); why != outcome.None {
			t.Fatal("refused")
		}
		if k.Retry(v4(1)) {
			t.Fatal("Retry")
		}
		if why := k.Enter(v4(1)); why != outcome.None {
			t.Fatal("refused")
		}
	}
	if s := k.State(); s.RefusedFull != 9 || s.Retries == 0 || s.RefusedRequests == 0 {
		t.Errorf("state %+v", s)
	}
}

// Whatever happens in whatever order, the counts balance in the end, and no
// source is left with a debt that it does not owe.
func TestCountsBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := New(config(), 1)
		var open []*Handshake
		act := rapid.SliceOf(rapid.IntRange(0, 5)).Draw(t, "acts")
		for i, a := range act {
			if a < 2 || len(open) == 0 {
				if h, why := k.Connect(from(uint32(i%7)), a == 0); why == outcome.None {
					open = append(open, h)
				}
				continue
			}
			h := open[i%len(open)]
			switch a {
			case 2:
				h.Done()
			case 3:
				h.Fail()
			default:
				h.Close()
			}
		}
		for _, h := range open {
			h.Close()
			h.Done()
		}
		s := k.State()
		if s.Connections != 0 || s.HalfOpen != 0 || s.Completed+s.Failed != s.Started || int(s.Started) != len(open) {
			t.Fatalf("state %+v after %d connections", s, len(open))
		}
	})
}

func BenchmarkConnect(b *testing.B) {
	k := New(config(), 1)
	a := netip.MustParseAddrPort("[2001:db8::1]:443")
	b.ReportAllocs()
	for b.Loop() {
		k.Retry(a.Addr())
		h, _ := k.Connect(a, true)
		h.Done()
		h.Close()
	}
}

func TestRoom(t *testing.T) {
	f := func(connections int, enforce bool, want float64, surplus int64) {
		t.Helper()
		c := config()
		c.Connections, c.Enforce = 100, enforce
		k := New(c, 1)
		for n := range connections {
			h, _ := k.Connect(from(uint32(n)), true)
			h.Done()
		}
		if got := k.Room(); got != want {
			t.Errorf("%d of 100 connections: room %v, want %v", connections, got, want)
		}
		if got := k.Surplus(); got != surplus {
			t.Errorf("%d of 100 connections: surplus %d, want %d", connections, got, surplus)
		}
	}
	f(0, true, 1, 0)
	f(75, true, 1, 0)
	f(80, true, 0.8, 5)
	f(100, true, 0, 25)
	f(120, false, 1, 0)
}

// Idle connections have less room as memory runs short, in pace with what they hold.
func TestRoomOfMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taken := 0.
		c, _ := governed(t, Surroundings{})
		c.control.mu.Lock() // under which it is asked
		c.control.senses.memory = func() float64 { return taken }
		c.control.mu.Unlock()
		f := func(share, want float64) {
			t.Helper()
			c.control.mu.Lock()
			taken = share
			c.control.mu.Unlock()
			pass(2 * beat)
			if got := c.Room(); math.Abs(got-want) > 1e-9 {
				t.Errorf("%v of the memory is taken: %v, want %v", share, got, want)
			}
		}
		f(.5, 1)
		f(.6, 1)
		f(.74, .5)
		f(.88, 0)
		f(1.2, 0)
		f(.67, .75)
	})
}

// Harm done on complete connections is held against the source as unfinished
// ones are, and against nobody else.
func TestBlame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := config()
		c.Connections = 100
		k := New(c, 1)
		for n := range uint32(80) { // short of connections
			h, _ := k.Connect(from(100+n), true)
			h.Done()
		}
		h, _ := k.Connect(from(1), true)
		h.Done()
		h.Blame(500)
		if _, why := k.Connect(from(1), true); why != outcome.None {
			t.Error("refused for one excess")
		}
		h.Blame(1600)
		if _, why := k.Connect(from(1), true); why == outcome.None {
			t.Error("let in after many")
		}
		if _, why := k.Connect(from(2), true); why != outcome.None {
			t.Error("another source is refused")
		}
	})
}
