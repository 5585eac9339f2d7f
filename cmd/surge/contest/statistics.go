package contest

import (
	"math"
	"slices"
)

// quantile returns the value that a share q of the values does not exceed; NaN of
// none. It sorts the values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	rank := int(math.Ceil(q * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}

// A Pairing compares one measure of two contenders, seed by seed.
type Pairing struct {
	Ours, Theirs float64 // medians
	Difference   float64 // ours less theirs, mean over the seeds
	// Spread is half the range of the differences. With one seed there is none, and
	// nothing can be said.
	Spread float64
	Seeds  int
}

// pairUp compares values of the same seeds. What either lacks is left out.
func pairUp(ours, theirs map[uint64]float64) Pairing {
	var a, b, differences []float64
	for seed, x := range ours {
		if y, ok := theirs[seed]; ok && !math.IsNaN(x) && !math.IsNaN(y) {
			a, b, differences = append(a, x), append(b, y), append(differences, x-y)
		}
	}
	p := Pairing{Ours: median(a), Theirs: median(b), Seeds: len(differences), Spread: math.NaN(), Difference: math.NaN()}
	if p.Seeds == 0 {
		return p
	}
	sum := 0.0
	for _, d := range differences {
		sum += d
	}
	p.Difference = sum / float64(p.Seeds)
	if p.Seeds > 1 {
		p.Spread = (slices.Max(differences) - slices.Min(differences)) / 2
	}
	return p
}

// Counts reports whether the difference is larger than its spread, and not a
// rounding error.
func (p Pairing) Counts() bool {
	return math.Abs(p.Difference) > p.Spread && math.Abs(p.Difference) > 1e-9 // false with a NaN
}

// median returns the middle value, NaN of none. What is NaN itself does not count.
func median(values []float64) float64 {
	v := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// spreadOf is half the range of values.
func spreadOf(values []float64) float64 {
	v := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(v) < 2 {
		return math.NaN()
	}
	return (slices.Max(v) - slices.Min(v)) / 2
}
