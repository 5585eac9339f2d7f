package limit

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// full returns a limiter with a limit of n, all of it in flight.
func full(t *testing.T, n int) (*Limiter, []Permit) {
	t.Helper()
	l := New(Config{Max: n})
	permits := make([]Permit, n)
	for i := range permits {
		var ok bool
		if permits[i], ok = l.Acquire(0, 1); !ok {
			t.Fatalf("refused the %d. of %d", i+1, n)
		}
	}
	return l, permits
}

func TestNewestWaiterFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, held := full(t, 1)
		var mu sync.Mutex
		var order []int
		for i := range 3 {
			go func() {
				p, r := l.Wait(t.Context(), Request{Share: 1, Wait: time.Minute, Length: 3})
				if r != Admitted {
					t.Errorf("waiter %d: %v", i, r)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				p.Release(OK)
			}()
			synctest.Wait()
		}
		held[0].Release(OK)
		synctest.Wait()
		if !slices.Equal(order, []int{2, 1, 0}) {
			t.Errorf("served %v, want the newest first", order)
		}
		if s := l.State(); s.InFlight != 0 || s.Queued != 0 || s.Waited != 3 {
			t.Errorf("at rest: %+v", s)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	f := func(limit int, length float64, want int) {
		t.Helper()
		l, held := full(t, limit)
		var waiters []*waiter
		for range 100 {
			if w := l.enqueue(Request{Share: 1, Length: length}); w != nil {
				waiters = append(waiters, w)
			}
		}
		if len(waiters) != want {
			t.Errorf("limit %d, length %v: %d wait, want %d", limit, length, len(waiters), want)
		}
		for _, w := range waiters {
			l.abandon(w)
		}
		for _, p := range held {
			p.Release(Cancel)
		}
	}
	f(6, 0.5, 3)
	f(5, 0.5, 3)
	f(1, 0.5, 1)
	f(4, 0, 0)
	f(4, 2, 8)
	l, held := full(t, 4)
	if _, r := l.Wait(t.Context(), Request{Share: 1, Wait: time.Minute}); r != QueueFull {
		t.Errorf("without a queue: %v", r)
	}
	held[0].Release(OK)
	if p, r := l.Wait(t.Context(), Request{Share: 1, Wait: time.Minute}); r != Admitted || !p.Valid() {
		t.Errorf("with room, but without a queue: %v", r)
	}
}

func TestWaitersLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, held := full(t, 2)
		start := time.Now()
		f := func(ctx context.Context, class Class, wait time.Duration, want WaitResult, after time.Duration) {
			t.Helper()
			start = time.Now()
			if p, r := l.Wait(ctx, Request{Class: class, Share: 1, Wait: wait, Length: 1}); r != want || p.Valid() {
				t.Errorf("wait: %v, want %v", r, want)
			}
			if d := time.Since(start); d != after {
				t.Errorf("waited %v, want %v", d, after)
			}
		}
		f(t.Context(), 0, 50*time.Millisecond, Expired, 50*time.Millisecond)
		f(t.Context(), 0, 0, Expired, 20*time.Millisecond) // no baseline yet
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f(ctx, 0, time.Minute, Canceled, time.Second)
		l.control.class[3] = baseline0(float64(70 * time.Millisecond))
		l.publish(l.control.plan())
		f(t.Context(), 3, 0, Expired, l.baselineOf(3))
		if d := l.baselineOf(3) - 70*time.Millisecond; d < -time.Microsecond || d > time.Microsecond {
			t.Errorf("the wait is %v off one baseline", d)
		}
		if s := l.State(); s.Queued != 0 || s.InFlight != len(held) {
			t.Errorf("at the end: %+v", s)
		}
	})
}

func TestMoreImportantPushesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, held := full(t, 1)
		results := make(chan WaitResult, 3)
		for _, level := range []Level{LevelOf(5, 0), LevelOf(2, 9), LevelOf(2, 9)} {
			go func() {
				p, r := l.Wait(t.Context(), Request{Share: 1, Length: 1, Level: level, Visitor: uint64(len(results)), Wait: time.Second})
				p.Release(OK)
				results <- r
			}()
			synctest.Wait()
		}
		if first, second := <-results, <-results; first != PushedOut || second != QueueFull {
			t.Errorf("the least important: %v; another as important: %v", first, second)
		}
		held[0].Release(OK)
		if r := <-results; r != Admitted {
			t.Errorf("the important one: %v", r)
		}
		if s := l.State(); s.PushedOut != 1 || s.TurnedAway != [Priorities]uint64{2: 1, 5: 1} || s.Queued != 0 {
			t.Errorf("at the end: %+v", s)
		}
	})
}

