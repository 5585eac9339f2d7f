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
	// QueueFull means that as many are waiting as may.
	QueueFull
	// Expired means that no place became free in time.
	Expired
	// Canceled means that the context ended.
	Canceled
)

// unknownWait is how long a request waits whose class has no baseline yet.
const unknownWait = 20 * time.Millisecond

// mostWait bounds the wait of one baseline: beyond it a visitor is better served
// elsewhere, however slow the class is.
const mostWait = time.Second

// A queue is the stack of the requests that wait for a place. It is used only
// when the origin is full, so a mutex is cheap enough.
//
// The newest is served first: under overload an order of arrival would make
// everybody wait for as long as the oldest may, and serve only those who are
// about to give up. Those at the bottom leave when their time is over.
type queue struct {
	// length lets a request that ends see without the mutex that nobody waits.
	length atomic.Int64
	mu     sync.Mutex
	top    *waiter
}

// A waiter is one request in the stack.
type waiter struct {
	class        Class
	share        float64
	newer, older *waiter
	waiting      bool        // in the stack; false once granted or left
	granted      chan Permit // holds one, so that granting never blocks
}

// Wait is Acquire for a request that may wait for at most wait, or for one
// baseline of its class, but at most a second, if wait is zero. At most length, a share of the limit
// rounded up, wait at a time.
func (l *Limiter) Wait(ctx context.Context, class Class, share float64, wait time.Duration, length float64) (Permit, WaitResult) {
	if n := l.enter(share); n > 0 {
		return l.issue(class, n), Admitted
	}
	if wait <= 0 {
		wait = l.baselineOf(class)
	}
	w := l.enqueue(class, share, length)
	if w == nil {
		l.refused(share)
		return Permit{}, QueueFull
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case p := <-w.granted:
		return p, Admitted
	case <-ctx.Done():
		if p := l.abandon(w); p.Valid() {
			p.Release(Cancel)
		}
		return Permit{}, Canceled
	case <-timer.C:
		if p := l.abandon(w); p.Valid() {
			return p, Admitted
		}
		return Permit{}, Expired
	}
}

// enqueue puts a request on the stack, or returns nil if the stack is full.
func (l *Limiter) enqueue(class Class, share, length float64) *waiter {
	q := &l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	most := math.Ceil(length * float64(l.plan.Load().steady))
	if float64(q.length.Load()) >= most {
		return nil
	}
	w := &waiter{class: class, share: share, waiting: true, granted: make(chan Permit, 1)}
	q.push(w)
	s := &l.shards[0]
	s.queued.Add(1)
	s.wanted(share)
	// A place may have become free after the look that failed and before the
	// waiter could be seen: look again, now that it can.
	l.handOutLocked()
	return w
}

// abandon takes a waiter off the stack. If a permit was granted meanwhile, it
// is returned.
func (l *Limiter) abandon(w *waiter) Permit {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	if w.waiting {
		l.queue.remove(w)
		return Permit{}
	}
	return <-w.granted
}

// handOut gives free places to the newest waiters.
func (l *Limiter) handOut() {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.handOutLocked()
}

func (l *Limiter) handOutLocked() {
	for w := l.queue.top; w != nil; {
		older := w.older
		n := l.enter(w.share)
		if n == 0 && w.share >= 1 {
			return // nobody can have more room than all
		}
		if n > 0 {
			l.queue.remove(w)
			w.granted <- l.issue(w.class, n)
		}
		w = older
	}
}

func (q *queue) push(w *waiter) {
	w.older = q.top
	if q.top != nil {
		q.top.newer = w
	}
	q.top = w
	q.length.Add(1)
}

func (q *queue) remove(w *waiter) {
	if w.newer != nil {
		w.newer.older = w.older
	} else {
		q.top = w.older
	}
	if w.older != nil {
		w.older.newer = w.newer
	}
	w.waiting = false
	q.length.Add(-1)
}

// baselineOf is how long a request of the class takes at an idle origin, as far
// as one should wait for that long.
func (l *Limiter) baselineOf(class Class) time.Duration {
	p := l.plan.Load()
	if class %= classes; !p.known(class) {
		return unknownWait
	}
	return min(mostWait, time.Duration(math.Exp(p.base[class])))
}
