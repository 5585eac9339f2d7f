package faas

import (
	"context"
	"sync"
	"time"

	"spillway/edge/outcome"
)

// A gate bounds the calls of one function: to its cap, to what a platform that
// throttled it can bear, and, where a call would make the platform start an
// instance, to the rate at which it does. It is safe for concurrent use.
type gate struct {
	cap int
	// warm makes one warm-up with a slot, gives it back, and reports whether there is an
	// instance now. Nil is a function that knows none.
	warm func(slot) bool
	// warmUps keeps a function that fails them from being sent more. It says nothing
	// of the calls of visitors.
	warmUps breaker

	mu       sync.Mutex
	inFlight int
	fleet    fleet
	ramp     tokens
	waiters  []*waiter // the oldest first
	throttle throttle
	count    gateCounts
}

// gateCounts only grow.
type gateCounts struct {
	coldStarts, waited, warmUps uint64
}

// A waiter stands at the gate until granted is closed.
type waiter struct {
	granted chan struct{}
	alone   bool // nobody starts an instance for it after all; set before granted is closed
}

// A slot is the right to one call in flight.
type slot struct {
	at     time.Time
	cold   bool // the platform has to start an instance, by all that is known
	warmUp bool // for the sake of the instance
}

func newGate(c Config) *gate {
	return &gate{cap: c.MaxConcurrency, fleet: newFleet(c), ramp: newTokens(c.ramp())}
}

// standing is how the gate stands at now. The caller holds the lock.
func (g *gate) standing(now time.Time) standing {
	g.fleet.advance(now)
	g.ramp.fill(now)
	limit := g.throttle.limit(now, g.cap)
	return standing{
		limit: limit, spared: limit < g.cap, inFlight: g.inFlight,
		ready: g.fleet.ready, busy: g.fleet.busy, waiting: len(g.waiters),
		mayStart: g.ramp.may(), aside: g.mayWarm(now), call: g.fleet.call.value(), start: g.fleet.start.value(),
	}
}

// mayWarm reports whether warm-ups are made, and answered.
func (g *gate) mayWarm(now time.Time) bool {
	return g.warm != nil && g.warmUps.refuse(now) == outcome.None
}

// refuse says why no call can be let in now.
func (g *gate) refuse(now time.Time) outcome.Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.standing(now)
	if s.admit(false) == turnAway {
		return s.refusal()
	}
	return outcome.None
}

// enter lets a call in, at once or after a wait, or says why not. A slot must be
// given back by leave.
//
// A call that would have to wait for the start of an instance need not wait for
// that one: the instance is started by a warm-up, and the call takes whichever is
// free first.
func (g *gate) enter(ctx context.Context) (slot, outcome.Reason) {
	now := time.Now()
	g.mu.Lock()
	s := g.standing(now)
	p := s.admit(false)
	if p == startOne && g.startAside(&s) {
		p = wait
	}
	if p != wait {
		defer g.mu.Unlock()
		return g.grant(now, p, &s)
	}
	w := &waiter{granted: make(chan struct{})}
	g.waiters = append(g.waiters, w)
	g.count.waited++
	g.mu.Unlock()
	if (w.wait(ctx, longestWait) || ctx.Err() == nil && w.wait(ctx, g.patience())) && !w.alone {
		return slot{at: time.Now()}, outcome.None
	}
	return g.abandon(ctx, w)
}

// wait reports whether the waiter was let in by then.
func (w *waiter) wait(ctx context.Context, patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.granted:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// startAside sees to it that somebody starts an instance for each who waits, and
// reports whether that is worth waiting for. The caller holds the lock.
func (g *gate) startAside(s *standing) bool {
	if !s.aside || s.start <= longestWait {
		return false
	}
	if s.ready == 0 {
		// Each of them was begun before one begun now, but has a call of its own first.
		return g.fleet.starting > s.waiting && 2*s.call <= s.start
	}
	if g.fleet.starting <= s.waiting && s.inFlight < s.limit && s.mayStart {
		g.inFlight++
		g.fleet.starting++
		g.ramp.take()
		go g.startFor(slot{at: time.Now(), cold: true, warmUp: true})
	}
	return g.fleet.starting > 0
}

// startFor has a warm-up start an instance. If that fails, or cannot be paid, one of
// those who wait is told so: the last, who would have it last.
func (g *gate) startFor(s slot) {
	if g.warm(s) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.waiters); n > 0 {
		g.waiters[n-1].alone = true
		close(g.waiters[n-1].granted)
		g.waiters = g.waiters[:n-1]
	}
}

// patience is how much longer a call stands at the gate that has waited in vain:
// an instance that is being started will be ready within twice the usual time. While
// none is ready, little is known of that, and who has one started has a call of its
// own first.
func (g *gate) patience() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.standing(time.Now())
	s.waiting-- // others
	if !g.startAside(&s) {
		return 0
	}
	if s.ready == 0 {
		return s.start + s.call
	}
	return 2 * s.start
}

