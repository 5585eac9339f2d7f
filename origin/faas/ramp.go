package faas

import (
	"math"
	"runtime"
	"time"
)

// A ramp is how fast a platform starts instances. Burst may start at once, and
// PerSecond more after that. A zero burst is no bound.
type ramp struct {
	burst, perSecond float64
}

// ramps are what platforms say of themselves, as read in November 2026.
//
//   - AWS Lambda: 1,000 instances every 10 seconds for each function, refilled
//     all the time and never saved up ("Lambda scaling behavior").
//   - Azure Functions on Consumption: for HTTP at most one instance a second
//     ("Event-driven scaling"), which takes 100 calls unless host.json says otherwise.
//   - Cloud Run and the functions built on it state none: what finds no instance
//     waits there for up to 10 seconds ("About instance autoscaling").
var ramps = map[string]ramp{
	"aws-lambda":       {burst: 1000, perSecond: 100},
	"aws-lambda-arm":   {burst: 1000, perSecond: 100},
	"azure-functions":  {burst: 100, perSecond: 100},
	"google-cloud-run": {},
}

// hostRamp is that of the function host: a start takes 5 to 9 ms of a core (a
// bootstrap in Go, measured), so that eight for each core are done within the 100 ms
// that the host lets a call wait, and half of a core is left for the calls.
func hostRamp() ramp {
	cores := float64(runtime.GOMAXPROCS(0))
	return ramp{burst: 8 * cores, perSecond: 50 * cores}
}

// ramp is what holds for the function.
func (c Config) ramp() ramp {
	r := ramps[c.Price.Platform]
	switch c.Provider {
	case "lambda":
		r = ramps["aws-lambda"]
	case "process":
		r = hostRamp()
	}
	if c.Ramp.Burst > 0 {
		r.burst = float64(c.Ramp.Burst)
	}
	if c.Ramp.PerSecond > 0 {
		r.perSecond = float64(c.Ramp.PerSecond)
		r.burst = max(r.burst, 1)
	}
	return r
}

// tokens are the instances that may start now. There are never less than none nor
// more than a burst, and a clock that goes back adds nothing.
type tokens struct {
	ramp
	left   float64
	filled time.Time
}

func newTokens(r ramp) tokens { return tokens{ramp: r, left: r.burst} }

func (t *tokens) fill(now time.Time) {
	if passed := now.Sub(t.filled).Seconds(); passed > 0 {
		if !t.filled.IsZero() {
			t.left = min(t.burst, t.left+t.perSecond*passed)
		}
		t.filled = now
	}
}

// most is how many instances may start.
func (t *tokens) most() int {
	if t.burst == 0 {
		return math.MaxInt32
	}
	return int(t.left)
}

// may reports whether one may.
func (t *tokens) may() bool { return t.most() > 0 }

// take starts one, which may had allowed.
func (t *tokens) take() {
	if t.burst > 0 {
		t.left--
	}
}

// putBack takes back a start that was not made.
func (t *tokens) putBack() { t.left = min(t.burst, t.left+1) }
