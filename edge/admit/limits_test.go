package admit

import (
	"net/netip"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

// at returns a Controller at a level, in user space.
func at(t *testing.T, level Level) *Controller {
	t.Helper()
	c := New(config(), 2)
	c.control.senses.gauges = idle()
	if err := c.SetLevel(level, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return c
}

// admitted returns how many of n connections, each from a source of its own, get in
// and complete.
func admitted(n int, connect func(addr netip.AddrPort) (*Handshake, outcome.Reason)) (in int) {
	for i := range n {
		if h, why := connect(from(1<<24 + uint32(i))); why == outcome.None {
			in++
			h.Done()
			h.Close()
		}
	}
	return in
}

// In user space the levels do what they do in the kernel.
func TestLevelsInUserSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20_000
		f := func(level Level, least, most int) {
			t.Helper()
			c := at(t, level)
			proved := func(a netip.AddrPort) (*Handshake, outcome.Reason) { return c.Connect(a, true) }
			if got := admitted(n, proved); got < least || got > most {
				t.Errorf("%s: %d of %d get in, want %d to %d", level, got, n, least, most)
			}
			if c.Retry(v4(1)) != (level >= Guarded) && level != Normal {
				t.Errorf("%s: Retry", level)
			}
		}
		f(Normal, n, n)
		f(Guarded, n, n)
		f(Shedding, 250, 350) // a tenth of a second's handshakes, and the trickle's
		f(Closed, 16, 32)     // the trickle's
	})
}

// A level that no pass renews holds no longer than in the kernel.
func TestHungPassLetsEverybodyInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := at(t, Closed)
		admitted(100, c.ConnectTCP)
		pass(stale)
		if !c.Retry(v4(1)) {
			t.Error("no Retry while the level holds")
		}
		pass(time.Second)
		if n := admitted(1000, c.ConnectTCP); n != 1000 {
			t.Errorf("%d of 1000 get in", n)
		}
		pass(time.Second)
		if c.Retry(v4(1)) {
			t.Error("Retry")
		}
	})
}

// Who completed a handshake gets in while the budgets of others are spent, and who is
// allowed always.
func TestKnownAndAllowedGetInWhenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := at(t, Normal)
		h, _ := c.ConnectTCP(from(7))
		h.Done()
		allowed := netip.MustParsePrefix("198.51.100.0/24")
		if err := c.SetRule(Rule{Prefix: allowed, Allow: true}); err != nil {
			t.Fatal(err)
		}
		if err := c.SetLevel(Closed, time.Now().Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		for n := range uint32(1000) { // none completes, or it might replace the one that is known
			c.ConnectTCP(from(1<<24 + n))
		}
		if _, why := c.ConnectTCP(from(8)); why == outcome.None {
			t.Error("a stranger gets in")
		}
		if _, why := c.Connect(from(7), true); why != outcome.None {
			t.Error("a known source is refused")
		}
		if _, why := c.ConnectTCP(netip.MustParseAddrPort("198.51.100.9:1")); why != outcome.None {
			t.Error("an allowed source is refused")
		}
		pass(knownFor + 2*time.Second)
		c.pass()
		admitted(1000, c.ConnectTCP)
		if _, why := c.Connect(from(7), true); why == outcome.None {
			t.Error("known for ever")
		}
		if s := c.State(); s.RefusedClosed == 0 || s.RefusedBudget != 0 {
			t.Errorf("state %+v", s)
		}
	})
}

func TestDeniedAreRefusedAtEveryLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := at(t, Normal)
		rule := func(prefix string, allow bool, life time.Duration) {
			t.Helper()
			r := Rule{Prefix: netip.MustParsePrefix(prefix), Allow: allow}
			if life > 0 {
				r.Until = time.Now().Add(life)
			}
			if err := c.SetRule(r); err != nil {
				t.Fatal(err)
			}
		}
		rule("192.0.2.0/24", false, 0)
		rule("192.0.2.128/25", true, 0)
		rule("192.0.2.129/32", false, time.Minute)
		rule("2001:db8::/32", false, 0)
		f := func(addr string, want bool) {
			t.Helper()
			_, why := c.ConnectTCP(netip.AddrPortFrom(netip.MustParseAddr(addr), 1))
			if (why == outcome.None) != want {
				t.Errorf("%s: %q", addr, why)
			}
		}
		f("192.0.2.1", false)
		f("::ffff:192.0.2.1", false)
		f("192.0.2.128", true)
		f("192.0.2.129", false)
		f("192.0.3.1", true)
		f("2001:db8:5::1", false)
		f("2001:db9::1", true)
		time.Sleep(2 * time.Minute)
		f("192.0.2.129", true)
		if n := len(c.Rules()); n != 3 {
			t.Errorf("%d rules", n)
		}
		c.enforce = false
		f("192.0.2.1", true)
		if s := c.State(); s.RefusedDenied != 5 {
			t.Errorf("%d denied", s.RefusedDenied)
		}
	})
}

