// Package admit decides which connections and requests may enter the node.
//
// A crowd comes out of few addresses: mobile networks put thousands of visitors
// behind one. A source is therefore limited only for what it fails, and only
// while the node is short of something. Beginning a connection is charged to
// the source, and a completed handshake gives the charge back, so that a source
// owes for the connections that it began and left hanging.
//
// There are three lines. Retry makes clients prove their address while
// handshakes come too fast or hang. Connect refuses sources that are deep in
// debt while the node is short, and everybody when the node is full. Enter
// refuses requests of an address range that holds far more than its share, and
// only when more requests are in flight than the node can carry.
//
// How strict they are is the level's to say. Run finds it several times a second
// from what the node sees of its own load, and tells it to a [Kernel] that judges
// packets before they cost a handshake. Where there is none, or when it fails, the
// same limits hold in user space.
//
// What visitors meet holds a fixed amount of memory whatever comes in, takes no
// lock, and fails open: when in doubt a visitor is let in, and a Run that hangs
// leaves a kernel that passes everything. With enforcement off all verdicts are
// counted and none is acted on.
//
// The package does not count requests per second, and an overload of origins alone
// is no reason to keep visitors out, who may get a cached answer.
package admit

import (
	"math"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"spillway/edge/outcome"
)

// A Controller admits connections and requests. All its methods may be called
// concurrently.
type Controller struct {
	enforce       bool
	dropFragments bool
	maxConns      int64
	maxHalf       int64
	maxFlight     int64

	cores int

	start      time.Time
	meter      *sketch
	handshakes *bucket
	flight     *flight
	known      *knowledge
	rules      atomic.Pointer[ruleSet]
	force      atomic.Pointer[force]  // limits, as the last pass set them
	judge      atomic.Pointer[Kernel] // that judges packets; nil: there is none
	spends     spends                 // from the limits

	conns, half atomic.Int64
	memory      atomic.Uint64 // the signal of the last pass, as its bits
	counts      counts
	control     control
}

// New returns a Controller for a node with the given number of cores. Zero
// cores stands for those of the machine.
func New(c Config, cores int) *Controller {
	if cores <= 0 {
		cores = runtime.GOMAXPROCS(0)
	}
	k := &Controller{
		enforce:       c.Enforce,
		dropFragments: c.DropFragments,
		maxConns:      int64(c.Connections),
		maxHalf:       int64(max(c.HalfOpen, 1)),
		maxFlight:     int64(c.InFlight),
		cores:         cores,
		start:         time.Now(),
		meter:         newSketch(),
		handshakes:    newBucket(max(c.HandshakesPerCore, 1) * cores),
		flight:        newFlight(),
		known:         newKnowledge(),
	}
	k.rules.Store(&ruleSet{})
	if k.maxConns == 0 {
		k.maxConns = connectionsFor(Memory())
	}
	if k.maxFlight == 0 {
		k.maxFlight = int64(cores) * flightPerCore
	}
	k.control.begin(k)
	return k
}

func (c *Controller) now() time.Duration { return time.Since(c.start) }

// short reports whether the node runs out of something that connections use.
// The thresholds lie at half of what Retry and refusal wait for, so that those
// who owe most are asked first.
func (c *Controller) short(now time.Duration) bool {
	return c.half.Load() > c.maxHalf/2 || c.conns.Load() > c.maxConns*3/4 || c.handshakes.empty(now)
}

// Short reports whether the node runs out of something that connections use, and
// should take on no work that can be avoided.
func (c *Controller) Short() bool { return c.enforce && c.short(c.now()) }

// Overwhelmed reports whether the node is at its last level, [Closed], and should not
// even look at work that can come again.
func (c *Controller) Overwhelmed() bool { return c.enforce && c.force.Load().at(c.now()) >= Closed }

// Room returns how much there is for connections that are idle: 1 while fewer than three
// quarters of the connections that the node may hold are taken, and memory is plenty; 0
// when all are, or memory is short. Idle connections are closed by it to let others in.
func (c *Controller) Room() float64 {
	if !c.enforce {
		return 1
	}
	free := float64(c.maxConns-c.conns.Load()) / (float64(c.maxConns) / 4)
	memory := (memoryShort - math.Float64frombits(c.memory.Load())) / (memoryShort - memoryPlenty)
	return min(max(min(free, memory), 0), 1)
}

// Surplus returns how many connections there are beyond three quarters of those that the
// node may hold, which are the ones that Room falls by.
func (c *Controller) Surplus() int64 {
	if !c.enforce {
		return 0
	}
	return max(c.conns.Load()-c.maxConns*3/4, 0)
}

// The parts of the memory beside the cache's from which on idle connections have less
// room, and none. The collector's limit is at about 70 %, where it begins to work hard;
// at the second, new visitors are asked to prove their addresses.
const memoryPlenty = .6

var memoryShort = memoryLevels[Guarded]

// Retry reports whether a new QUIC client at an unproved address must prove it
// (RFC 9000 section 8.1.2). A Retry costs the node a twelfth of a handshake and
// no memory, and the client a round trip.
func (c *Controller) Retry(addr netip.Addr) bool {
	now := c.now()
	retry := c.force.Load().at(now) >= Guarded || c.handshakes.empty(now) || c.half.Load() > c.maxHalf ||
		c.suspects(addr, now)
	if !retry {
		return false
	}
	c.counts.retries.Add(1)
	if c.enforce {
		// What is asked for counts, or a flood is taken in as fast as the bucket fills.
		c.handshakes.take(now)
	}
	return c.enforce
}

