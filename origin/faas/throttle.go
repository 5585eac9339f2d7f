package faas

import "time"

// How a function is spared that its platform throttles: it has half of its calls for
// heldBack, and growth times as many after each further one. Not knobs.
const (
	heldBack = time.Second
	growth   = 1.1
)

// A throttle is what a platform that turned a call away is spared: new calls for a
// moment, then half of those that it had, for a second, and then a tenth more in
// each one (AIMD, but that the increase is a share: a cap may be 10 or 10,000). The
// zero value spares nothing.
type throttle struct {
	at   time.Time // of the last cut; zero is none
	from float64   // calls that were left
}

// limit is how many calls there may be, of a function that may have so many.
func (t *throttle) limit(now time.Time, most int) int {
	if t.at.IsZero() {
		return most
	}
	if since := now.Sub(t.at); since >= 0 && since < throttlePause {
		return 0
	}
	limit := t.from
	for left := now.Sub(t.at) - heldBack; left >= 0 && limit < float64(most); left -= heldBack {
		limit = max(limit*growth, limit+1)
	}
	if limit >= float64(most) {
		*t = throttle{}
		return most
	}
	return int(limit)
}

// cut halves what there was, unless the call was under way at the last cut: it
// says nothing new.
func (t *throttle) cut(now, began time.Time, inFlight int) {
	if began.After(t.at) || t.at.IsZero() {
		t.at, t.from = now, max(1, float64(inFlight)/2)
	}
}
