package overflow

import "spillway/edge/outcome"

// Foretell returns the decisions that a request meets one after the other if its
// wait for the origin, if it has to wait, ends as waited says. The last is the one
// that is not Queue.
func Foretell(f Facts, waited outcome.Reason) []Decision {
	d := Decide(&f)
	if d.Place != Queue {
		return []Decision{d}
	}
	f.Waited = waited
	return append([]Decision{d}, Decide(&f))
}

// Ineligible says why the request may not go to any function, whatever the
// functions say; None means that it may.
func Ineligible(f *Facts) outcome.Reason { return f.ineligible() }
