package limit

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A WaitResult says how a wait for a permit ended.
type WaitResult uint8

const (
	// Admitted means that a permit was had.
	Admitted WaitResult = iota
	// QueueFull means that as many are waiting as may, none of them less important.
	QueueFull
	// PushedOut means that somebody more important took the place in the queue.
	PushedOut
	// Expired means that no place became free in time.
	Expired
	// Canceled means that the context ended.
	Canceled
)

// A Request is what the limiter knows of a request that waits for a permit.
type Request struct {
	Class Class
	// Share is the part of the limit that the request may fill.
	Share float64
	// Level says who goes first.
	Level Level
	// Visitor tells visitors apart, and Urgency the requests of one visitor: the
	// lowest goes first. It changes nothing for anybody else.
	Visitor uint64
	Urgency uint8
	// Wait is the longest wait. Zero is one baseline of the class, at most a second.
	Wait time.Duration
	// Patient means that nothing else can take the request. While such requests queue
	// before it without a pause it waits for one baseline only, however long Wait is.
	Patient bool
	// Length is how many may wait, as a share of the limit, rounded up.
	Length float64
}

// A queue is the requests that wait for a place. It is used only when the origin
// is full, so a mutex is cheap enough.
//
// The most important is served first, and of these the newest: under overload an
// order of arrival would make everybody wait for as long as the oldest may, and
// serve only those who are about to give up. The others leave when their time is
// over, or when somebody more important wants the place.
type queue struct {
	// length lets a request that ends see without the mutex that nobody waits.
	length atomic.Int64
	mu     sync.Mutex
	stacks
	standing standing

	pushedOut  atomic.Uint64
	turnedAway [Priorities]atomic.Uint64
}

// A waiter is one request in the queue.
type waiter struct {
	Request
	newer, older *waiter
	waiting      bool        // in the queue; false once granted, pushed out or left
	answer       chan Permit // holds one, so that giving never blocks; none is no permit
}

// Wait is Acquire for a request that may wait.
func (l *Limiter) Wait(ctx context.Context, r Request) (Permit, WaitResult) {
	if n := l.enter(r.Share); n > 0 {
		return l.issue(r.Class, n), Admitted
	}
	w := l.enqueue(r)
	if w == nil {
		l.refused(r.Share)
		return Permit{}, l.turnAway(&r, QueueFull)
	}
	timer := time.NewTimer(w.Wait)
	defer timer.Stop()
	select {
	case p := <-w.answer:
		if p.Valid() {
			return p, Admitted
		}
		return p, l.turnAway(&r, PushedOut)
	case <-ctx.Done():
		if p := l.abandon(w); p.Valid() {
			p.Release(Cancel)
		}
		return Permit{}, Canceled
	case <-timer.C:
		if p := l.abandon(w); p.Valid() {
			return p, Admitted
		}
		return Permit{}, l.turnAway(&r, Expired)
	}
}

// turnAway counts a request that waited in vain.
func (l *Limiter) turnAway(r *Request, why WaitResult) WaitResult {
	l.queue.turnedAway[r.Level.priority()].Add(1)
	return why
}

// enqueue lets a request wait, for Wait of the waiter that it returns, or returns
// nil if the queue is full of others that are as important.
func (l *Limiter) enqueue(r Request) *waiter {
	r.Level = min(r.Level, levels-1)
	w := &waiter{Request: r, waiting: true, answer: make(chan Permit, 1)}
	q := &l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	w.Wait = l.patience(&r, &q.standing)
	if l.roomFor(&r) || q.pushOut(w) {
		q.push(w)
	} else if !q.displace(w) {
		return nil
	}
	s := &l.shards[0]
	s.queued.Add(1)
	s.wanted(r.Share)
	// A place may have become free after the look that failed and before the
	// waiter could be seen: look again, now that it can.
	l.handOutLocked()
	return w
}

