package bpf

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func sampleFrom(addr string) Sample {
	return Sample{Source: netip.AddrPortFrom(netip.MustParseAddr(addr), 1)}
}

func TestTopCountsByOwner(t *testing.T) {
	var top Top
	top.Add(Sample{})
	for _, addr := range []string{
		"192.0.2.1", "::ffff:192.0.2.1",
		"2001:db8::1", "2001:db8:0:ff::2", "2001:db8:0:ff:8::3", "2001:db8:0:100::4",
	} {
		top.Add(sampleFrom(addr))
	}
	got := top.Sources(2)
	want := []TopSource{{netip.MustParseAddr("2001:db8::"), 3, 0}, {netip.MustParseAddr("192.0.2.1"), 2, 0}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v", got, want)
	}
	if all := top.Sources(100); len(all) != 3 {
		t.Errorf("all: %v", all)
	}
}

// TestTopFindsHeavy draws a crowd of any size and order around one source of a
// twentieth: it is found, and its count is within its bounds.
func TestTopFindsHeavy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heavy := netip.MustParseAddr("198.51.100.1")
		var top Top
		var sent uint64
		n := rapid.IntRange(1, 2000).Draw(t, "samples")
		spread := rapid.Uint32Range(1, 1<<20).Draw(t, "spread")
		state := rapid.Uint32().Draw(t, "seed")
		for i := range n {
			addr := heavy
			if i%20 != 0 {
				state = state*1664525 + 1013904223
				x := state >> 8 % spread
				addr = netip.AddrFrom4([4]byte{10, byte(x >> 16), byte(x >> 8), byte(x)})
			} else {
				sent++
			}
			top.Add(Sample{Source: netip.AddrPortFrom(addr, 1)})
		}
		if len(top.counts) > topSize {
			t.Fatalf("follows %d", len(top.counts))
		}
		for _, s := range top.Sources(topSize) {
			if s.Addr == heavy {
				if s.Samples < sent || s.Samples-s.Over > sent {
					t.Fatalf("%d of %d, over %d", s.Samples, sent, s.Over)
				}
				return
			}
		}
		t.Fatal("not found")
	})
}
