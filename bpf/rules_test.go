package bpf

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestRules sets, replaces, lists and removes rules, until there is no room.
func TestRules(t *testing.T) {
	n := newNode(t)
	n.configure(configured(Normal))
	v4, v6 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")
	mapped := netip.MustParsePrefix("::ffff:192.0.2.7/128")
	until := time.Now().Add(time.Hour)
	for _, r := range []Rule{
		{Prefix: v4, Allow: true}, {Prefix: v4}, {Prefix: v6, Until: until}, {Prefix: mapped, Allow: true},
	} {
		if err := n.SetRule(r); err != nil {
			t.Fatal(err)
		}
	}
	rules, err := n.Rules()
	if err != nil || len(rules) != 3 {
		t.Fatalf("rules %v, %v", rules, err)
	}
	if r := rules[0]; r != (Rule{Prefix: v4}) {
		t.Errorf("first %v", r)
	}
	if r := rules[1]; r != (Rule{Prefix: netip.MustParsePrefix("192.0.2.7/32"), Allow: true}) {
		t.Errorf("second %v", r)
	}
	if r := rules[2]; r.Prefix != v6 || r.Until.Sub(until).Abs() > time.Minute {
		t.Errorf("third %v, want until %v", r, until)
	}
	n.expect("the longest prefix", n.send(firstInitial), map[Reason]uint64{PassAllowed: 1})
	denied := netip.MustParseAddr("192.0.2.8")
	n.expect("the shorter one", n.send(fromSource(firstInitial, denied)), map[Reason]uint64{DropDenied: 1})
	n.expect("IPv6", n.send(udp6(long(version1, initial, chosen8, 1200))), map[Reason]uint64{DropDenied: 1})
	established := fromSource(udp4(short(n.ids.New(0), 40)), denied)
	n.expect("an established connection", n.send(established), map[Reason]uint64{PassEstablishedQUIC: 1})
	for _, r := range rules {
		if err := n.RemoveRule(r.Prefix); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.RemoveRule(v4); err != nil {
		t.Error("removing what is not there:", err)
	}
	n.expect("nothing listed", n.send(firstInitial), map[Reason]uint64{PassNewQUIC: 1})

	host := func(i int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
	}
	for i := range 1024 {
		if err := n.SetRule(Rule{Prefix: host(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.SetRule(Rule{Prefix: host(1024)}); !errors.Is(err, ErrListFull) {
		t.Errorf("one too many: %v", err)
	}
	// What has expired makes room.
	expired := admissionRule{Until: 1}
	_, key, err := n.ruleOf(host(5))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.maps.Rules4.Put(key, &expired); err != nil {
		t.Fatal(err)
	}
	n.expect("expired", n.send(fromSource(firstInitial, host(5).Addr())), map[Reason]uint64{PassNewQUIC: 1})
	if err := n.SetRule(Rule{Prefix: host(1024)}); err != nil {
		t.Errorf("with one expired: %v", err)
	}
	if err := n.SetRule(Rule{}); err == nil {
		t.Error("no prefix, no error")
	}
}

// TestMemory fills what can grow: the maps stay within 4 MiB.
func TestMemory(t *testing.T) {
	a := needKernel(t, Options{})
	bytes := fullMapBytes(t, a)
	t.Logf("%d bytes", bytes)
	if bytes > 4<<20 {
		t.Errorf("the maps take %d bytes", bytes)
	}
}

// fullMapBytes fills what can grow, and returns how much memory the maps take.
func fullMapBytes(t testing.TB, a *Admission) uint64 {
	t.Helper()
	for i := range 1024 {
		four := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		six := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(i >> 8), byte(i), 15: 1})
		for _, addr := range []netip.Addr{four, six} {
			if err := a.SetRule(Rule{Prefix: netip.PrefixFrom(addr, addr.BitLen())}); err != nil {
				t.Fatal(err)
			}
		}
	}
	bytes, err := a.MapBytes()
	if err != nil {
		t.Fatal(err)
	}
	if !sinceKernel(t, 6, 4) {
		// An estimate, by which a word has a key as long as itself, and a ring takes nothing.
		for _, m := range []*ebpf.Map{a.maps.Sources, a.maps.Flows, a.maps.Known} {
			bytes -= 8 * uint64(m.MaxEntries())
		}
		bytes += uint64(a.maps.Samples.MaxEntries())
	}
	return bytes
}
