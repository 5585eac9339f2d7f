// Package functions emulates a function platform: instances that start cold, serve
// one call at a time and stop when idle; a ramp and a cap with the platform's own
// refusals; and the bill.
//
// It is called by plain HTTP, as a function's URL is, and by Lambda's Invoke API.
// A call that was started is finished and billed though its client leaves, as on
// the real platforms. Throttling and failures can be switched on while it runs.
//
// The Invoke API checks signatures if it is given a key.
//
// It does not emulate payload streaming, asynchronous invocation,
// retries by the platform, or instances that serve several calls at once. Cloud
// Run holds calls for some seconds before it refuses them; here it refuses at once.
package functions

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"spillway/cmd/surge/serve"
)

// maxPayload is Lambda's bound for a synchronous call, each way; it bounds the
// emulated answers of all platforms.
const maxPayload = 6 << 20

// An Emulator is an http.Handler. Use New.
type Emulator struct {
	c Config

	mu        sync.Mutex
	rng       *rand.Rand
	pool      pool
	meter     meter
	count     Stats // the counters only
	throttled bool
	reason    string // why calls are throttled
	fail      float64
}

// New makes an emulator. It starts nothing.
func New(c Config) (*Emulator, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Emulator{
		c:      c,
		rng:    rand.New(rand.NewPCG(c.Seed, 0)),
		reason: "ReservedFunctionConcurrentInvocationLimitExceeded",
		pool:   pool{cap: c.Cap, idle: c.IdleTimeout, burst: float64(c.Burst), ramp: c.Ramp},
	}, nil
}

// Stats is what the emulator counted since it started. Calls add up:
// Arrived = Running + Completed + ThrottledCap + ThrottledRamp + Throttled, and
// ColdStarts + WarmStarts = Running + Completed.
type Stats struct {
	Platform Platform `json:"platform"`
	Cap      int      `json:"cap"`
	Fail     float64  `json:"fail"`

	Instances     int `json:"instances"` // running or idle
	PeakInstances int `json:"peak_instances"`
	Running       int `json:"running"`

	Arrived       int `json:"arrived"`
	ColdStarts    int `json:"cold_starts"`
	WarmStarts    int `json:"warm_starts"`
	Completed     int `json:"completed"`
	Failed        int `json:"failed"`         // of these, with the function's own error
	ThrottledCap  int `json:"throttled_cap"`  // refused: all instances busy
	ThrottledRamp int `json:"throttled_ramp"` // refused: instances started too fast
	Throttled     int `json:"throttled"`      // refused: switched on by control
	Overruns      int `json:"overruns"`       // the work took longer than the service time
}

// Stats returns the counters.
func (e *Emulator) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pool.expire(time.Now())
	s := e.count
	s.Platform, s.Cap, s.Fail = e.c.Platform, e.pool.cap, e.fail
	s.Running = e.pool.busy
	s.Instances = e.pool.busy + len(e.pool.free)
	s.PeakInstances = e.pool.peak
	return s
}

// Bill returns what the platform would charge so far.
func (e *Emulator) Bill() Bill {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.meter.bill(e.c.Platform, e.c.Memory)
}

// A Change says what to change while the emulator runs; nil leaves as it is.
type Change struct {
	Throttle *bool    // refuse every call
	Reason   *string  // one of those by which Lambda's Invoke API says why it refuses
	Cap      *int     // bound of the instances; those that run go on
	Fail     *float64 // share of the calls that end in the function's own error
}

// throttleReasons are those of the Invoke API's TooManyRequestsException.
var throttleReasons = []string{
	"ConcurrentInvocationLimitExceeded", "FunctionInvocationRateLimitExceeded",
	"ReservedFunctionConcurrentInvocationLimitExceeded", "ReservedFunctionInvocationRateLimitExceeded",
	"CallerRateLimitExceeded", "ConcurrentSnapshotCreateLimitExceeded",
}

// Control makes the change.
func (e *Emulator) Control(c Change) error {
	if c.Cap != nil && *c.Cap < 0 {
		return errors.New("cap: want 0 or more")
	}
	if c.Fail != nil && !(*c.Fail >= 0 && *c.Fail <= 1) {
		return errors.New("fail: want 0 to 1")
	}
	if c.Reason != nil && !slices.Contains(throttleReasons, *c.Reason) {
		return fmt.Errorf("reason: want one of %v", throttleReasons)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.Throttle != nil {
		e.throttled = *c.Throttle
	}
	if c.Reason != nil {
		e.reason = *c.Reason
	}
	if c.Cap != nil {
		e.pool.cap = *c.Cap
	}
	if c.Fail != nil {
		e.fail = *c.Fail
	}
	return nil
}

// A call is one that was given an instance.
type call struct {
	verdict verdict
	start   time.Duration // until the instance is ready
	service time.Duration
	fails   bool
}

// begin gives a call its instance, or says why not.
func (e *Emulator) begin() call {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count.Arrived++
	c := call{verdict: overThrottle}
	if !e.throttled {
		c.verdict = e.pool.take(time.Now())
	}
	switch c.verdict {
	case overThrottle:
		e.count.Throttled++
	case overCap:
		e.count.ThrottledCap++
	case overRamp:
		e.count.ThrottledRamp++
	case cold:
		e.count.ColdStarts++
		c.start = e.draw(e.c.ColdStart, e.c.ColdCV)
	case warm:
		e.count.WarmStarts++
	}
	if c.verdict == cold || c.verdict == warm {
		c.service = e.draw(e.c.Service, e.c.CV)
		c.fails = e.fail > 0 && e.rng.Float64() < e.fail
	}
	return c
}

// run does the call's work in its instance and takes its time, whether its client
// waits or not. The answer is nil when the function failed.
func (e *Emulator) run(c call, work func() *serve.Answer) *serve.Answer {
	time.Sleep(c.start)
	began := time.Now()
	var a *serve.Answer
	if !c.fails {
		a = work()
	}
	rest := c.service - time.Since(began)
	time.Sleep(rest)

	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.pool.put(now, a == nil)
	e.meter.charge(prices[e.c.Platform], c.start, now.Sub(began))
	e.count.Completed++
	if a == nil {
		e.count.Failed++
	}
	if rest < 0 && c.service > 0 {
		e.count.Overruns++
	}
	return a
}

// sent counts the data that left the platform: the fields of the answer that the
// function or the platform gave, and its body.
func (e *Emulator) sent(h http.Header, bytes int) {
	for name, values := range h {
		for _, value := range values {
			bytes += len(name) + len(value) + len(": \r\n")
		}
	}
	e.mu.Lock()
	e.meter.out += int64(bytes)
	e.mu.Unlock()
}

// draw returns a time with the given mean: lognormal, so that with variance s2 of
// its logarithm the squared coefficient of variation is exp(s2)-1.
func (e *Emulator) draw(mean time.Duration, cv float64) time.Duration {
	if cv == 0 {
		return mean
	}
	s2 := math.Log1p(cv * cv)
	return time.Duration(float64(mean) * math.Exp(math.Sqrt(s2)*e.rng.NormFloat64()-s2/2))
}

// work answers as the function does.
func (e *Emulator) work(r *http.Request) *serve.Answer {
	h := e.c.Work
	if h == nil {
		h = http.HandlerFunc(e.filler)
	}
	return serve.Record(h, r)
}

func (e *Emulator) filler(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	body := make([]byte, e.c.Body)
	for i := range body {
		body[i] = "emulated function\n"[i%18]
	}
	_, _ = w.Write(body) // into memory
}
