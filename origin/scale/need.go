package scale

import "time"

// Where a need begins and where it ends, as ratios of what is there. Between the
// two it stays as it was, so that an origin at its target sends no messages.
const (
	needBegins = 1.1
	needEnds   = 1
)

// mostRepeats is how often the end of a need is told again when its message was lost:
// who still waits for it pays for servers that nobody needs. With the default time
// between messages that is an hour and more. Not a knob.
const mostRepeats = 12

// A stage says how a need stands.
type stage uint8

const (
	calm   stage = iota
	needed       // more is wanted, for so long that it counts
	easing       // not any more, and what is wanted still falls
)

// A need decides when somebody is to be told. It holds no clock: who asks it brings
// the time. The zero value needs nothing.
type need struct {
	stage stage
	since time.Time // of the need

	high bool // more is asked for than there should be
	rose time.Time
	told time.Time // the last message, of this need or another

	over    time.Time // since when the need was that is over
	repeats int       // of its end
}

// step brings the need up to the present, and reports whether a message is due. now
// and held are ratios: of what is asked now, and of what is wanted, which forgets
// slowly.
func (n *need) step(at time.Time, now, held float64, c *Config) (due bool) {
	switch {
	case now < needEnds:
		n.high = false
	case now > needBegins && !n.high:
		n.high, n.rose = true, at
	}
	switch lasting := n.high && at.Sub(n.rose) >= c.AtLeast; {
	case n.stage != needed && lasting:
		n.stage, n.since, n.repeats = needed, n.rose, 0
	case n.stage == needed && held < needEnds:
		n.stage = easing
	}
	if n.stage == calm || !n.told.IsZero() && at.Sub(n.told) < c.Every {
		return false
	}
	n.told = at
	return true
}

// rest ends the need when it is over and what is wanted falls no further: who was
// told so has nothing more to hear.
func (n *need) rest(now, held float64) {
	const near, least = 1.1, 0.1
	if n.stage == easing && held <= near*max(now, least) {
		n.stage, n.since, n.over = calm, time.Time{}, n.since
	}
}

// again has the end of the last need told once more, a limited number of times.
func (n *need) again() {
	if n.stage == calm && n.repeats < mostRepeats {
		n.stage, n.since = easing, n.over
		n.repeats++
	}
}

// unsure forgets a need that nobody was told of: what is asked of an origin that is
// down says nothing about its size.
func (n *need) unsure() { n.high = false }
