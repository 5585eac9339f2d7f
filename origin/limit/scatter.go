package limit

const (
	// scatterNeeded is how many estimates have to be in before their scatter counts.
	scatterNeeded = 24
	// scatterRequests is how many estimates it remembers.
	scatterRequests = 256
	// mostExcess bounds the difference of the variances that is believed.
	mostExcess = 2
)

// A scatter is how the estimates of ln K scatter, which tells an origin that
// queues from one that shares.
//
// K is n times the mean of the service time over that of the latency (Little's
// law), while the mean of ln n*b/R compares geometric means. Where requests share
// a processor all are stretched alike, latencies scatter at the limit as at an
// idle origin, and the two are the same. Where they queue, each waits for about as
// long whatever its own work is: they scatter less, and the geometric mean
// exaggerates the wait of the many short ones. Of latencies that are about
// lognormal the mean is exp(mean ln + variance/2), so half of the difference of
// the variances is what is missing.
type scatter struct {
	mean, variance float64
	n              float64 // samples behind the variance
}

// observe follows the estimates of a tick. The squares are of their distance to
// the mean in the plan in force.
func (s *scatter) observe(at, squares sum) {
	s.mean += max(at.n/(s.n+at.n), remembering(filterRequests, at.n)) * (at.mean() - s.mean)
	if squares.n > 0 {
		weight := max(squares.n/(s.n+squares.n), remembering(scatterRequests, squares.n))
		s.variance += weight * (clamp(squares.mean(), maxSquare) - s.variance)
		s.n += squares.n
	}
}

// excess is what the estimates of ln K lack, given the variance of ln latency at an
// idle origin. Latencies that scatter more at the limit than there are chance.
func (s *scatter) excess(idle float64) float64 {
	if s.n < scatterNeeded {
		return 0
	}
	return max(0, min(mostExcess, idle-s.variance)) / 2
}
