package waiting

// spent remembers the ids of the tickets that were good for an admission, by the
// minute of their arrival, until they expire. When there are too many the oldest
// minute is forgotten, and tickets of that time are no good any more: so that
// none is good twice, a visitor who was away for long goes to the end.
type spent struct {
	minutes map[int64]map[uint64]struct{}
	all     int
	floor   int64 // the first minute that is remembered
}

const minute = 60 * second

// has reports whether a ticket was used, or may have been.
func (s *spent) has(t *ticket) bool {
	at := t.at / minute
	_, used := s.minutes[at][t.id]
	return used || at < s.floor
}

// add notes that a ticket was used.
func (s *spent) add(t *ticket, now int64) {
	at := t.at / minute
	if s.minutes == nil {
		s.minutes = map[int64]map[uint64]struct{}{}
	}
	if s.minutes[at] == nil {
		s.minutes[at] = map[uint64]struct{}{}
		s.expire(now)
	}
	if s.all >= mostSpent {
		s.forgetOldest()
	}
	if at >= s.floor && s.minutes[at] != nil {
		s.minutes[at][t.id] = struct{}{}
		s.all++
	}
}

// expire forgets what has expired by itself.
func (s *spent) expire(now int64) {
	first := (now - TicketLife.Microseconds()) / minute
	for at, ids := range s.minutes {
		if at < first {
			s.all -= len(ids)
			delete(s.minutes, at)
		}
	}
}

func (s *spent) forgetOldest() {
	oldest := int64(0)
	for at := range s.minutes {
		if oldest == 0 || at < oldest {
			oldest = at
		}
	}
	s.all -= len(s.minutes[oldest])
	delete(s.minutes, oldest)
	s.floor = max(s.floor, oldest+1)
}
