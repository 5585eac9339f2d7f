package budget

import (
	"slices"
	"time"
)

// A span is how long a period lasts.
type span int

const (
	hour span = iota
	day
	month
)

var spans = [...]span{hour, day, month}

func (s span) String() string { return [...]string{"hour", "day", "month"}[s] }

// start is when the period began that t lies in. Truncate counts from the zero
// time, which is midnight UTC.
func (s span) start(t time.Time) time.Time {
	t = t.UTC()
	switch s {
	case hour:
		return t.Truncate(time.Hour)
	case day:
		return t.Truncate(24 * time.Hour)
	}
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// next is when the period ends that begins at start.
func (s span) next(start time.Time) time.Time {
	switch s {
	case hour:
		return start.Add(time.Hour)
	case day:
		return start.Add(24 * time.Hour)
	}
	return start.AddDate(0, 1, 0)
}

// A visit is one hour, day or month that the clock has been in.
type visit struct {
	Start time.Time `json:"start"`
	// Before is what the budget had spent in all when the visit began.
	Before float64 `json:"before"`
	// Added is what the operator allowed beyond the limit.
	Added float64 `json:"added,omitzero"`
	// Emptied tells that the operator allows nothing more.
	Emptied bool `json:"emptied,omitzero"`
	// Warned is the share of the limit, in percent, that was last warned of.
	Warned int `json:"warned,omitzero"`
}

// maxVisits is how many visits are remembered. A clock that jumps to and fro
// between more periods than that, within one of them, is beyond repair.
const maxVisits = 4

// A period is the hours, days or months that the clock has been in lately, the
// present one last. What is spent counts in the present one, and in each other
// one from its own Before on, should the clock return to it: so a step of the
// clock and its correction neither give an amount twice nor forget what was spent.
type period []visit

func clonePeriods(all [len(spans)]period) [len(spans)]period {
	for i, p := range all {
		all[i] = slices.Clone(p)
	}
	return all
}

func (p period) present() *visit { return &p[len(p)-1] }

// advance moves the period to now, with total spent in all. It reports whether
// another period has begun, of which nothing is spent.
func (p *period) advance(s span, now time.Time, total float64) (began bool) {
	start := s.start(now)
	if len(*p) == 0 {
		*p = period{{Start: start, Before: total}}
		return true
	}
	last := *p.present()
	if start.Equal(last.Start) {
		return false
	}
	if start.Equal(s.next(last.Start)) {
		// Time goes its way. Visits to what is still to come were an error of the
		// clock; else all that is spent until then would count there.
		*p = slices.DeleteFunc(*p, func(v visit) bool { return v.Start.After(start) })
	}
	if i := slices.IndexFunc(*p, func(v visit) bool { return v.Start.Equal(start) }); i >= 0 {
		known := (*p)[i]
		*p = append(slices.Delete(*p, i, i+1), known)
		return false
	}
	next := last
	if next.Start = start; start.After(last.Start) {
		next = visit{Start: start, Before: total}
	}
	if len(*p) == maxVisits {
		*p = slices.Delete(*p, 0, 1)
	}
	*p = append(*p, next)
	return start.After(last.Start)
}