// suspects reports whether a source began so much and completed so little that it
// must prove its address.
func (c *Controller) suspects(addr netip.Addr, now time.Duration) bool {
	if k := c.judge.Load(); k != nil {
		return (*k).Owes(addr, false) >= softDebt
	}
	return c.short(now) && c.meter.Over(newSource(addr, false), now) >= Soft
}

// Connect admits a new QUIC connection, or says why not. verified tells whether the
// address is proved, as it is after a Retry. An admitted connection is half open until
// the Handshake's Done or Fail, and counts until its Close.
func (c *Controller) Connect(addr netip.AddrPort, verified bool) (*Handshake, outcome.Reason) {
	return c.connect(Source{Addr: group(addr.Addr()), Proved: verified}, addr.Addr())
}

// ConnectTCP is Connect for a TCP connection, which has proved the address.
func (c *Controller) ConnectTCP(addr netip.AddrPort) (*Handshake, outcome.Reason) {
	return c.connect(Source{Addr: group(addr.Addr()), Proved: true, TCP: true}, addr.Addr())
}

func (c *Controller) connect(source Source, addr netip.Addr) (*Handshake, outcome.Reason) {
	now := c.now()
	if lack := c.lacks(now, source, addr); lack != nil {
		lack.Add(1)
		if c.enforce {
			return nil, outcome.TooManyRequests
		}
	}
	c.handshakes.take(now)
	c.conns.Add(1)
	c.half.Add(1)
	c.counts.started.Add(1)
	h := &Handshake{c: c, source: source}
	if source.TCP {
		c.counts.startedTCP.Add(1)
	}
	if source.Proved || c.judge.Load() == nil { // or else the kernel alone has charged, for the packet
		h.receipt = c.meter.Charge(source, now)
	}
	return h, outcome.None
}

// halfOpenFactor is how far above HalfOpen the node refuses everybody. Each
// unfinished handshake holds some 75 KiB.
const halfOpenFactor = 4

// lacks returns the counter of what is missing for the connection, or nil.
func (c *Controller) lacks(now time.Duration, s Source, addr netip.Addr) *atomic.Uint64 {
	switch {
	case c.conns.Load() >= c.maxConns:
		return &c.counts.refusedFull
	case c.half.Load() >= halfOpenFactor*c.maxHalf:
		return &c.counts.refusedHalfOpen
	case c.judge.Load() != nil:
		return c.owes(now, s, addr)
	}
	return c.exceeds(now, s, addr)
}

// owes returns the counter of what is against a source whose packets the kernel has let
// pass. They were a proxy's if that names another visitor. And the kernel cannot tell who
// wrote an address, so that it lets in who answers a Retry whatever is owed in its name:
// here it pays for what it left hanging itself.
func (c *Controller) owes(now time.Duration, s Source, addr netip.Addr) *atomic.Uint64 {
	rule, found := c.ruleOf(addr, now)
	switch {
	case found && rule.Allow:
		return nil
	case found:
		return &c.counts.refusedDenied
	case s.Proved && c.force.Load().at(now) >= Guarded && c.meter.Over(s, now) >= Hard:
		return &c.counts.refusedSource
	}
	return nil
}

// A Handshake is the place that an admitted connection takes. Its methods may
// be called concurrently and more than once; the first of Done and Fail counts.
type Handshake struct {
	c       *Controller
	source  Source
	proxy   *netip.Addr // whose packets these are, if not the source's
	receipt Receipt
	settled atomic.Bool
	closed  atomic.Bool
}

// Through notes that a proxy's packets bring the connection: it is the proxy that the
// kernel has charged. It must be called before all else.
func (h *Handshake) Through(proxy netip.Addr) { h.proxy = &proxy }

// sender returns whom the kernel has charged.
func (h *Handshake) sender() netip.Addr {
	if h.proxy != nil {
		return *h.proxy
	}
	return h.source.Addr
}

// Done notes that the handshake is complete: the source owes nothing for it, and is
// known.
func (h *Handshake) Done() {
	if !h.settled.CompareAndSwap(false, true) {
		return
	}
	c := h.c
	c.half.Add(-1)
	c.counts.completed.Add(1)
	c.meter.Refund(h.source, h.receipt)
	c.known.note(h.source.Addr, c.now())
	if k := c.judge.Load(); k != nil {
		(*k).Refund(h.sender(), h.source.TCP, chargeCost)
		(*k).Know(h.sender())
	}
}

// Fail notes that the handshake came to nothing: the charge stays.
func (h *Handshake) Fail() {
	if h.settled.CompareAndSwap(false, true) {
		h.c.half.Add(-1)
		h.c.counts.failed.Add(1)
	}
}

// Blame charges the source for a connection that was complete and did harm, as
// if it had left so many unfinished. Repeated harm keeps the source out for a while.
func (h *Handshake) Blame(connections int) {
	h.Cost(time.Duration(connections) * chargeCost)
	if connections >= offence {
		h.c.offend(h.source.Addr)
	}
}

// Cost charges the source of a complete connection for work that the node did in
// vain: an unfinished handshake is 5 ms of it, and 1 s in each second is free. The
// handshake has proved the address, so that the debt is its own.
func (h *Handshake) Cost(d time.Duration) {
	c, source := h.c, h.source
	source.Proved = true
	if k := c.judge.Load(); k != nil {
		(*k).Charge(source.Addr, source.TCP, d, mostDebt)
	}
	c.meter.Add(source, c.now(), d)
}

// Close notes that the connection has ended. A handshake that was not done has
// failed.
func (h *Handshake) Close() {
	h.Fail()
	if h.closed.CompareAndSwap(false, true) {
		h.c.conns.Add(-1)
	}
}
