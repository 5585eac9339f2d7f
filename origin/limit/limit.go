// Package limit finds out how many requests an origin may run at once, and
// admits no more.
//
// An origin that is given more than it can run does not answer more requests
// per second, it answers all of them later, and in the end none in time. How
// much is too much is nowhere configured: the package learns it from the
// latency of the requests that it admits.
//
// # What is learned
//
// The unloaded latency b of each class of requests (the baseline) comes from
// requests that started while few others were in flight. A request that started
// as the n-th in flight and took R says that n*b/R of the n were useful work
// and the others waited at the origin: the useful concurrency K. The estimate
// does not depend on the limit once the origin is saturated, so the loop is a
// filter without delay instability. It counts requests, never seconds: an
// origin of 20 requests per second and one of 8000 run the same code.
//
// The estimates of single requests are averaged as logarithms, which is right for
// an origin that shares its processor among them and too low for one that queues.
// How their latencies scatter at the limit tells the two apart, and how much is
// missing.
//
// The limit is 1.2*K + sqrt(K), rounded down: enough above K to keep the origin
// busy when work is uneven, which takes a larger share on a small origin, and
// always above K, so that it can grow.
//
// A latency that rises has two explanations: there is less room, or the work
// became slower. The limiter asks the origin: for up to two dozen requests, or
// one limit full of them on a large origin, it lowers the limit (a dip). If they
// are fast, there was less room and K falls; if they are slow too, the baseline
// was stale.
//
// # The start
//
// A node starts at 32 and does not steer until requests have queued in a crowd, or
// until it has to refuse somebody and the first requests at the limit have ended; a
// burst that is over before that changes nothing. If the time before taught a
// baseline, K follows from these requests. If not, slow start goes down to a quarter
// for the baseline, and on to a quarter of that while K is so little above it that
// the origin may still queue; after failures it goes to 1 at once. The baseline gives
// K if the requests above it have queued. If they have not, or have failed, slow
// start doubles until latency rises. A level at which hardly any request teaches,
// because they are canceled or do not end, is left all the same.
// Restore begins with what another process has learned.
//
// # Who waits
//
// Wait puts requests that find no room into a short queue. The most important are
// served first, of equals the newest, and a full queue lets go of the least important
// for who is more so. Levels that tell visitors apart make what has to be turned away
// fall on few visitors with all of their requests, instead of on all with some. A
// queue that stands is left soon.
//
// # What the origin says
//
// Report and Plead take what the origin says of itself: how busy it is, and that
// it wants to be left alone. Both lower the limit for a time, within bounds, and
// teach nothing.
//
// # When it fails
//
// Acquire never blocks, never takes a lock and allocates nothing. Without Run
// the limit stays where it is. Whatever the samples are (zero, negative or
// absurd latencies), the limit stays within its bounds, but for a pause that the
// origin asked for. A dead origin, whose requests are released as Drop, is brought
// down to two, or three if it fails fast, or the minimum, never to zero: some
// requests must find out that it is back.
//
// # What it does not do
//
// It does not know why a request is refused a permit elsewhere, where it then
// goes, or what an HTTP request is. Several nodes in front of one origin each
// learn for themselves. Traffic that consists only of requests with a share
// below one can lower the limit but hardly raise it, since it never reaches it.
package limit

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Class groups requests of similar latency, typically a hash of route and
// method. The limiter keeps a baseline per class, so that a change of the mix
// is not taken for a change of the origin. Only the low four bits count.
type Class uint8

// classes is the number of distinct classes.
const classes = 16

// A Limiter admits as many requests to an origin as it has learned that the
// origin can usefully run.
type Limiter struct {
	now func() int64 // nanoseconds; replaced by simulations

	// plan is what the last tick decided. It is replaced, never changed.
	plan atomic.Pointer[plan]

	_ [cacheLine]byte
	// gate holds the limit in its upper and the number in flight in its lower
	// 32 bits: one word, so that "in flight < limit" is exact at the instant of
	// admission even while the limit changes.
	gate atomic.Uint64
	_    [cacheLine]byte

	shards  []shard
	ordinal atomic.Uint32 // of the next ticket, chooses its shard
	tickets sync.Pool

	pleas atomic.Uint32 // answers in a row that asked for a pause
	asked atomic.Int64  // nanoseconds that the last of them asked for

	longLived    atomic.Int64
	longLivedCap atomic.Int64

	queue queue

	// bounds is what the next tick takes over; nil is nothing.
	bounds atomic.Pointer[Config]
	// control is used by tick alone.
	control controller
}

