package edge

import "time"

// A trouble is something that goes wrong again and again while it lasts, such as
// writing to a full disk. The log tells that it has begun and that it is over,
// and nothing in between. The zero value is none.
type trouble struct {
	last time.Time // when it was last met; zero while there is none
}

// troubleOver is how long nothing may have gone wrong before it counts as over;
// not a knob: what works now and then would fill the log.
const troubleOver = 2 * time.Second

// meet notes that something went wrong, and reports whether that is new.
func (t *trouble) meet(now time.Time) bool {
	first := t.last.IsZero()
	t.last = now
	return first
}

// pass notes that all went well, and reports whether that is new.
func (t *trouble) pass(now time.Time) bool {
	if t.last.IsZero() || now.Sub(t.last) < troubleOver {
		return false
	}
	t.last = time.Time{}
	return true
}

// met reports whether it goes on.
func (t *trouble) met() bool { return !t.last.IsZero() }
