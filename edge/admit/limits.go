package admit

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// force is a policy as Connect obeys it where no kernel does. It is immutable.
type force struct {
	since                     time.Duration
	level                     Level
	quic, tcp, known, trickle limit
}

// newForce holds connections to what packets are held to, and to the capacity: most
// packets cost a Retry or a cookie, but each connection a handshake. For that reason,
// too, both protocols have one small trickle.
func newForce(p Policy, pace pace, now time.Duration) *force {
	capacity := pace.capacity()
	least := func(r Rate) limit {
		if r.PerSecond > capacity {
			r = tenth(capacity)
		}
		return r.limit()
	}
	return &force{
		since: now, level: p.Level, quic: least(p.QUIC), tcp: least(p.TCP), known: p.Known.limit(),
		trickle: tenth(tricklePerCore * pace.cores).limit(),
	}
}

// at is the level, which as in the kernel is void when no pass renewed it.
func (f *force) at(now time.Duration) Level {
	if now-f.since > stale {
		return Normal
	}
	return f.level
}

// A limit is a rate in terms of the generic cell rate algorithm. The zero limit lets
// everything pass.
type limit struct {
	cost, depth time.Duration
}

func (r Rate) limit() limit {
	if r.PerSecond <= 0 {
		return limit{}
	}
	span := func(n float64) time.Duration { return time.Duration(n / r.PerSecond * float64(time.Second)) }
	return limit{cost: max(1, span(1)), depth: span(r.Burst)}
}

// A spend is when what was taken from a limit will have been paid off.
type spend struct {
	until atomic.Int64
}

// take reports whether one more is within the limit, and takes it.
func (s *spend) take(l limit, now time.Duration) bool {
	for {
		old := s.until.Load()
		base := max(time.Duration(old), now)
		if base-now > l.depth {
			return false
		}
		if s.until.CompareAndSwap(old, int64(base+l.cost)) {
			return true
		}
	}
}

type spends struct {
	quic, tcp, known, trickle spend
}

// exceeds returns the counter of the limit that a new connection is over, or nil. It
// is what the kernel's program does with packets, in the same order. Two differences
// come of what is known here: who has proved its address is not held to what others
// did in its name, and therefore pays its own debts without the trickle.
func (c *Controller) exceeds(now time.Duration, s Source, addr netip.Addr) *atomic.Uint64 {
	if rule, found := c.ruleOf(addr, now); found && rule.Allow {
		return nil
	} else if found {
		return &c.counts.refusedDenied
	}
	f := c.force.Load()
	level := f.at(now)
	var lack *atomic.Uint64
	switch {
	case (level >= Guarded || c.short(now)) && c.meter.Over(s, now) >= Hard:
		if s.Proved {
			return &c.counts.refusedSource
		}
		lack = &c.counts.refusedSource
	case level < Shedding:
		return nil
	case level < Closed && c.affords(f, now, s):
		return nil
	case c.known.has(s.Addr, now) && c.spends.known.take(f.known, now):
		return nil
	case level < Closed:
		lack = &c.counts.refusedBudget
	default:
		lack = &c.counts.refusedClosed
	}
	if c.spends.trickle.take(f.trickle, now) {
		return nil
	}
	return lack
}

// ruleOf returns the rule that an address is under.
func (c *Controller) ruleOf(addr netip.Addr, now time.Duration) (Rule, bool) {
	rules := c.rules.Load()
	if rules.all == nil {
		return Rule{}, false
	}
	return rules.of(addr, c.start.Add(now))
}

// affords takes a connection from the budget of its protocol.
func (c *Controller) affords(f *force, now time.Duration, s Source) bool {
	if s.TCP {
		return c.spends.tcp.take(f.tcp, now)
	}
	return c.spends.quic.take(f.quic, now)
}
