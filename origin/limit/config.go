package limit

import "math"

// Config bounds the learned limit. The zero value bounds it to 1 and 10,000.
type Config struct {
	// Min is the least number of requests that the origin is given at once,
	// also while the limiter lowers the limit to look at the baseline: with a
	// minimum above what the origin can use, it hardly sees it idle.
	// Zero means 1.
	Min int `koanf:"min" default:"1" min:"1"`
	// Max is the largest number of requests that the origin is given at once.
	// Zero means 10,000.
	Max int `koanf:"max" default:"10000" min:"1"`
}

// defaultMax bounds an unconfigured limit, so that a measuring error cannot
// open the gate altogether.
const defaultMax = 10_000

// bounds returns the limits of the limit. A minimum above the maximum gives way.
func (c Config) bounds() (low, high int) {
	high = c.Max
	if high <= 0 {
		high = defaultMax
	}
	high = min(high, math.MaxInt32)
	return min(max(c.Min, 1), high), high
}
