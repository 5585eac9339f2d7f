package limit

import "math/bits"

// stacks are the waiters, a stack for each level. A bitmap says which hold any, so
// that coming, leaving and finding the most and the least important cost the same
// however many wait. The queue's mutex guards them.
type stacks struct {
	used [levels / 64]uint64
	all  [levels]stack
}

// A stack is the waiters of one level, linked by their ages.
type stack struct{ newest, oldest *waiter }

// first returns the least level from some level on that anybody waits at.
func (s *stacks) first(from Level) (Level, bool) {
	for i, offset := int(from)/64, from%64; i < len(s.used); i, offset = i+1, 0 {
		if word := s.used[i] >> offset << offset; word != 0 {
			return Level(i*64 + bits.TrailingZeros64(word)), true
		}
	}
	return levels, false
}

// last returns the greatest level that anybody waits at.
func (s *stacks) last() (Level, bool) {
	for i := len(s.used) - 1; i >= 0; i-- {
		if word := s.used[i]; word != 0 {
			return Level(i*64 + bits.Len64(word) - 1), true
		}
	}
	return 0, false
}

// push makes w the newest of its level.
func (s *stacks) push(w *waiter) {
	st := &s.all[w.Level]
	w.older, w.newer = st.newest, nil
	s.link(w)
	s.used[w.Level/64] |= 1 << (w.Level % 64)
}

// remove takes w out.
func (s *stacks) remove(w *waiter) {
	st := &s.all[w.Level]
	if w.newer != nil {
		w.newer.older = w.older
	} else {
		st.newest = w.older
	}
	if w.older != nil {
		w.older.newer = w.newer
	} else {
		st.oldest = w.newer
	}
	if st.newest == nil {
		s.used[w.Level/64] &^= 1 << (w.Level % 64)
	}
}

// replace gives the place of old to w, which must be of the same level and in no
// stack.
func (s *stacks) replace(old, w *waiter) {
	w.older, w.newer = old.older, old.newer
	s.link(w)
}

// link tells the neighbours of w that it is there.
func (s *stacks) link(w *waiter) {
	st := &s.all[w.Level]
	if w.newer != nil {
		w.newer.older = w
	} else {
		st.newest = w
	}
	if w.older != nil {
		w.older.newer = w
	} else {
		st.oldest = w
	}
}

// kinSought bounds the search for requests of one visitor. Those of one page come
// close together.
const kinSought = 64

// kin returns of the waiters of w's visitor, from w on in one direction, the one
// that goes before all others; w itself unless another does.
func (w *waiter) kin(next func(*waiter) *waiter, before func(a, b *waiter) bool) *waiter {
	best, other := w, next(w)
	for range kinSought {
		if other == nil {
			break
		}
		if other.Visitor == w.Visitor && before(other, best) {
			best = other
		}
		other = next(other)
	}
	return best
}

func older(w *waiter) *waiter { return w.older }
func newer(w *waiter) *waiter { return w.newer }
