package limit

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// cacheLine is the distance between two counters that must not slow each other
// down: two lines of 64 bytes, since processors fetch them in pairs.
const cacheLine = 128

// A shard holds the sums of the requests that ended since the last tick. Adding
// to it is a few atomic additions to memory that mostly one processor uses.
type shard struct {
	refused atomic.Uint64 // requests that found no room
	queued  atomic.Uint64 // requests that waited for room
	share   atomic.Uint32 // greatest share of those, in units of 1/shareUnit
	started atomic.Uint64 // requests started in a dip
	ended   atomic.Uint64 // of these, ended in any way
	blank   atomic.Uint64 // requests that ended and taught nothing
	dropped atomic.Uint64 // requests that failed
	reports tally         // what the origin says of its utilization

	class [classes]classShard
	_     [cacheLine]byte
}

// A classShard holds the sums of one class. They hold logarithms of whole
// latencies, from which the controller subtracts its baseline. What lies above
// a baseline would be of no use to it: requests go on ending while it decides,
// and these know only the baseline of the plan before.
type classShard struct {
	low         tally // ln latency of requests that started at low in-flight
	lowSquare   tally // squares of their distance to the baseline, for the variance
	marked      tally // ln latency of requests that started in a dip
	steer       tally // ln in flight - ln latency, of requests that started at the limit
	steerSquare tally // squares of their distance to the mean, for the variance
	failed      tally // of these, failures of a class without baseline: only counted
}

// A tally is a count and a sum of numbers in one word, so that one atomic
// addition keeps both in step: the count in the upper 20 bits, the sum as a
// fixed-point number in the lower 44. The sum cannot run over before the count
// does, at a million samples between two ticks.
type tally struct{ word atomic.Uint64 }

const (
	tallySumBits  = 44
	tallyFraction = 1 << 16
	// tallyLimit bounds one number. Logarithms of latencies stay below it.
	tallyLimit = 64
)

func (t *tally) add(v float64) {
	fixed := int64(clamp(v, tallyLimit) * tallyFraction)
	t.word.Add(1<<tallySumBits + uint64(fixed))
}

// maxSquare bounds one squared residual, so that a single outlier does not
// make the limiter blind by inflating the variance.
const maxSquare = 12

func (t *tally) addSquare(v float64) { t.add(min(v*v, maxSquare)) }

// take returns the count and the sum, and starts again at zero.
func (t *tally) take() sum {
	if t.word.Load() == 0 {
		return sum{}
	}
	w := t.word.Swap(0)
	fixed := int64(w<<(64-tallySumBits)) >> (64 - tallySumBits)
	count := (w - uint64(fixed)) >> tallySumBits
	return sum{float64(count), float64(fixed) / tallyFraction}
}

// A sum is a count of numbers and their sum.
type sum struct{ n, total float64 }

func (s sum) plus(o sum) sum { return sum{s.n + o.n, s.total + o.total} }

// above returns the sum of the same numbers, each less base.
func (s sum) above(base float64) sum { return sum{s.n, s.total - s.n*base} }

// mean is only called for n > 0. A tally that ran over may hold any sum; the
// mean stays within what a single number may be.
func (s sum) mean() float64 { return clamp(s.total/s.n, tallyLimit) }

// clamp bounds v to -limit..limit. What is not a number becomes 0.
func clamp(v, limit float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return max(-limit, min(limit, v))
}

// shardCount is the power of two at or above the number of processors, at most
// 16: beyond it the ticks would look at more sums than there are requests.
func shardCount(processors int) int {
	return min(16, 1<<bits.Len(uint(processors-1)))
}

// shareUnit is the resolution of the shares that are told to the controller.
const shareUnit = 1024

// wanted notes the greatest share that somebody was refused.
func (s *shard) wanted(share float64) {
	v := max(1, uint32(clamp(share, 1)*shareUnit))
	for old := s.share.Load(); old < v; old = s.share.Load() {
		if s.share.CompareAndSwap(old, v) {
			return
		}
	}
}

// Latencies outside of these bounds are taken for the bounds: a clock that went
// back, or an exchange that was forgotten. In nanoseconds.
const (
	minLatency = 1e3
	maxLatency = 3.6e12
)

var lnLeastLatency, lnMostLatency = math.Log(minLatency), math.Log(maxLatency)

