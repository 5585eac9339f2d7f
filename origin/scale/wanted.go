package scale

import "math"

// A Wanted is how much of an origin should be there.
type Wanted struct {
	// Known says that the rest is more than a stopgap. What is not known reads as if
	// what is there were right.
	Known bool
	// Ratio is what is wanted over what is there: 1 means that it is right, 3.4 that
	// it takes 3.4 times as much. It is between 0 and 100.
	Ratio float64
	// Servers is how many servers that is, at least one.
	Servers int
}

// Bounds of what is wanted. Not knobs.
const (
	mostRatio = 100
	// spare is the part of a server that is not worth one.
	spare = 0.1
)

// want returns what is wanted for an amount of work: requests that the origin would
// have to work on at once. unit is how many of those one server makes progress on,
// servers how many there are, and target the share of that to be in use.
func want(work, unit float64, servers int, target float64) Wanted {
	ratio := work / (unit * float64(servers) * target)
	if !(work >= 0 && unit > 0 && target > 0 && servers > 0) || math.IsNaN(ratio) || math.IsInf(unit, 0) {
		return Wanted{Ratio: 1, Servers: max(1, servers)}
	}
	ratio = min(ratio, mostRatio)
	return Wanted{Known: true, Ratio: ratio, Servers: max(1, int(math.Ceil(ratio*float64(servers)-spare)))}
}
