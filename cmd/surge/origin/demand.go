package origin

import (
	"math"
	"math/rand/v2"
	"time"
)

// Demand is the service time that ?draw=n gets: it depends on the seed and on n
// alone, not on who came before. So two runs give one request the same work,
// whatever a proxy lets through in between. Config must have come from Complete.
func (c Config) Demand(n uint64) time.Duration {
	// The finalizer of SplitMix64 parts neighbours, whose streams would be alike.
	z := n + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return time.Duration(c.lognormal(rand.New(rand.NewPCG(c.Seed, z^z>>31))) * float64(time.Second))
}

// Complete returns c with its defaults filled in, or says what is wrong with it.
func (c Config) Complete() (Config, error) { return c.withDefaults() }

// lognormal draws a service time, in seconds.
func (c Config) lognormal(rng *rand.Rand) float64 {
	mean := c.Service.Seconds()
	if c.CV == 0 {
		return mean
	}
	// A lognormal variable with variance s2 of its logarithm has the mean
	// exp(mu+s2/2) and the squared coefficient of variation exp(s2)-1.
	s2 := math.Log1p(c.CV * c.CV)
	return mean * math.Exp(math.Sqrt(s2)*rng.NormFloat64()-s2/2)
}
