package admit

import "time"

// What the node can take in, and how it shares that out. They are no knobs.
const (
	// retryPart is what a Retry costs of a handshake.
	retryPart = 1. / 12
	// retryShare of the processors is for Retries, while budgets hold.
	retryShare = .75
	// synsPerCore is what the kernel's own defence, cookies, takes on beside other
	// work. The handshakes of those that complete are bounded by what they cost.
	synsPerCore = 25_000
	// tricklePerCore is always let in of those over a limit.
	tricklePerCore = 64
	// The aims of handshakes: part of all processors, and the wait for one.
	aimCPU   = .7
	aimDelay = 50 * time.Millisecond
	// floorShare of what the processors could do is always let in.
	floorShare = .1
	// Down by less than half, because a step follows every beat; up from nothing in
	// ten seconds.
	backOff  = .85
	advance  = 1. / 50
	knownFor = time.Hour
)

// A lane is the budget of the new connections of one protocol, which is lowered by a
// factor while handshakes cost too much and raised by steps otherwise (AIMD; Chiu and
// Jain, 1989).
type lane struct {
	rate float64 // per second
}

// follow moves the budget by what the last beat was like. passed is how many began a
// second, cpu what part of all handshakes' cost was the lane's.
func (l *lane) follow(overloaded bool, passed, part, floor, ceiling float64) {
	if overloaded && part >= .5 {
		l.rate = max(floor, backOff*min(l.rate, passed))
		return
	}
	l.rate = max(floor, min(ceiling, l.rate+advance*ceiling))
}

// budgets are what the limits follow from.
type budgets struct {
	quic, tcp lane
}

// A pace is what new connections are like now, per second.
type pace struct {
	cost      time.Duration // of a handshake
	quic, tcp float64       // handshakes that began
	retries   float64
	passed    [2]float64 // packets that would begin a connection, or connections: QUIC, TCP
	cpu       float64    // part of all processors that handshakes and Retries took
	delay     time.Duration
	cores     float64
}

// follow sets the budgets of the next beat. Below Shedding they hold nothing, and are
// what they begin with.
func (b *budgets) follow(level Level, p pace) {
	capacity := p.capacity()
	quicMost, tcpMost := retryShare/retryPart*capacity, synsPerCore*p.cores
	if level < Shedding {
		b.quic.rate, b.tcp.rate = quicMost, tcpMost
		return
	}
	overloaded := p.cpu > aimCPU || p.delay > aimDelay
	quic := p.quic + retryPart*p.retries
	all := max(quic+p.tcp, 1)
	b.quic.follow(overloaded, p.passed[0], quic/all, floorShare*capacity, quicMost)
	b.tcp.follow(overloaded, p.passed[1], p.tcp/all, floorShare*capacity, tcpMost)
}

// capacity is how many handshakes a second all processors could do.
func (p pace) capacity() float64 { return p.cores / p.cost.Seconds() }

// stale is the age at which what was told to the kernel is void: long enough for a
// node that is busy, short enough for visitors who try again.
const stale = 3 * time.Second

// sampled is of how many judged packets of one reason one is looked at.
const sampled = 512

// tenth returns a rate that lets pass at once what a tenth of a second does.
func tenth(perSecond float64) Rate { return Rate{PerSecond: perSecond, Burst: max(perSecond/10, 16)} }

// trickle returns what is let in of those over a limit: what the lane has left beside
// what passed. An address that a flood writes has visitors behind it too, who are lost
// in the flood as soon as not all of it passes; a Retry or a cookie tells them apart.
// Nothing is left where others take the budget, or an overload has lowered it.
func (l *lane) trickle(level Level, passed, least float64) Rate {
	if level >= Closed {
		return tenth(least)
	}
	return tenth(max(least, l.rate-passed))
}

// policy returns what the kernel is told. A connection takes two of Proven: one when
// its client answers a Retry, and one when it goes over to the server's next ID.
func (b *budgets) policy(level Level, enforce bool, p pace) Policy {
	capacity, least := p.capacity(), tricklePerCore*p.cores
	return Policy{
		Level:       level,
		Enforce:     enforce,
		Stale:       stale,
		Source:      Rate{PerSecond: float64(time.Second / chargeCost), Burst: float64(hardDebt / chargeCost)},
		QUIC:        tenth(b.quic.rate),
		TCP:         tenth(b.tcp.rate),
		Proven:      tenth(2 * capacity),
		Known:       tenth(capacity / 2),
		KnownFor:    knownFor,
		QUICTrickle: b.quic.trickle(level, p.passed[0], least),
		TCPTrickle:  b.tcp.trickle(level, p.passed[1], least),
		Reset:       tenth(100),
		Sample:      sampled,
	}
}
