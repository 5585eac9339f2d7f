package admit

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
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

func TestGroup(t *testing.T) {
	f := func(addr, want string) {
		t.Helper()
		if got := group(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	f("192.0.2.77", "192.0.2.77")
	f("::ffff:192.0.2.77", "192.0.2.77")
	f("2001:db8:1:2345:6::7", "2001:db8:1:2300::")
	f("fe80::1%eth0", "fe80::")
	if got := group(netip.Addr{}); got.IsValid() {
		t.Errorf("no address: %s", got)
	}
}

func TestFlightRanges(t *testing.T) {
	f := func(a, b string, same bool) {
		t.Helper()
		k := New(config(), 1)
		a0, _ := k.flight.cells(netip.MustParseAddr(a))
		b0, _ := k.flight.cells(netip.MustParseAddr(b))
		if (a0 == b0) != same {
			t.Errorf("%s and %s in one range: %v", a, b, a0 == b0)
		}
	}
	f("192.0.2.1", "192.0.2.255", true)
	f("192.0.2.1", "::ffff:192.0.2.255", true)
	f("192.0.2.1", "192.0.3.1", false)
	f("2001:db8:1:2::1", "2001:db8:1:3::1", true)
	f("2001:db8:1::1", "2001:db8:2::1", false)
	New(config(), 1).Enter(netip.Addr{}) // an address that cannot be read counts too
}

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

func TestEnterSharesOutAFullNode(t *testing.T) {
	k := New(config(), 1) // 1000 in flight
	enter := func(n uint32, times int) (refused int) {
		for range times {
			foretold := k.Look(v4(n))
			why := k.Enter(v4(n))
			if why != outcome.None {
				refused++
			}
			if why != foretold {
				t.Errorf("Look said %q, Enter %q", foretold, why)
			}
		}
		return refused
	}
	const a, b = 1 << 8, 2 << 8 // two /24
	if got := enter(a, 1000); got != 0 {
		t.Errorf("%d refused on a node that is not full", got)
	}
	if got := enter(a, 500); got != 0 {
		t.Errorf("%d of a lone range refused: it has no one to share with", got)
	}
	for n := range uint32(20) {
		enter((100+n)<<8, 1)
	}
	if got := enter(a+7, 1); got != 1 {
		t.Error("a range with most of what is in flight got more")
	}
	if got := enter(b, 249); got != 0 {
		t.Errorf("%d refused of a range within its share", got)
	}
	if got := enter(b, 10); got == 0 {
		t.Error("a range above its share got more")
	}
	for range 1500 {
		k.Leave(v4(a))
	}
	if got := enter(a, 100); got != 0 {
		t.Errorf("%d refused after all left", got)
	}
}

func TestFlightBalances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := New(config(), 1)
		var in []uint32
		for range rapid.IntRange(0, 3000).Draw(t, "requests") {
			n := rapid.Uint32Range(0, 5000).Draw(t, "source") << 6
			if k.Enter(v4(n)) == outcome.None {
				in = append(in, n)
			}
		}
		if got := k.State().InFlight; int(got) != len(in) {
			t.Fatalf("%d in flight, want %d", got, len(in))
		}
		for _, n := range in {
			k.Leave(v4(n))
		}
		if k.flight.total.Load() != 0 || k.flight.ranges.Load() != 0 {
			t.Fatalf("left over: %d requests, %d ranges", k.flight.total.Load(), k.flight.ranges.Load())
		}
		for r := range k.flight.rows {
			for i := range k.flight.rows[r] {
				if n := k.flight.rows[r][i].Load(); n != 0 {
					t.Fatalf("row %d slot %d holds %d", r, i, n)
				}
			}
		}
	})
}

// A million sources need the memory of one.
func TestMemoryIsBounded(t *testing.T) {
	k := New(config(), 1)
	if size := unsafe.Sizeof(sketch{}) + unsafe.Sizeof(flight{}); size > 2<<20 {
		t.Errorf("%d bytes", size)
	}
	n := uint32(0)
	allocs := testing.AllocsPerRun(100_000, func() {
		n += 977
		s := newSource(v4(n), true)
		k.meter.Refund(s, k.meter.Charge(s, k.now()))
		k.meter.Charge(s, k.now())
		k.meter.Over(s, k.now())
		k.Retry(v4(n))
		k.Enter(v4(n))
		k.Leave(v4(n))
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a new source", allocs)
	}
}

// An innocent source among many in debt is not taken for one of them.
func TestSketchTellsSourcesApart(t *testing.T) {
	k := newSketch()
	for n := range uint32(1000) {
		for range 2100 {
			k.Charge(newSource(v4(n), true), 0)
		}
	}
	wrong := 0
	for n := range uint32(10_000) {
		if k.Over(newSource(v4(1<<20+n), true), 0) != Fine {
			wrong++
		}
	}
	if wrong > 20 { // about 2 are expected
		t.Errorf("%d of 10000 innocent sources over", wrong)
	}
}

func TestMemTotal(t *testing.T) {
	f := func(text string, want int64, ok bool) {
		t.Helper()
		if got, gotOK := memTotal(text); gotOK != ok || ok && got != want {
			t.Errorf("%q: %d, %v", text, got, gotOK)
		}
	}
	f("MemTotal:        4028440 kB\nMemFree: 1 kB\n", 4028440<<10, true)
	f("MemFree: 1 kB\nMemTotal: 8 kB\n", 8<<10, true)
	f("MemTotal: many kB\n", 0, false)
	f("", 0, false)
}

func TestCgroupLimit(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		if got := cgroupLimit(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	f("max\n", 1<<63-1)
	f("1073741824\n", 1<<30)
	f("", 1<<63-1)
	f("-1\n", 1<<63-1)
}

func TestConnectionsFor(t *testing.T) {
	f := func(bytes, want int64) {
		t.Helper()
		if got := connectionsFor(bytes); got != want {
			t.Errorf("%d bytes: %d, want %d", bytes, got, want)
		}
	}
	f(1<<30, 6553)
	f(64<<20, 1000)
}

func BenchmarkEnterLeave(b *testing.B) {
	k := New(config(), 1)
	a := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		k.Enter(a)
		k.Leave(a)
	}
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
	f := func(connections int, enforce bool, want float64) {
		t.Helper()
		c := config()
		c.Connections, c.Enforce = 100, enforce
		k := New(c, 1)
		for n := range connections {
			h, _ := k.Connect(from(uint32(n)), true)
			h.Done()
		}
		if got := k.Room(); got != want {
			t.Errorf("%d of 100 connections: %v, want %v", connections, got, want)
		}
	}
	f(0, true, 1)
	f(75, true, 1)
	f(80, true, 0.8)
	f(100, true, 0)
	f(120, false, 1)
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
