package admit

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

// The kernel sees the addresses of proxies, not of the visitors that these name.
func TestDeniedVisitorsOfProxiesAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		if err := c.SetRule(Rule{Prefix: netip.PrefixFrom(v4(1), 32)}); err != nil {
			t.Fatal(err)
		}
		if _, why := c.ConnectTCP(from(1)); why == outcome.None {
			t.Error("a denied visitor gets in")
		}
		if _, why := c.ConnectTCP(from(2)); why != outcome.None {
			t.Error("another is refused")
		}
	})
}

// Rules that a process before left in the kernel are taken over.
func TestRulesOfTheKernelAreTakenOver(t *testing.T) {
	k := newFrailKernel()
	p := netip.MustParsePrefix("192.0.2.0/24")
	k.rules[p] = Rule{Prefix: p}
	c := New(config(), 1)
	c.Use(Surroundings{Kernel: k, Log: slog.New(slog.DiscardHandler)})
	if got := c.Rules(); len(got) != 1 || got[0].Prefix != p {
		t.Errorf("rules %v", got)
	}
	if err := c.RemoveRule(p); err != nil || len(k.rules) != 0 || len(c.Rules()) != 0 {
		t.Errorf("after removing: %v, %v, %v", err, k.rules, c.Rules())
	}
}

// The longest prefix counts that is in force, in the kernel too, which looks for the
// longest alone.
func TestExpiredRulesLeaveTheKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newFrailKernel()
		c, _ := governed(t, Surroundings{Kernel: k})
		all, one := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.7/32")
		for _, r := range []Rule{{Prefix: all}, {Prefix: one, Allow: true, Until: time.Now().Add(time.Minute)}} {
			if err := c.SetRule(r); err != nil {
				t.Fatal(err)
			}
		}
		pass(time.Minute - time.Second)
		if rules, _ := k.Rules(); len(rules) != 2 {
			t.Errorf("too early: %v", rules)
		}
		pass(time.Second + 2*beat)
		if rules, _ := k.Rules(); len(rules) != 1 || rules[0].Prefix != all {
			t.Errorf("rules %v", rules)
		}
	})
}
