package admit

import (
	"net/netip"
	"testing"
	"unsafe"
)

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
