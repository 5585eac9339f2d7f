package limit

import (
	"cmp"
	"math"
	"time"
)

const (
	// unknownWait is how long a request waits whose class has no baseline yet.
	unknownWait = 20 * time.Millisecond
	// mostWait bounds the wait of one baseline: beyond it a visitor is better served
	// elsewhere, however slow the class is.
	mostWait = time.Second
	// standsAfter is how long a queue has to be without a pause, and one baseline at
	// least, until it counts as standing.
	standsAfter = 100 * time.Millisecond
)

// bands is into how many groups levels are put to see where the queue stands.
const bands = levels / 16

// standing tells a queue that stands from one that a burst has left, after Maurer,
// "Fail at Scale" (ACM Queue 2015), which is CoDel (RFC 8289) for requests: whoever
// comes to a queue that has not been empty for a while is served soon or not at
// all, since it is not going to be shorter.
//
// What counts is who stands before a request: those as important or more. While the
// first of all is less important, there is none of them.
type standing struct {
	patient int          // requests in the queue that nothing else can take
	begun   int64        // when it last began to hold any
	first   [bands]int64 // when last the first of all was in the band
}

// notice notes who is first.
func (s *standing) notice(first Level, now int64) { s.first[first/(levels/bands)] = now }

// emptied is when last nobody waited who stands before the level.
func (s *standing) emptied(level Level) int64 {
	last := s.begun
	for _, at := range s.first[level/(levels/bands)+1:] {
		last = max(last, at)
	}
	return last
}

// patience is how long a request that comes now may wait, and lets s know of it.
func (l *Limiter) patience(r *Request, s *standing) time.Duration {
	short := l.baselineOf(r.Class)
	if !r.Patient || r.Wait <= 0 {
		return cmp.Or(max(0, r.Wait), short)
	}
	now := l.now()
	if s.patient == 0 {
		s.begun = now
	}
	if first, ok := l.queue.first(0); ok {
		s.notice(first, now)
	}
	if now-s.emptied(r.Level) > int64(max(standsAfter, short)) {
		return min(r.Wait, short)
	}
	return r.Wait
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