// The time that a request may wait depends on whether the queue before it has
// stood, not on what waits behind it.
func TestPatience(t *testing.T) {
	l := newClocked(Config{Max: 1})
	l.control.class[0] = baseline0(40e6)
	l.publish(l.control.plan())
	l.Acquire(0, 1)
	const baseline = 40 * time.Millisecond
	f := func(what string, level Level, patient bool, want time.Duration) {
		t.Helper()
		r := Request{Share: 1, Length: 100, Level: level, Patient: patient, Wait: time.Second}
		foretold, _ := l.Look(r)
		w := l.enqueue(r)
		if foretold != w.Wait {
			t.Errorf("%s waits for %v, and was foretold %v", what, w.Wait, foretold)
		}
		if (w.Wait - want).Abs() > time.Microsecond {
			t.Errorf("%s waits for %v, want %v", what, w.Wait, want)
		}
	}
	passes := func(d time.Duration) { l.clock += int64(d) }
	middle, last := LevelOf(4, 64), LevelOf(7, 0)
	f("the first", middle, true, time.Second)
	passes(standsAfter)
	f("who comes soon", middle, true, time.Second)
	passes(time.Millisecond)
	f("who comes to a standing queue", middle, true, baseline)
	f("who comes behind it", last, true, baseline)
	f("who may spill", last, false, time.Second)
	f("who is more important", LevelOf(4, 0), true, time.Second)
	passes(standsAfter)
	f("who comes after that one", LevelOf(4, 0), true, time.Second)
	passes(time.Millisecond)
	f("who comes when it has stood", LevelOf(4, 0), true, baseline)
}

// A waiter that may use only a part of the limit does not keep back those who
// may use all of it.
func TestShareOfWaiters(t *testing.T) {
	l, held := full(t, 4)
	whole, half := l.enqueue(Request{Share: 1, Length: 1}), l.enqueue(Request{Share: 0.5, Length: 1})
	held[0].Release(OK)
	if whole.waiting || !half.waiting {
		t.Fatalf("whole waits: %v, half waits: %v", whole.waiting, half.waiting)
	}
	for _, p := range held[1:] {
		p.Release(OK)
	}
	if half.waiting {
		t.Error("the waiter with half a share still waits at an idle origin")
	}
	(<-whole.answer).Release(OK)
	(<-half.answer).Release(OK)
	if s := l.State(); s.InFlight != 0 {
		t.Errorf("at rest: %+v", s)
	}
}

func TestRaisedLimitAdmitsWaiters(t *testing.T) {
	l, _ := full(t, 2)
	w := l.enqueue(Request{Share: 1, Length: 1})
	p := *l.plan.Load()
	p.limit, p.steady = 3, 3
	l.publish(p)
	if w.waiting {
		t.Error("a waiter was not told that the limit rose")
	}
}

func TestRunStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Max: 1})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- l.Run(ctx) }()
		for range 100 {
			p, _ := l.Acquire(0, 1)
			l.Acquire(0, 1)
			time.Sleep(tickInterval)
			p.Release(OK)
		}
		if phase := l.State().Phase; phase == PhaseStart {
			t.Errorf("phase %v after a second of refusals", phase)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestQueueWaitIsBounded(t *testing.T) {
	f := func(baseline float64, want time.Duration) {
		t.Helper()
		l := New(Config{})
		l.control.class[3] = baseline0(baseline)
		l.publish(l.control.plan())
		if got := l.baselineOf(3); (got - want).Abs() > time.Microsecond {
			t.Errorf("waits %v for a baseline of %v, want %v", got, time.Duration(baseline), want)
		}
	}
	f(30e6, 30*time.Millisecond)
	f(1e12, time.Second)
}
