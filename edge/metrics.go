package edge

import (
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge/outcome"
)

// counts holds the counters of finished requests. Labels come from the outcome
// vocabulary only, so that no stranger can make them grow.
type counts struct {
	set *metrics.Set
	// requests is replaced as a whole when a pair appears for the first time, so
	// that reading it takes no lock.
	requests atomic.Pointer[map[pair]*metrics.Counter]
	mu       sync.Mutex
	duration map[outcome.Outcome]*metrics.Histogram
	sent     *metrics.Counter
	hedges   atomic.Uint64
	// prioritiesIgnored are those that somebody else than a trusted proxy has asked
	// for, or that are none.
	prioritiesIgnored atomic.Uint64
}

type pair struct {
	outcome outcome.Outcome
	reason  outcome.Reason
}

func newCounts(set *metrics.Set) *counts {
	c := &counts{
		set:      set,
		duration: map[outcome.Outcome]*metrics.Histogram{},
		sent:     set.NewCounter("spillway_response_body_bytes_total"),
	}
	for _, o := range outcome.All {
		c.duration[o] = set.NewHistogram(fmt.Sprintf(`spillway_request_duration_seconds{outcome=%q}`, o))
	}
	c.requests.Store(&map[pair]*metrics.Counter{})
	set.RegisterMetricsWriter(func(w io.Writer) {
		metrics.WriteCounterUint64(w, "spillway_hedges_total", c.hedges.Load())
		metrics.WriteCounterUint64(w, "spillway_priorities_ignored_total", c.prioritiesIgnored.Load())
	})
	return c
}

// add counts a finished exchange.
func (c *counts) add(x *exchange, took time.Duration) {
	c.counter(pair{x.outcome, x.reason}).Inc()
	c.duration[x.outcome].Update(took.Seconds())
	c.sent.AddInt64(x.bytes)
}

func (c *counts) counter(p pair) *metrics.Counter {
	if n, ok := (*c.requests.Load())[p]; ok {
		return n
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := *c.requests.Load()
	if n, ok := known[p]; ok {
		return n
	}
	grown := make(map[pair]*metrics.Counter, len(known)+1)
	maps.Copy(grown, known)
	grown[p] = c.set.NewCounter(fmt.Sprintf(`spillway_requests_total{outcome=%q,reason=%q}`, p.outcome, p.reason))
	c.requests.Store(&grown)
	return grown[p]
}

// outcomes returns how many requests ended in each outcome.
func (c *counts) outcomes() map[outcome.Outcome]uint64 {
	sums := map[outcome.Outcome]uint64{}
	for p, n := range *c.requests.Load() {
		sums[p.outcome] += n.Get()
	}
	return sums
}