// A Result says how the origin dealt with a request.
type Result uint8

const (
	// OK is an answer; its latency teaches.
	OK Result = iota
	// Drop is a timeout, a refused connection or an answer such as 503 that says
	// that the origin has too much to do. It counts as at least twice the
	// baseline, however fast it came.
	Drop
	// Cancel is an end that says nothing about the origin, such as a visitor who
	// left. It teaches nothing.
	Cancel
)

// New returns a limiter. It starts nothing; without Run it does not learn.
func New(c Config) *Limiter {
	epoch := time.Now()
	l := &Limiter{now: func() int64 { return int64(time.Since(epoch)) }}
	l.shards = make([]shard, shardCount(runtime.GOMAXPROCS(0)))
	l.tickets.New = func() any {
		i := l.ordinal.Add(1)
		return &ticket{limiter: l, shard: &l.shards[int(i)%len(l.shards)]}
	}
	l.longLivedCap.Store(defaultLongLived)
	l.control = newController(c.bounds())
	l.publish(l.control.plan())
	return l
}

// SetBounds changes the bounds of the limit with the next tick. What was learned
// is kept as far as it lies within them.
func (l *Limiter) SetBounds(c Config) { l.bounds.Store(&c) }

// tickInterval is how often the controller looks at the sums. The rules count
// requests; the interval only has to be short against the latency of a change.
const tickInterval = 10 * time.Millisecond

// Run adjusts the limit until ctx ends.
func (l *Limiter) Run(ctx context.Context) error {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			l.tick()
		}
	}
}

// tick lets the controller look at what happened since the last tick. One
// goroutine at a time may call it.
func (l *Limiter) tick() {
	w := l.collect()
	if c := l.bounds.Swap(nil); c != nil {
		l.control.setBounds(c.bounds())
	}
	l.control.step(&w)
	l.publish(l.control.plan())
}

// publish puts a plan into force.
func (l *Limiter) publish(p plan) {
	if old := l.plan.Load(); old != nil && *old == p {
		return
	}
	l.plan.Store(&p)
	for {
		g := l.gate.Load()
		if l.gate.CompareAndSwap(g, uint64(p.limit)<<32|g&inFlightMask) {
			break
		}
	}
	if l.queue.length.Load() > 0 { // the limit may have risen
		l.handOut()
	}
}

const inFlightMask = 1<<32 - 1

// threshold is the number in flight at which a request with the given share of
// the limit is refused. A share never closes the gate; a pause does.
func threshold(limit uint64, share float64) uint64 {
	if !(share < 1) { // what is not a number is no share either
		return limit
	}
	return min(limit, max(1, uint64(max(share, 0)*float64(limit))))
}

// Acquire returns a permit for one request if fewer than share of the limit are
// in flight (0 < share <= 1; at least one is allowed, but for a pause that the
// origin asked for). False means that
// none could be had at this instant, and tells the controller that there is
// more demand than room.
func (l *Limiter) Acquire(class Class, share float64) (Permit, bool) {
	n := l.enter(share)
	if n == 0 {
		l.refused(share)
		return Permit{}, false
	}
	return l.issue(class, n), true
}

// enter counts a request as in flight if there is room. It returns the number
// in flight with the request, or 0.
func (l *Limiter) enter(share float64) uint64 {
	for {
		g := l.gate.Load()
		n := g & inFlightMask
		if n >= threshold(g>>32, share) {
			return 0
		}
		if l.gate.CompareAndSwap(g, g+1) {
			return n + 1
		}
	}
}

// anyShard draws a shard for what has no ticket to say which one is near.
func (l *Limiter) anyShard() *shard { return &l.shards[int(rand.Uint32())&(len(l.shards)-1)] }

// refused counts a request that found no room.
func (l *Limiter) refused(share float64) {
	s := l.anyShard()
	s.refused.Add(1)
	s.wanted(share)
}

// leave ends a request in flight, and hands its place to a waiter if there is
// one.
func (l *Limiter) leave() {
	l.gate.Add(^uint64(0))
	if l.queue.length.Load() > 0 {
		l.handOut()
	}
}
