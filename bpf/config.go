package bpf

import (
	"fmt"
	"math"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A Level is what is left of normal operation. Each adds to the one before.
type Level uint32

// The levels.
const (
	// Normal drops what RFC 9000 lets a server discard, and denied sources.
	Normal Level = iota
	// Guarded limits sources, and drops what belongs to no connection, unknown
	// versions and what cannot be read.
	Guarded
	// Shedding holds the budgets of new connections.
	Shedding
	// Closed lets in those alone who are proven, known, allowed or lucky.
	Closed
)

// A Limit is a rate. The zero Limit lets everything pass.
type Limit struct {
	// PerSecond is how many pass for ever.
	PerSecond float64
	// Burst is how many pass at once.
	Burst float64
}

// tick is by how much the programs' clock may lag: two periods of the kernel's coarse
// one, which are 10 ms at most (HZ=100). A limit cannot tell apart what is closer.
const tick = 20 * time.Millisecond

// maxSpan bounds times in limits, so that sums and signs stay right.
const maxSpan = time.Hour

// words returns the limit as the kernel counts it: the time that one takes, and the
// time that may be owed.
func (l Limit) words() (cost, depth uint64) {
	if l.PerSecond <= 0 {
		return 0, math.MaxInt64 // which nothing that is owed already is over
	}
	span := func(seconds float64) uint64 {
		return uint64(min(seconds, maxSpan.Seconds()) * float64(time.Second))
	}
	return max(1, span(1/l.PerSecond)), max(uint64(tick), span(l.Burst/l.PerSecond))
}

// Config is what user space decides, several times a second.
type Config struct {
	Level Level
	// Enforce drops what is to be dropped. When false it passes and is counted.
	Enforce bool
	// DropFragments drops all UDP fragments from level Guarded on, which saves what it
	// takes to assemble them. QUIC has none, but other services of the machine may, and
	// only the first tells the port: that one is dropped in any case if it is the node's.
	DropFragments bool
	// Stale is the age of this configuration from which on everything passes. With zero
	// everything does at once.
	Stale time.Duration
	// Source is what one source may begin and not complete, from Guarded on.
	Source Limit
	// QUIC and TCP are what all sources may begin, at Shedding.
	QUIC, TCP Limit
	// Proven is for Initials with a connection ID of the node, such as after a
	// Retry, from Guarded on. Beyond it they are held to Source and QUIC. Every
	// connection takes one when its client uses the server's ID, and one more after a
	// Retry.
	Proven Limit
	// Known is for sources that completed a handshake within KnownFor and found the
	// budget spent.
	Known    Limit
	KnownFor time.Duration
	// QUICTrickle and TCPTrickle are for everybody over a limit, so that nobody is
	// locked out by what others do in his name.
	QUICTrickle, TCPTrickle Limit
	// Reset is for packets of no connection at level Normal, which user space may
	// answer with a stateless reset.
	Reset Limit
	// Sample is of how many judged packets of one reason and processor one is sampled,
	// rounded up to a power of two; zero samples none. The first always is.
	Sample uint32
}

// Configure sets the configuration. Calling it is the heartbeat: unless it is called
// again within Stale, everything passes.
func (a *Admission) Configure(c Config) error {
	a.writes.Lock()
	defer a.writes.Unlock()
	a.last = a.element(c, monotonic())
	return a.put()
}

// put writes the last configuration. It tells the programs in which families there
// are rules at all, so that a node without any does not search for them. The caller
// holds writes.
func (a *Admission) put() error {
	a.last.Listed = 0
	for bit, m := range []*ebpf.Map{a.maps.Rules4, a.maps.Rules6} {
		first, err := m.NextKeyBytes(nil)
		if err != nil {
			return fmt.Errorf("read the rules of the packet filter: %w", err)
		}
		if first != nil {
			a.last.Listed |= 1 << bit
		}
	}
	if err := a.maps.Config.Put(uint32(0), &a.last); err != nil {
		return fmt.Errorf("configure the packet filter: %w", err)
	}
	return nil
}

// element returns a configuration as the programs read it, with the time of its
// heartbeat.
func (a *Admission) element(c Config, now uint64) admissionConfig {
	value := admissionConfig{
		Heartbeat: now,
		TagKeys:   a.ids.tagKeys(),
		SourceKey: uint64(a.hash),
		FlowKeys:  a.hash.flowKeys(),
		Stale:     uint64(max(0, min(c.Stale, maxSpan))),
		Level:     uint32(c.Level),
		Sample:    powerOfTwo(c.Sample),
		KnownFor:  uint32(max(0, c.KnownFor) >> knownUnit),
	}
	if c.Enforce {
		value.Enforce = 1
	}
	if c.DropFragments {
		value.DropFragments = 1
	}
	value.Source.Cost, value.Source.Depth = c.Source.words()
	// In the order of enum budget.
	for i, limit := range [...]Limit{c.QUIC, c.TCP, c.Proven, c.Known, c.QUICTrickle, c.TCPTrickle, c.Reset} {
		value.Budgets[i].Cost, value.Budgets[i].Depth = limit.words()
	}
	return value
}

func powerOfTwo(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	p := uint32(1)
	for p < n && p < 1<<31 {
		p <<= 1
	}
	return p
}

// monotonic returns the time that the programs compare with.
func monotonic() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic("BUG: no monotonic clock: " + err.Error())
	}
	return uint64(t.Nano())
}

func networkOrder(port uint16) uint16 { return port<<8 | port>>8 }
