package admit

import (
	"net/netip"
	"time"
)

// Rules that the node makes by itself. They are no knobs.
const (
	// offence is the least blame, in unfinished handshakes, that is remembered.
	offence = 500
	// Who offends so often within the time, while the node is not at level Normal, is
	// kept out for as long.
	tooMany     = 8
	offenceTime = time.Minute
	// An address of which more than so many others came to one that did harm is shared:
	// its own debts must do.
	othersToOne = 4
	// maxOffenders bounds who is remembered, and maxBans who is kept out at once; the
	// other rules are the operator's.
	maxOffenders = 1024
	maxBans      = 256
)

// offences are of sources that proved their addresses by complete handshakes.
type offences struct {
	of  map[netip.Addr]record
	ban map[netip.Addr]time.Time // until when
}

// A record is of one source.
type record struct {
	first time.Time
	count int
	since uint32 // handshakes that were completed before the first
}

// add notes an offence of a source that has completed so many handshakes, and reports
// whether it is one too many. Who is not remembered any more is forgiven.
func (o *offences) add(addr netip.Addr, completed uint32, now time.Time) bool {
	if o.of == nil {
		o.of, o.ban = map[netip.Addr]record{}, map[netip.Addr]time.Time{}
	}
	r, found := o.of[addr]
	if !found || now.Sub(r.first) > offenceTime {
		r = record{first: now, since: completed}
	}
	if !found && len(o.of) >= maxOffenders {
		for other := range o.of { // any: it takes as many offences as a flood has sources
			delete(o.of, other)
			break
		}
	}
	r.count++
	o.of[addr] = r
	return r.count >= tooMany && completed-r.since <= uint32((1+othersToOne)*r.count)
}

// room reports whether one more may be kept out.
func (o *offences) room(now time.Time) bool {
	for addr, until := range o.ban {
		if !until.After(now) {
			delete(o.ban, addr)
		}
	}
	return len(o.ban) < maxBans
}

// offend notes that a source did great harm on a complete connection. What it does
// again and again keeps it out for a minute; its other connections go on. While the
// lock is held, for seconds where a driver is asked for native mode, nothing is noted:
// those who serve visitors must not wait.
func (c *Controller) offend(addr netip.Addr) {
	k := &c.control
	if !k.mu.TryLock() {
		return
	}
	defer k.mu.Unlock()
	now := time.Now()
	o := &k.offences
	if !addr.IsValid() || !o.add(addr, c.known.completed(addr), now) || c.force.Load().at(c.now()) == Normal || !o.room(now) {
		return
	}
	bits := 32
	if addr.Is6() {
		bits = 56
	}
	prefix := netip.PrefixFrom(addr, bits)
	if _, listed := c.rules.Load().of(addr, now); listed {
		return // what the operator said stands
	}
	until := now.Add(offenceTime)
	if err := c.setRule(Rule{Prefix: prefix, Until: until}); err != nil {
		k.log.Warn("cannot keep a source out", "error", err)
		return
	}
	delete(o.of, addr)
	o.ban[addr] = until
	c.counts.bans.Add(1)
	k.log.Warn("a source is kept out for what it did on complete connections", "from", rangeOf(addr), "for", offenceTime)
}
