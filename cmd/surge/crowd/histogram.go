package crowd

import (
	"math"
	"math/bits"
	"time"
)

// subBuckets is how many buckets each power of two is cut into. A value is off by
// at most half a bucket: 1/128, less than 1 %.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	octaves    = 42 - subBits // up to 2^42 ns, more than an hour
)

// A histogram counts durations in buckets whose width grows with their value, so
// that its relative error is bounded and it never has to know its range.
type histogram struct {
	counts [(octaves + 1) * subBuckets]uint32
	n      uint64
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.n++
}

// quantile returns the value below or at which a share q of the durations lie.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := min(max(uint64(math.Ceil(q*float64(h.n))), 1), h.n)
	var seen uint64
	for i, c := range h.counts {
		if seen += uint64(c); seen >= rank {
			return bucketValue(i)
		}
	}
	panic("BUG: the buckets of a histogram add up to less than its count")
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < subBuckets {
		return int(v)
	}
	exp := bits.Len64(v) - 1 - subBits
	if exp >= octaves {
		return len(histogram{}.counts) - 1
	}
	return exp*subBuckets + int(v>>exp) // v>>exp lies in [subBuckets, 2*subBuckets)
}

// bucketValue returns the middle of bucket i.
func bucketValue(i int) time.Duration {
	if i < 2*subBuckets {
		return time.Duration(i)
	}
	exp := i/subBuckets - 1
	low := uint64(subBuckets+i%subBuckets) << exp
	return time.Duration(low + 1<<exp/2)
}
