package waiting

import "sync/atomic"

// meters bound what is asked for with one pass, so that one that was handed
// around gives all who have it no more than its owner had. They are as many as
// there are, however many passes: two that share a meter are rare, and hardly
// notice.
type meters [1 << 15]atomic.Int64

const (
	// passBurst is a page with all that belongs to it.
	passBurst = 120
	// passEvery is the time for each further request, in microseconds.
	passEvery = second / 5
)

// has reports whether a pass could be used once more.
func (m *meters) has(id uint64, now int64) bool {
	_, ok := afterUse(m[id%uint64(len(m))].Load(), now)
	return ok
}

// take reports whether a pass may be used once more: the generic cell rate
// algorithm, which needs one word, the time at which the account is even.
func (m *meters) take(id uint64, now int64) bool {
	even := &m[id%uint64(len(m))]
	for {
		old := even.Load()
		next, ok := afterUse(old, now)
		if !ok {
			return false
		}
		if even.CompareAndSwap(old, next) {
			return true
		}
	}
}

// afterUse is when the account is even after one more use, if there may be one.
func afterUse(even, now int64) (next int64, ok bool) {
	if even-now > passBurst*passEvery { // the clock was set back since
		even = now
	}
	next = max(even, now) + passEvery
	return next, next-now <= passBurst*passEvery
}
