package limit

import "sync/atomic"

// A Permit is the right to run one request at the origin. It is a small value
// that may be copied; the first Release of any copy ends it. The zero value is
// no permit.
type Permit struct {
	ticket     *ticket
	generation uint64
}

// A ticket is the memory behind a permit. Tickets are reused, so a permit names
// the generation of the ticket that it belongs to: a permit that is released
// twice can never end the permit of another request.
//
// Tickets live in a pool with a free list per processor. A ticket belongs to
// one shard for life, so shards too are mostly touched by one processor.
type ticket struct {
	limiter *Limiter
	shard   *shard

	// state is the generation, shifted by two, and one of the states below.
	state atomic.Uint64

	// What held when the permit was issued. Which samples count is decided by
	// these alone, never by how the request went: a choice by outcome biases
	// what is learned.
	plan  *plan
	start int64
	n     uint64 // in flight, this request included
	class Class
	roles roles
}

const (
	stateFree = iota // the permit has ended
	stateHeld        // in flight
	stateLong        // detached, counts as long-lived
	stateBits = 2
)

// defaultLongLived bounds detached requests until SetLongLived is called.
const defaultLongLived = 1000

// issue returns the permit of a request that entered as the n-th in flight.
func (l *Limiter) issue(class Class, n uint64) Permit {
	t := l.tickets.Get().(*ticket)
	p := l.plan.Load()
	t.plan, t.start, t.n, t.class = p, l.now(), n, class%classes
	t.roles = p.roles(n)
	if t.roles&roleMarked != 0 {
		t.shard.started.Add(1)
	}
	generation := t.state.Load()>>stateBits + 1
	t.state.Store(generation<<stateBits | stateHeld)
	return Permit{t, generation}
}

// Valid reports whether p was ever a permit. It stays true after Release.
func (p Permit) Valid() bool { return p.ticket != nil }

// Release ends the permit and tells the limiter how the origin did. Releasing
// again, or releasing the zero Permit, does nothing.
func (p Permit) Release(r Result) {
	if p.ticket == nil {
		return
	}
	if p.move(stateHeld, stateFree) {
		p.ticket.end(r)
	} else if p.move(stateLong, stateFree) {
		p.ticket.endLong()
	}
}

// end gives the place of a request back that was in flight. The ticket is still
// its own: until it lies in the pool nobody else can be given it.
func (t *ticket) end(r Result) {
	l := t.limiter
	l.learn(t, r)
	t.plan = nil
	l.tickets.Put(t)
	l.leave()
}

// endLong ends a request that Detach had taken out of the in-flight count.
func (t *ticket) endLong() {
	l := t.limiter
	t.plan = nil
	l.tickets.Put(t)
	l.longLived.Add(-1)
}

// Detach takes a request out of the in-flight count that will go on for a long
// time, such as an event stream, and enters it into the long-lived count. It
// teaches nothing. False means that the long-lived count is at its cap, and
// that the permit stays as it is, or that the permit has ended. Release ends a
// detached permit too.
//
// A request that is detached during a dip never ends for it; the dip's reading
// gives up on it after a while.
func (p Permit) Detach() bool {
	if p.ticket == nil {
		return false
	}
	l := p.ticket.limiter
	if !l.enterLong() {
		return p.is(stateLong)
	}
	if !p.move(stateHeld, stateLong) {
		l.longLived.Add(-1)
		return p.is(stateLong)
	}
	l.leave()
	return true
}

// move changes the state of the permit, once: of two copies that try, one wins.
func (p Permit) move(from, to uint64) bool {
	g := p.generation << stateBits
	return p.ticket.state.CompareAndSwap(g|from, g|to)
}

func (p Permit) is(state uint64) bool {
	return p.ticket.state.Load() == p.generation<<stateBits|state
}

// SetLongLived bounds how many permits can be detached at a time. The default
// is 1000.
func (l *Limiter) SetLongLived(n int) { l.longLivedCap.Store(int64(n)) }

// enterLong counts a long-lived request if there is room.
func (l *Limiter) enterLong() bool {
	for {
		n := l.longLived.Load()
		if n >= l.longLivedCap.Load() {
			return false
		}
		if l.longLived.CompareAndSwap(n, n+1) {
			return true
		}
	}
}