// abandon ends a wait: a start is all that is left, if there is someone to start
// for.
func (g *gate) abandon(ctx context.Context, w *waiter) (slot, outcome.Reason) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-w.granted: // in the last moment
		if !w.alone {
			return slot{at: now}, outcome.None
		}
	default:
	}
	for i := range g.waiters {
		if g.waiters[i] == w {
			g.waiters = append(g.waiters[:i], g.waiters[i+1:]...)
			break
		}
	}
	if ctx.Err() != nil {
		return slot{}, outcome.ClientGone
	}
	s := g.standing(now)
	return g.grant(now, s.admit(true), &s)
}

// grant carries a decision out. The caller holds the lock.
func (g *gate) grant(now time.Time, v passage, s *standing) (slot, outcome.Reason) {
	switch v {
	case takeReady:
		g.fleet.busy++
	case startOne:
		g.ramp.take()
		g.fleet.starting++
	default:
		return slot{}, s.refusal()
	}
	g.inFlight++
	g.fleet.advance(now)
	return slot{at: now, cold: v == startOne}, outcome.None
}

// enterWarmUp lets a warm-up in, which never waits.
func (g *gate) enterWarmUp() (slot, outcome.Reason) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.standing(now)
	taken, why := g.grant(now, s.admit(true), &s)
	if why == outcome.None {
		taken.warmUp = true
	}
	return taken, why
}

// refuseSpare says why no call can be let in that nobody waits for.
func (g *gate) refuseSpare(now time.Time) outcome.Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.standing(now); !s.spare() {
		return s.refusal()
	}
	return outcome.None
}

// enterSpare lets a call in that nobody waits for.
func (g *gate) enterSpare() (slot, outcome.Reason) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.standing(now)
	if !s.spare() {
		return slot{}, s.refusal()
	}
	return g.grant(now, s.admit(true), &s)
}

// missing is how many warm-ups at once make so many instances ready, or as many of them
// as may start now: those that have no call take some of the warm-ups.
func (g *gate) missing(now time.Time, instances int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.standing(now)
	known := s.ready + g.fleet.starting
	instances = min(instances, s.limit, known+g.ramp.most())
	if known >= instances {
		return 0
	}
	return instances - s.inFlight
}

// A use is what came of a slot.
type use uint8

const (
	unused   use = iota // no call was made
	answered            // the instance is there, and free again
	lost                // the instance failed, or there never was one
	refused             // the platform had none: it throttles
	left                // the caller did not wait for the end
)

// leave gives a slot back, and lets those in who wait for it.
func (g *gate) leave(s slot, u use) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight--
	if s.cold {
		g.fleet.starting--
	} else {
		g.fleet.busy--
	}
	if u != unused {
		g.record(s)
	} else if s.cold {
		g.ramp.putBack()
	}
	switch {
	case u == answered:
		g.learn(s, now.Sub(s.at))
	case (u == lost || u == refused) && !s.cold:
		g.fleet.ready = max(g.fleet.ready-1, g.fleet.busy)
	}
	if u == refused {
		g.throttle.cut(now, s.at, g.inFlight+1)
	}
	g.handOut(now)
}

// record counts the slot of a call that was made.
func (g *gate) record(s slot) {
	if s.cold {
		g.count.coldStarts++
	}
	if s.warmUp {
		g.count.warmUps++
	}
}

// learn takes the time of a call that was answered.
func (g *gate) learn(s slot, took time.Duration) {
	switch {
	case s.cold:
		g.fleet.ready++
		g.fleet.learnStart(took, s.warmUp)
	case !s.warmUp:
		g.fleet.call.learn(took)
	}
}

// handOut gives instances that are ready to those who wait. The caller holds the
// lock.
func (g *gate) handOut(now time.Time) {
	limit := g.throttle.limit(now, g.cap)
	for len(g.waiters) > 0 && g.inFlight < limit && g.fleet.busy < g.fleet.ready {
		close(g.waiters[0].granted)
		g.waiters = g.waiters[1:]
		g.inFlight++
		g.fleet.busy++
	}
}

// fill puts into a State what the gate knows.
func (g *gate) fill(s *State) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fleet.advance(now)
	g.ramp.fill(now)
	s.InFlight, s.Ready, s.Starting, s.Waiting = g.inFlight, g.fleet.ready, g.fleet.starting, len(g.waiters)
	s.MayStart = -1
	if g.ramp.burst > 0 {
		s.MayStart = int(g.ramp.left)
	}
	s.CallSeconds, s.StartSeconds = g.fleet.call.value().Seconds(), g.fleet.start.value().Seconds()
	s.ColdStarts, s.Waited, s.WarmUps = g.count.coldStarts, g.count.waited, g.count.warmUps
}