// lnLatency is the logarithm of a latency in nanoseconds.
func lnLatency(ns int64) float64 {
	return math.Log(max(minLatency, min(maxLatency, float64(ns))))
}

// learn adds what a request teaches to the sums of its shard.
func (l *Limiter) learn(t *ticket, r Result) {
	p := l.plan.Load()
	// A dip counts its own requests only, not those of one that gave up on them.
	marked := t.roles&roleMarked != 0 && p.era == t.plan.era
	if marked {
		t.shard.ended.Add(1)
	}
	if r == Cancel {
		t.shard.blank.Add(1)
		return
	}
	if r == Drop {
		t.shard.dropped.Add(1)
	}
	if t.roles == 0 {
		return
	}
	sums, known := &t.shard.class[t.class], p.known(t.class)
	latency := lnLatency(l.now() - t.start)
	if marked && known {
		if r == OK {
			sums.marked.add(latency)
			sums.lowSquare.addSquare(latency - p.base[t.class])
		}
		return
	}
	// A request of a dip whose class has no baseline yet teaches one.
	if r == OK && (t.roles&roleLow != 0 || marked) {
		sums.low.add(latency)
		if known {
			sums.lowSquare.addSquare(latency - p.base[t.class])
		}
	}
	// Requests that end while a dip unloads the origin are faster than the limit
	// makes them. Those that merely began before something changed do count:
	// without them the first to end would be the fast ones.
	if t.roles&roleSteer != 0 && p.steering {
		if r == Drop {
			if !known {
				sums.failed.add(0)
				return
			}
			// Failures are samples like others, of at least twice the baseline; a
			// separate rule for them would cut twice for one cause.
			latency = max(latency, p.base[t.class]+math.Ln2)
		}
		at := math.Log(float64(t.n)) - latency
		sums.steer.add(at)
		if known && r == OK {
			sums.steerSquare.addSquare(at + p.base[t.class] - p.mean)
		}
	}
}

// A window is what happened between two ticks: all that the controller sees.
type window struct {
	inFlight int
	blocked  bool    // somebody was refused, waited or is waiting
	share    float64 // greatest share of those
	started  float64 // requests started in a dip
	ended    float64
	blank    float64 // requests that taught nothing
	dropped  float64 // requests that failed
	reports  sum     // what the origin says of its utilization
	pleas    uint32  // answers in a row, so far, that asked for a pause
	asked    time.Duration
	class    [classes]classWindow
}

type classWindow struct {
	low, lowSquare, marked, steer, steerSquare, failed sum
}

// collect empties the sums of all shards.
func (l *Limiter) collect() window {
	w := window{inFlight: int(l.gate.Load() & inFlightMask)}
	w.blocked = l.queue.length.Load() > 0
	w.pleas, w.asked = l.pleas.Load(), time.Duration(l.asked.Load())
	for i := range l.shards {
		s := &l.shards[i]
		w.started += float64(s.started.Swap(0))
		w.ended += float64(s.ended.Swap(0))
		w.blank += float64(s.blank.Swap(0))
		w.dropped += float64(s.dropped.Swap(0))
		w.reports = w.reports.plus(s.reports.take())
		if v := s.share.Load(); v > 0 {
			w.share = max(w.share, float64(s.share.Swap(0))/shareUnit)
			w.blocked = true
		}
		for c := range s.class {
			from, to := &s.class[c], &w.class[c]
			to.low = to.low.plus(from.low.take())
			to.lowSquare = to.lowSquare.plus(from.lowSquare.take())
			to.marked = to.marked.plus(from.marked.take())
			to.steer = to.steer.plus(from.steer.take())
			to.steerSquare = to.steerSquare.plus(from.steerSquare.take())
			to.failed = to.failed.plus(from.failed.take())
		}
	}
	return w
}

// idle reports whether nothing was in flight, as far as the ends of few requests at
// a time tell.
func (w *window) idle() bool {
	at := sum{n: float64(w.inFlight) + w.started + w.blank + w.dropped}
	for i := range w.class {
		at = at.plus(w.class[i].low)
	}
	return at.n == 0
}

// steerSquares are the squares of all classes.
func (w *window) steerSquares() (all sum) {
	for i := range w.class {
		all = all.plus(w.class[i].steerSquare)
	}
	return all
}
