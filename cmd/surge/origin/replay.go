package origin

import "time"

// A Replay is the origin's schedule alone, in virtual time: what the origin would
// make of requests if nobody's machine were in the way. It has no backlog and no
// clients that leave. Times are since any beginning and must not go back.
//
// It is for one goroutine.
type Replay struct {
	s     schedule
	ended []int64
}

// NewReplay returns an idle origin. Only the model, the slots, the knee and the
// thrash of the configuration count.
func NewReplay(c Config) (*Replay, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	r := new(Replay)
	r.s = schedule{
		model: c.Model, slots: c.Slots, speed: 1, knee: c.Knee, thrash: c.Thrash,
		elapsed: func(_, _ float64) {},
		over:    func(j *job) { r.ended = append(r.ended, j.number) },
	}
	return r, nil
}

// Enter puts a request in that needs a slot for the demand at speed 1.
func (r *Replay) Enter(at time.Duration, number int64, demand time.Duration) {
	r.s.add(at.Seconds(), demand.Seconds()).number = number
}

// Inside is how many requests are inside.
func (r *Replay) Inside() int { return len(r.s.served) + len(r.s.waiting) }

// Next is when the next request will be done if nothing changes, rounded up; false
// if none will.
func (r *Replay) Next() (time.Duration, bool) {
	next := r.s.next()
	if next > 1e9 { // also +Inf: nobody replays thirty years
		return 0, false
	}
	return time.Duration(next*1e9) + 1, true
}

// Advance lets time pass and returns the numbers of the requests that were done,
// in their order. The slice holds until the next call.
func (r *Replay) Advance(to time.Duration) []int64 {
	r.ended = r.ended[:0]
	r.s.advance(to.Seconds())
	return r.ended
}

// Set changes slots and speed. Requests that were due before must have been taken
// out by Advance.
func (r *Replay) Set(at time.Duration, slots int, speed float64) { r.s.set(at.Seconds(), slots, speed) }

// Kill ends all that is inside, without finishing it.
func (r *Replay) Kill(at time.Duration) { r.s.kill(at.Seconds()) }