// Look says for how long Wait would wait at the most for a request that finds no place,
// and false if it would turn it away at once. Nobody notices. It is safe for
// concurrent use.
func (l *Limiter) Look(r Request) (time.Duration, bool) {
	r.Level = min(r.Level, levels-1)
	q, w := &l.queue, &waiter{Request: r}
	q.mu.Lock()
	defer q.mu.Unlock()
	standing := q.standing
	_, pushes := q.below(w)
	return l.patience(&r, &standing), l.roomFor(&r) || pushes || q.rival(w) != w
}

// roomFor reports whether fewer wait than may.
func (l *Limiter) roomFor(r *Request) bool {
	return l.queue.length.Load() < int64(math.Ceil(r.Length*float64(l.plan.Load().steady)))
}

// below returns the level of those who are least important, if w is more so.
func (q *queue) below(w *waiter) (Level, bool) {
	level, ok := q.last()
	return level, ok && level > w.Level
}

// rival returns the least urgent request of w's visitor that w goes before; w itself
// if there is none.
func (q *queue) rival(w *waiter) *waiter {
	w.older = q.all[w.Level].newest
	return w.kin(older, func(a, b *waiter) bool { return a.Urgency > b.Urgency })
}

// pushOut makes room for w: of those who are least important, and less so than w,
// the oldest leaves.
func (q *queue) pushOut(w *waiter) bool {
	level, ok := q.below(w)
	if !ok {
		return false
	}
	oldest := q.all[level].oldest
	// Another request of the same visitor leaves instead if it is less urgent.
	out := oldest.kin(newer, func(a, b *waiter) bool { return a.Urgency > b.Urgency })
	q.take(out, oldest)
	q.dismiss(out)
	return true
}

// displace lets w have the place of a less urgent request of the same visitor.
func (q *queue) displace(w *waiter) bool {
	out := q.rival(w)
	if out == w {
		return false
	}
	q.replace(out, w)
	q.count(w, +1)
	q.count(out, -1)
	q.dismiss(out)
	return true
}

// dismiss tells a waiter that it has no place any more.
func (q *queue) dismiss(w *waiter) {
	w.waiting = false
	w.answer <- Permit{}
	q.pushedOut.Add(1)
}

// abandon takes a waiter out of the queue. If a permit was granted meanwhile, it
// is returned.
func (l *Limiter) abandon(w *waiter) Permit {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if w.waiting {
		l.queue.take(w, w)
		return Permit{}
	}
	return <-w.answer
}

// handOut gives free places to those who wait.
func (l *Limiter) handOut() {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.handOutLocked()
}

func (l *Limiter) handOutLocked() {
	q := &l.queue
	for level, ok := q.first(0); ok; level, ok = q.first(level + 1) {
		for w := q.all[level].newest; w != nil; {
			if l.Full(1) {
				return // nobody can have more room than all
			}
			next := w.older
			if n := l.enter(w.Share); n > 0 {
				next = l.grant(w, n, next)
			}
			w = next
		}
	}
}

// grant gives the place of the n-th in flight, which is w's, to the most urgent
// request of its visitor. It returns the waiter that is next.
func (l *Limiter) grant(w *waiter, n uint64, next *waiter) *waiter {
	chosen := w.kin(older, func(a, b *waiter) bool { return a.Urgency < b.Urgency && a.Share >= w.Share })
	l.queue.take(chosen, w)
	chosen.answer <- l.issue(chosen.Class, n)
	if chosen == next {
		return w // it stands there now
	}
	return next
}

func (q *queue) push(w *waiter) {
	q.stacks.push(w)
	q.count(w, +1)
}

// take takes a waiter out. Where it stood, the one now stands that it goes before
// or after: to have urgent requests gains nobody a second turn.
func (q *queue) take(w, instead *waiter) {
	q.stacks.remove(instead)
	if w != instead {
		q.stacks.replace(w, instead)
	}
	w.waiting = false
	q.count(w, -1)
}

// count keeps the numbers of those who wait.
func (q *queue) count(w *waiter, change int) {
	q.length.Add(int64(change))
	if w.Patient {
		q.standing.patient += change
	}
}
