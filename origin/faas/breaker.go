package faas

import (
	"math/rand/v2"
	"sync"
	"time"

	"spillway/edge/outcome"
)

// When a breaker opens and for how long. Not knobs: they say what "broken" means.
const (
	failuresInRow   = 5
	windowCalls     = 20 // fewer calls in a second prove nothing
	windowShare     = 0.2
	firstOpen       = time.Second
	longestOpen     = 30 * time.Second
	throttlesInRow  = 5
	throttlePause   = 100 * time.Millisecond
	bucket          = 100 * time.Millisecond
	bucketsInSecond = 10
)

// result is what a call says about the health of its platform.
type result uint8

const (
	succeeded result = iota
	broke
	throttled
	saidNothing // canceled, or refused for its own sake
)

// A breaker keeps calls away from a function that fails, and lets one through at
// a time to learn whether it works again. A throttle is no failure: it is obeyed
// for as long as the platform asks.
type breaker struct {
	mu       sync.Mutex
	failures int // in a row
	window   [bucketsInSecond]tally
	open     bool
	until    time.Time // when the open breaker lets a probe through
	length   time.Duration
	probing  bool

	throttles int // in a row
	throttled time.Time
}

// A tally counts the calls of one bucket of time.
type tally struct {
	at            int64 // the bucket's number
	calls, failed int
}

// refuse says why a call may not be made now.
func (b *breaker) refuse(now time.Time) outcome.Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refusal(now)
}

func (b *breaker) refusal(now time.Time) outcome.Reason {
	switch {
	case now.Before(b.throttled):
		return outcome.FunctionThrottled
	case b.open && (now.Before(b.until) || b.probing):
		return outcome.FunctionUnavailable
	}
	return outcome.None
}

// enter lets a call through, as a probe if the breaker is half-open, or says why
// not.
func (b *breaker) enter(now time.Time) (probe bool, why outcome.Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if why := b.refusal(now); why != outcome.None {
		return false, why
	}
	b.probing = b.open
	return b.open, outcome.None
}

// leave takes a call's result and reports whether the breaker opened or closed
// by it.
func (b *breaker) leave(now time.Time, probe bool, r result, retryAfter time.Duration) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	switch r {
	case succeeded:
		b.failures, b.throttles = 0, 0
		b.count(now, false)
		if probe {
			b.open, b.length, b.window = false, 0, [bucketsInSecond]tally{}
			return false, true
		}
	case broke:
		b.failures++
		b.count(now, true)
		if probe || !b.open && (b.failures >= failuresInRow || b.tooMany(now)) {
			b.trip(now)
			return !probe, false
		}
	case throttled:
		b.throttle(now, retryAfter)
	}
	return false, false
}

// trip opens the breaker, each time in a row for a second longer: doubled times
// would keep a function out for as long again as it was broken. The jitter keeps
// many edges from probing in the same moment.
func (b *breaker) trip(now time.Time) {
	b.length = min(b.length+firstOpen, longestOpen)
	b.open = true
	b.until = now.Add(time.Duration(float64(b.length) * (0.8 + 0.4*rand.Float64())))
}

// throttle pauses the calls. A platform that does not say for how long is given
// a short pause, but only when it turns all away: one refusal among answers just
// means that every instance was busy.
func (b *breaker) throttle(now time.Time, retryAfter time.Duration) {
	b.throttles++
	if retryAfter == 0 && b.throttles >= throttlesInRow {
		retryAfter = throttlePause
	}
	if until := now.Add(min(retryAfter, longestOpen)); until.After(b.throttled) {
		b.throttled = until
	}
}

func (b *breaker) count(now time.Time, failed bool) {
	number := now.UnixNano() / int64(bucket)
	t := &b.window[number%bucketsInSecond]
	if t.at != number {
		*t = tally{at: number}
	}
	t.calls++
	if failed {
		t.failed++
	}
}

// tooMany reports whether too large a share of the last second's calls failed.
func (b *breaker) tooMany(now time.Time) bool {
	oldest := now.UnixNano()/int64(bucket) - bucketsInSecond
	calls, failed := 0, 0
	for _, t := range b.window {
		if t.at > oldest {
			calls += t.calls
			failed += t.failed
		}
	}
	return calls >= windowCalls && float64(failed) > windowShare*float64(calls)
}

// state is a word for the status view, and when calls are let through again.
func (b *breaker) state(now time.Time) (string, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.open && now.Before(b.until):
		return "open", b.until
	case b.open:
		return "half-open", time.Time{}
	case now.Before(b.throttled):
		return "closed", b.throttled
	}
	return "closed", time.Time{}
}
