package rival

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
)

// A Rule decides whether the origin may take one more request now. What it admits,
// it is told the end of.
type Rule interface {
	Enter() (end func(ok bool), admitted bool)
}

// The rules.
const (
	None     = "none"
	Failsafe = "failsafe"
	Spandana = "spandana"
)

// NewRule returns the rule of that name. The deadline is what Spandana's keeps.
func NewRule(name string, deadline time.Duration) (Rule, error) {
	switch name {
	case None:
		return none{}, nil
	case Failsafe:
		return failsafe{adaptivelimiter.NewWithDefaults[any]()}, nil
	case Spandana:
		if deadline <= 0 {
			return nil, fmt.Errorf("rule %s: needs a deadline", name)
		}
		return newPrediction(deadline, time.Now), nil
	}
	return nil, fmt.Errorf("rule %q: must be %s, %s or %s", name, None, Failsafe, Spandana)
}

// none admits everybody.
type none struct{}

func (none) Enter() (func(bool), bool) { return func(bool) {}, true }

// failsafe is failsafe-go's adaptive limiter as it comes.
type failsafe struct {
	limiter adaptivelimiter.AdaptiveLimiter[any]
}

func (f failsafe) Enter() (func(bool), bool) {
	permit, ok := f.limiter.TryAcquirePermit()
	if !ok {
		return nil, false
	}
	return func(ok bool) {
		if ok {
			permit.Record()
		} else {
			permit.Drop()
		}
	}, true
}

// A prediction spills what would miss a deadline, as Spandana (arXiv 2606.30533)
// does: requests that can meet the objective stay, the others go to a function.
// Its abstract does not say how it predicts; this one learns the latency for each
// number of requests in flight, and the deadline is for their 99th percentile.
type prediction struct {
	deadline float64 // ln of seconds
	now      func() time.Time

	mu       sync.Mutex
	inFlight int
	mean     [levels]float64 // of the ln of latencies, by in-flight at the start
	seen     [levels]int
	variance float64
}

// levels bounds what is told apart; more in flight counts as that many.
const levels = 512

const (
	memory     = 32   // samples that a level remembers
	percentile = 2.33 // standard deviations to the 99th
)

func newPrediction(deadline time.Duration, now func() time.Time) *prediction {
	// ln 2 is the variance of a service time whose standard deviation is its mean.
	return &prediction{deadline: math.Log(deadline.Seconds()), now: now, variance: math.Ln2}
}

func (p *prediction) Enter() (func(bool), bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.inFlight+1, levels-1)
	// With nothing in flight the prediction could never be put right.
	if p.inFlight > 0 && p.predict(n) > p.deadline {
		return nil, false
	}
	p.inFlight++
	start := p.now()
	return func(ok bool) { p.end(n, p.now().Sub(start), ok) }, true
}

// predict is the ln of the latency that one in a hundred exceeds with n in flight.
// A level that was never seen follows from the next lower one: in a saturated
// server latency grows as the number inside.
func (p *prediction) predict(n int) float64 {
	for m := n; m > 0; m-- {
		if p.seen[m] > 0 {
			return p.mean[m] + math.Log(float64(n)/float64(m)) + percentile*math.Sqrt(p.variance)
		}
	}
	return math.Inf(-1) // nothing is known yet
}

func (p *prediction) end(n int, took time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight--
	if !ok {
		return
	}
	x := math.Log(max(took.Seconds(), 1e-6))
	if p.seen[n]++; p.seen[n] == 1 {
		p.mean[n] = x
		return
	}
	d := x - p.mean[n]
	p.mean[n] += d / float64(min(p.seen[n], memory))
	p.variance += (d*d - p.variance) / (8 * memory)
}