func TestRulesAreBounded(t *testing.T) {
	c := New(config(), 1)
	for n := range uint32(maxRules) {
		if err := c.SetRule(Rule{Prefix: netip.PrefixFrom(v4(n), 32)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetRule(Rule{Prefix: netip.PrefixFrom(v4(5), 32), Allow: true}); err != nil {
		t.Errorf("replace one: %v", err)
	}
	if err := c.SetRule(Rule{Prefix: netip.PrefixFrom(v4(maxRules), 32)}); err == nil {
		t.Error("one too many")
	}
	if err := c.SetRule(Rule{}); err == nil {
		t.Error("a rule of no prefix")
	}
}

// A source whose requests cost the node much is refused sooner than one that leaves
// handshakes hanging alone; one whose requests are cheap never is.
func TestCostlySourcesAreRefusedSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		visits := func(cost time.Duration) (until int) {
			c := at(t, Guarded)
			for until = range 10_000 {
				h, why := c.Connect(from(1), true)
				if why != outcome.None {
					return until
				}
				h.Done()
				if cost > 0 {
					h.Cost(cost)
				}
				h.Close()
				time.Sleep(time.Millisecond)
			}
			return until
		}
		if n := visits(0); n != 9999 {
			t.Errorf("refused after %d visits that cost nothing", n)
		}
		if n := visits(time.Millisecond); n != 9999 {
			t.Errorf("refused after %d visits that cost as much as time pays", n)
		}
		little, much := visits(5*time.Millisecond), visits(50*time.Millisecond)
		if little < 2000 || little > 3000 || much > 300 {
			t.Errorf("refused after %d and %d visits", little, much)
		}
		c := at(t, Guarded)
		h, _ := c.Connect(from(1), false)
		h.Done()
		h.Cost(6 * time.Second)
		s := newSource(v4(1), true)
		if got := c.meter.Over(s, c.now()); got != Soft {
			t.Errorf("standing %d", got)
		}
		h.Cost(time.Hour)
		if got := c.meter.Over(s, c.now()); got != Hard {
			t.Errorf("standing %d", got)
		}
		time.Sleep(mostDebt)
		if got := c.meter.Over(s, c.now()); got != Fine {
			t.Errorf("standing %d: debts have no end", got)
		}
	})
}

// Repeated harm on complete connections keeps a source out for a minute, but only
// while the node is not at ease, and never in numbers that fill the list.
func TestOffendersAreKeptOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offend := func(c *Controller, n uint32, times int) {
			for range times {
				h := &Handshake{c: c, source: newSource(v4(n), true)}
				h.Blame(offence)
			}
		}
		c := at(t, Normal)
		offend(c, 1, 100)
		if n := len(c.Rules()); n != 0 {
			t.Errorf("%d rules at level normal", n)
		}
		c = at(t, Guarded)
		offend(c, 1, tooMany-1)
		time.Sleep(offenceTime + time.Second)
		c.pass()
		offend(c, 1, tooMany-1)
		if n := len(c.Rules()); n != 0 {
			t.Errorf("%d rules for offences far apart", n)
		}
		offend(c, 1, 1)
		if rules := c.Rules(); len(rules) != 1 || rules[0].Allow || rules[0].Prefix != netip.PrefixFrom(v4(1), 32) {
			t.Errorf("rules %v", rules)
		}
		if _, why := c.ConnectTCP(from(1)); why == outcome.None {
			t.Error("an offender gets in")
		}
		time.Sleep(offenceTime + time.Second)
		c.pass()
		if n := len(c.Rules()); n != 0 {
			t.Errorf("%d rules for ever", n)
		}
		for n := range uint32(2 * maxOffenders) {
			offend(c, 100+n, tooMany)
		}
		if n, known := len(c.Rules()), len(c.control.offences.of); n != maxBans || known > maxOffenders {
			t.Errorf("%d rules, %d offenders", n, known)
		}
		mine := netip.PrefixFrom(v4(3), 32)
		c = at(t, Guarded)
		if err := c.SetRule(Rule{Prefix: mine, Allow: true}); err != nil {
			t.Fatal(err)
		}
		offend(c, 3, tooMany)
		if rules := c.Rules(); len(rules) != 1 || !rules[0].Allow {
			t.Errorf("what the operator allowed is denied: %v", rules)
		}
	})
}

// One visitor of a carrier does not keep out the others behind its address.
func TestSharedAddressIsNotKeptOutForOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := func(others, want int) {
			t.Helper()
			c := at(t, Guarded)
			for range 2 * tooMany {
				h, _ := c.ConnectTCP(from(1))
				if h == nil {
					break
				}
				h.Done()
				if c.offend(h.source.Addr); len(c.Rules()) > want {
					t.Fatalf("%d rules with %d others to one", len(c.Rules()), others)
				}
				for range others {
					h, _ := c.ConnectTCP(from(1))
					if h == nil {
						break // kept out
					}
					h.Done()
				}
			}
			if n := len(c.Rules()); n != want {
				t.Errorf("%d rules with %d others to one, want %d", n, others, want)
			}
		}
		f(1, 1)
		f(20, 0)
	})
}
