package faas

import (
	"testing"
	"time"

	"spillway/edge/outcome"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// after makes one call at now and gives it the result.
func after(t *testing.T, b *breaker, now time.Time, r result) {
	t.Helper()
	probe, why := b.enter(now)
	if why != outcome.None {
		t.Fatalf("refused: %s", why)
	}
	b.leave(now, probe, r, 0)
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	var b breaker
	for range failuresInRow - 1 {
		after(t, &b, start, broke)
	}
	after(t, &b, start, succeeded)
	for range failuresInRow - 1 {
		after(t, &b, start, broke)
	}
	if why := b.refuse(start); why != outcome.None {
		t.Fatalf("refused: %s", why)
	}
	after(t, &b, start, broke)
	if why := b.refuse(start); why != outcome.FunctionUnavailable {
		t.Errorf("after %d failures: %q", failuresInRow, why)
	}
}

func TestBreakerOpensByShare(t *testing.T) {
	f := func(calls, every int, spread time.Duration, open bool) {
		t.Helper()
		var b breaker
		now := start
		for i := range calls {
			if b.refuse(now) != outcome.None {
				break
			}
			r := succeeded
			if i%every == every-1 {
				r = broke
			}
			after(t, &b, now, r)
			now = now.Add(spread / time.Duration(calls))
		}
		if state, _ := b.state(now); (state == "open") != open {
			t.Errorf("%d calls, each %dth fails, within %v: %s", calls, every, spread, state)
		}
	}
	f(24, 4, 0, true)
	f(24, 5, 0, false) // 20 % is not more than 20 %
	f(19, 3, 0, false) // too few to tell
	f(24, 3, 900*time.Millisecond, true)
	f(100, 3, 10*time.Second, false) // 10 a second
}

func TestBreakerProbesOneAtATime(t *testing.T) {
	var b breaker
	for range failuresInRow {
		after(t, &b, start, broke)
	}
	now := start
	for wait := firstOpen; wait <= longestOpen+4*firstOpen; wait += firstOpen {
		length := min(wait, longestOpen)
		_, until := b.state(now)
		if d := until.Sub(now); d < length*8/10 || d > length*12/10 {
			t.Fatalf("open for %v, want about %v", d, length)
		}
		now = until
		if why := b.refuse(now.Add(-1)); why != outcome.FunctionUnavailable {
			t.Fatalf("before the time: %q", why)
		}
		probe, why := b.enter(now)
		if !probe || why != outcome.None {
			t.Fatalf("probe %t, %q", probe, why)
		}
		if _, why := b.enter(now); why != outcome.FunctionUnavailable {
			t.Fatalf("a second probe at the same time: %q", why)
		}
		if opened, closed := b.leave(now, probe, broke, 0); opened || closed {
			t.Fatal("a failed probe is no transition")
		}
	}
	_, now = b.state(now)
	// A probe that says nothing lets the next one try.
	probe, _ := b.enter(now)
	b.leave(now, probe, saidNothing, 0)
	probe, _ = b.enter(now)
	if _, closed := b.leave(now, probe, succeeded, 0); !closed {
		t.Fatal("a good probe does not close the breaker")
	}
	for range failuresInRow {
		after(t, &b, now, broke)
	}
	if _, until := b.state(now); until.Sub(now) > firstOpen*12/10 {
		t.Errorf("open for %v after it had recovered", until.Sub(now))
	}
}

func TestThrottleIsObeyed(t *testing.T) {
	f := func(retryAfter, pause time.Duration) {
		t.Helper()
		var b breaker
		b.leave(start, false, throttled, retryAfter)
		want := outcome.None
		if pause > 0 {
			want = outcome.FunctionThrottled
		}
		if why := b.refuse(start); why != want {
			t.Errorf("Retry-After %v: %q", retryAfter, why)
		}
		if why := b.refuse(start.Add(pause)); why != outcome.None {
			t.Errorf("Retry-After %v, %v later: %q", retryAfter, pause, why)
		}
		if state, _ := b.state(start); state != "closed" {
			t.Errorf("a throttle made the breaker %s", state)
		}
	}
	f(0, 0)
	f(7*time.Second, 7*time.Second)
	f(time.Hour, longestOpen)

	var b breaker
	for range throttlesInRow {
		after(t, &b, start, throttled)
	}
	if why := b.refuse(start.Add(throttlePause - 1)); why != outcome.FunctionThrottled {
		t.Errorf("after %d throttles: %q", throttlesInRow, why)
	}
}
