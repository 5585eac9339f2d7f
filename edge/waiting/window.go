package waiting

import "time"

// A window is how many visitors are called at a time. It follows from how those
// fare who come when they were called: it regulates nothing but the time that
// they stand at the door, so that the origin is never idle and the door never
// crowded.
type window struct {
	size   float64
	steady bool // the door was crowded once
}

const (
	startWindow = 16
	// windowTick is how often the window is set.
	windowTick = int64(100 * time.Millisecond / time.Microsecond)
	// windowStart is how many more are called for each that was let in, while it is
	// not known how many are too many; windowGrowth and windowFall are the factors
	// afterwards. What is called shows a second or two later: in that time they
	// change it by less than half.
	windowStart  = 2
	windowGrowth = 1.02
	windowFall   = 0.98
	// crowded is the longest stand at the door that is taken for none, of more than
	// crowdedBy.
	crowded   = time.Second
	crowdedBy = 2
	// latelyTime is for how long an admission shows that the origin is alive.
	latelyTime = 3 * second
)

func newWindow() window { return window{size: startWindow} }

// called is how many are called now.
func (w *window) called() int { return max(1, int(w.size)) }

// step sets the window. atDoor stand at the door, one of them for as long as
// stood; admitted were let in since the last step, lately says that anybody was in
// the last seconds, and waiting are in the room. A window that is larger than the
// room does not grow, nor does one whose origin lets nobody in.
func (w *window) step(atDoor int, stood time.Duration, admitted int, lately bool, waiting int) {
	switch {
	case atDoor > crowdedBy && stood > crowded:
		w.size, w.steady = max(1, w.size*windowFall), true
	case atDoor > 0 || waiting <= w.called():
	case !w.steady:
		w.size = min(mostSeats, w.size+windowStart*float64(admitted))
	case lately:
		w.size = min(mostSeats, w.size*windowGrowth)
	}
}
