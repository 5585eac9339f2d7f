package waiting

import "time"

// seats are the visitors that wait and keep coming back. Each is expected again
// at a time that it was told; who is late loses the seat.
type seats struct {
	line line
	all  map[uint64]seat
	// wheel holds each seat once, under the second in which it is looked at next.
	wheel [wheelSlots][]uint64
	swept int64 // the second up to which the wheel was looked at
}

// A seat is one visitor. Times are microseconds.
type seat struct {
	arrival int64
	until   int64
}

// wheelSlots is more than the longest time that a seat is kept, in seconds.
const wheelSlots = 256

const second = int64(time.Second / time.Microsecond)

// open makes an empty room ready.
func (s *seats) open(now int64) {
	s.all = map[uint64]seat{}
	s.wheel = [wheelSlots][]uint64{}
	s.swept = now / second
	s.line.reset(now - TicketLife.Microseconds())
}

// take seats a visitor, or keeps its seat for longer. Beyond the bound it does
// nothing.
func (s *seats) take(id uint64, arrival, until, now int64) {
	old, seated := s.all[id]
	if !seated && len(s.all) >= mostSeats {
		return
	}
	if !seated {
		s.slide(arrival, now)
		if !s.line.holds(arrival) {
			return // a clock is wrong by hours
		}
		s.line.add(arrival, 1)
		s.schedule(id, until, now)
		old.arrival = arrival
	}
	old.until = until
	s.all[id] = old
}

// leave gives a seat up, and reports whether there was one.
func (s *seats) leave(id uint64) bool {
	old, seated := s.all[id]
	if seated {
		s.line.add(old.arrival, -1)
		delete(s.all, id) // the wheel finds out when it comes by
	}
	return seated
}

// slide moves the line on when it ends before an arrival: once an hour or so.
func (s *seats) slide(arrival, now int64) {
	if arrival < s.line.base+slots*slotTime {
		return
	}
	s.line.reset(now - TicketLife.Microseconds())
	for id, seat := range s.all {
		if s.line.holds(seat.arrival) {
			s.line.add(seat.arrival, 1)
		} else {
			delete(s.all, id)
		}
	}
}

func (s *seats) schedule(id uint64, until, now int64) {
	at := min(max(until/second+1, now/second+1), now/second+wheelSlots-1)
	s.wheel[at%wheelSlots] = append(s.wheel[at%wheelSlots], id)
}

// sweep takes the seats of those who did not come back, and returns how many.
func (s *seats) sweep(now int64) (left int) {
	for end := now / second; s.swept < end; {
		s.swept = max(s.swept+1, end-wheelSlots+1)
		slot := &s.wheel[s.swept%wheelSlots]
		due := *slot
		*slot = nil
		for _, id := range due {
			switch seat, seated := s.all[id]; {
			case !seated:
			case seat.until <= now:
				s.leave(id)
				left++
			default:
				s.schedule(id, seat.until, now)
			}
		}
	}
	return left
}
