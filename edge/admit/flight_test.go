package admit

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
)

func TestFlightRanges(t *testing.T) {
	f := func(a, b string, same bool) {
		t.Helper()
		k := New(config(), 1)
		a0, a1 := k.flight.cells(netip.MustParseAddr(a))
		b0, b1 := k.flight.cells(netip.MustParseAddr(b))
		if (a0 == b0 && a1 == b1) != same { // in one row two ranges may meet
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

func BenchmarkEnterLeave(b *testing.B) {
	k := New(config(), 1)
	a := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		k.Enter(a)
		k.Leave(a)
	}
}
