package crowd

import (
	"math"
	"net/netip"
	"testing"
)

func TestCarrierNAT(t *testing.T) {
	const visitors = 50_000
	shared := map[netip.Addr]int{}
	alone := map[netip.Addr]bool{}
	for n := range uint64(visitors) {
		addr, isShared := CarrierNAT.source(1, n)
		if !addr.IsLoopback() {
			t.Fatalf("visitor %d comes from %s", n, addr)
		}
		if isShared {
			shared[addr]++
			continue
		}
		if alone[addr] {
			t.Fatalf("two visitors alone on %s", addr)
		}
		alone[addr] = true
	}
	if len(shared) != carriers {
		t.Errorf("%d shared addresses, want %d", len(shared), carriers)
	}
	networks := map[netip.Prefix]bool{}
	for addr, n := range shared {
		if share := float64(n) / visitors; math.Abs(share-carrierShare/carriers) > .005 {
			t.Errorf("%.3f of the visitors come from %s, want 0.1", share, addr)
		}
		if alone[addr] {
			t.Errorf("somebody is alone on the shared %s", addr)
		}
		networks[netip.PrefixFrom(addr, 24).Masked()] = true
	}
	if len(networks) != carriers {
		t.Errorf("the shared addresses lie in %d networks, want %d", len(networks), carriers)
	}
	if share := float64(len(alone)) / visitors; math.Abs(share-.2) > .01 {
		t.Errorf("%.3f of the visitors are alone, want 0.2", share)
	}
}

func TestSingle(t *testing.T) {
	for n := range uint64(10) {
		if addr, shared := Single.source(1, n); addr.IsValid() || !shared {
			t.Errorf("visitor %d comes from %s, shared %t", n, addr, shared)
		}
	}
}

// TestDrawsAreIndependent checks that slow visitors are not found more often behind
// one kind of address.
func TestDrawsAreIndependent(t *testing.T) {
	c := Config{Seed: 5, Addresses: CarrierNAT, SlowShare: .3}
	var slow, slowShared, shared float64
	for n := range uint64(50_000) {
		v := c.visitor(n)
		if v.shared {
			shared++
		}
		if v.slow {
			slow++
		}
		if v.shared && v.slow {
			slowShared++
		}
	}
	if math.Abs(slow/50_000-.3) > .01 || math.Abs(slowShared/shared-.3) > .01 {
		t.Errorf("%.3f of all are slow, %.3f of those behind carriers; want 0.3", slow/50_000, slowShared/shared)
	}
}

func TestCheckSources(t *testing.T) {
	f := func(p Profile, target string, ok bool) {
		t.Helper()
		if err := p.checkSources(netip.MustParseAddr(target)); (err == nil) != ok {
			t.Errorf("%s towards %s: %v", p, target, err)
		}
	}
	f(CarrierNAT, "127.0.0.1", true)
	f(CarrierNAT, "127.9.9.9", true)
	f(CarrierNAT, "::1", false)
	f(CarrierNAT, "192.0.2.1", false)
	f(Single, "::1", true)
	f(Single, "192.0.2.1", true)
}
