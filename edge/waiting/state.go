package waiting

// A State is a look at a room, for metrics and status.
type State struct {
	Visitors int     `json:"visitors"`         // who wait and keep coming back
	Called   int     `json:"called"`           // how many of them are let in when they come
	AtDoor   int     `json:"at_door"`          // in front of the origin
	Estimate float64 `json:"estimate_seconds"` // for who comes now; 0 is none, or not known
	Lag      float64 `json:"lag_seconds"`      // how long ago those arrived who are let in now

	Tickets  uint64 `json:"tickets"`  // given, so far
	Admitted uint64 `json:"admitted"` // so far
	Left     uint64 `json:"left"`     // who did not come back, so far
	Void     uint64 `json:"void"`     // tickets that were not good, so far
}

// State returns what the room does now.
func (r *Room) State() State {
	now := r.clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	s := State{
		Visitors: len(r.seats.all), Called: r.window.called(),
		Tickets: r.counts.tickets, Admitted: r.counts.admitted, Left: r.counts.left, Void: r.counts.void,
	}
	s.AtDoor, _ = r.door.standing()
	if s.Visitors > 0 {
		cursor := min(r.seats.line.find(s.Called+1), now)
		s.Lag = float64(now-cursor) / float64(second)
	}
	if estimate, known := r.estimate(s.Visitors); known && s.Visitors >= s.Called {
		s.Estimate = estimate.Seconds()
	}
	return s
}
