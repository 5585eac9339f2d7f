package faas

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/cmd/surge/functions"
	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/faas/budget"
)

func TestPlans(t *testing.T) {
	p := newPlans([]PlanConfig{
		{Instances: 2},
		{At: "2026-12-01T18:00Z", Instances: 20, For: 30 * time.Minute},
		{At: "2026-12-01T19:20:00+01:00", Instances: 30, For: time.Minute},
	})
	f := func(at string, want int) {
		t.Helper()
		now, err := ParseTime(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.wanted(now); got != want {
			t.Errorf("%s: %d instances, want %d", at, got, want)
		}
	}
	f("2026-12-01T17:59:29Z", 2)
	f("2026-12-01T17:59:30Z", 20)
	f("2026-12-01T18:20Z", 30)
	f("2026-12-01T18:21Z", 20)
	f("2026-12-01T18:29:59Z", 20)
	f("2026-12-01T18:30Z", 2)
	p.operator = plan{instances: 25, until: time.Date(2026, 12, 1, 18, 10, 0, 0, time.UTC)}
	f("2026-12-01T12:00Z", 25)
	f("2026-12-01T18:15Z", 20)
	for _, text := range []string{"", "tomorrow", "2026-12-01", "2026-12-01T18:00"} {
		if _, err := ParseTime(text); err == nil {
			t.Errorf("%q is a time", text)
		}
	}
}

// TestPrewarmedInstancesAreThere puts warm-ups to the emulator: who comes then finds
// every instance that was asked for.
func TestPrewarmedInstancesAreThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := lambdaLike(t, functions.Config{Service: 50 * time.Millisecond, ColdStart: time.Second}, 100)
		calls := func(n int) {
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if d := take(t, f); d > 110*time.Millisecond {
						t.Errorf("took %v", d)
					}
				})
			}
			wg.Wait()
			synctest.Wait() // a slot is given back a moment after the answer
		}
		f.Prewarm(time.Now(), 20)
		f.Prewarm(time.Now(), 20) // they are on their way
		time.Sleep(2 * time.Second)
		if s := e.Stats(); s.Instances != 20 || s.Arrived != 20 {
			t.Fatalf("%+v", s)
		}
		calls(20)
		f.KeepReady(30, time.Now().Add(10*time.Minute))
		f.Prewarm(time.Now(), 0)
		time.Sleep(2 * time.Second)
		calls(30)
		if s := e.Stats(); s.Instances != 30 || s.ColdStarts != 30 {
			t.Errorf("%+v", s)
		}
		// What is not called is kept ready, and stops when it is no longer wanted.
		for range 14 {
			time.Sleep(time.Minute)
			f.Prewarm(time.Now(), 0)
			time.Sleep(2 * time.Second)
			if f.plans.wanted(time.Now()) == 30 && f.State().Ready != 30 {
				t.Errorf("%d ready of 30", f.State().Ready)
			}
		}
		time.Sleep(5 * time.Minute)
		if s := f.State(); s.Ready != 0 || e.Stats().Instances != 0 {
			t.Errorf("%d believed to be ready, %d are", s.Ready, e.Stats().Instances)
		}
	})
}

// TestWarmUpIsPaidForAndTold: a warm-up is charged, recognisable, and made only
// within the budget, the slots and what the breaker allows.
func TestWarmUpIsPaidForAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := priced
		c.MaxConcurrency, c.WarmUp = 4, "/up"
		var mu sync.Mutex
		var seen []*Request
		b := budget.New("spill", budget.Config{PerHour: 1000})
		f := New("thumb", c, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
			mu.Lock()
			seen = append(seen, r)
			mu.Unlock()
			time.Sleep(time.Second)
			return answering(404, "", true)(ctx, r)
		}), b, slog.New(slog.DiscardHandler))
		f.Prewarm(time.Now(), 9)
		time.Sleep(2 * time.Second)
		if s := f.State(); len(seen) != 4 || s.WarmUps != 4 || s.Ready != 4 || !near(spent(b), 8) {
			t.Fatalf("%d calls, %v spent, %+v", len(seen), spent(b), s)
		}
		r := seen[0]
		if r.Path != "/up" || r.Method != http.MethodGet || r.Fields().Get(WarmUpField) != "1" {
			t.Errorf("%+v", r)
		}
		visitor := ask("GET", "/", "", http.Header{WarmUpField: {"1"}})
		if visitor.Fields().Get(WarmUpField) != "" {
			t.Error("a visitor can pass for a warm-up")
		}
		time.Sleep(time.Hour)
		if err := b.Empty(time.Now()); err != nil {
			t.Fatal(err)
		}
		f.Prewarm(time.Now(), 4)
		if err := b.Reset(time.Now()); err != nil {
			t.Fatal(err)
		}
		b.SetConfig(budget.Config{PerHour: 1000, PerClient: 0.1}) // less than one call can cost
		f.Prewarm(time.Now(), 4)
		if s := f.State(); len(seen) != 4 || s.InFlight != 0 || s.WarmUps != 4 {
			t.Errorf("%d calls, %+v", len(seen), s)
		}
		c.WarmUp = noWarmUp
		f = New("thumb", c, f.provider, b, slog.New(slog.DiscardHandler))
		f.Prewarm(time.Now(), 4)
		if len(seen) != 4 {
			t.Error("warmed up though it is off")
		}
	})
}

func TestSharedLeavesOriginsTheirs(t *testing.T) {
	limit := 5
	s := NewShared("db", SharedConfig{Max: 8})
	s.Set(SharedConfig{Max: 8}, []func() int{func() int { return limit }})
	f := func(want int) {
		t.Helper()
		n := 0
		for s.enter() {
			n++
		}
		if n != want || !s.full() || s.State().Calls != n {
			t.Errorf("%d calls of functions, want %d: %+v", n, want, s.State())
		}
		for range n {
			s.leave()
		}
	}
	f(3)
	limit = 8
	f(0)
	limit = 100
	f(0)
	limit = 0
	f(8)
	s.Set(SharedConfig{Max: 10}, nil)
	f(10)

	function, _ := newFunction(priced, answering(200, "", true))
	s.Set(SharedConfig{Max: 1}, []func() int{func() int { return 1 }})
	function.Protect(s)
	if why := function.Ready("v"); why != outcome.SharedBusy {
		t.Errorf("Ready: %q", why)
	}
	if _, e := call1(t, function); e == nil || e.Reason() != outcome.SharedBusy || e.Executed {
		t.Errorf("Invoke: %v", e)
	}
	var none *Shared
	if none.full() || !none.enter() {
		t.Error("nothing shared bounds something")
	}
	none.leave()
}

// TestWarmUpsThatFailHarmNobody: a function that does not know the path is left
// alone with warm-ups, and called by visitors as before.
func TestWarmUpsThatFailHarmNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var warmUps atomic.Int64
		f := New("thumb", Config{
			Memory: 1 << 20, Timeout: 2 * time.Second, MaxConcurrency: 100, MaxResponse: 1000, WarmUp: "/up",
		}, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
			if r.WarmUp {
				warmUps.Add(1)
				return answering(500, "what?", true)(ctx, r)
			}
			time.Sleep(100 * time.Millisecond)
			return answering(200, "", true)(ctx, r)
		}), nil, slog.New(slog.DiscardHandler))
		for range 75 { // until after the third probe, and before the fourth
			f.Prewarm(time.Now(), 20)
			time.Sleep(100 * time.Millisecond)
			if why := f.Ready("v"); why != outcome.None {
				t.Fatalf("Ready: %q", why)
			}
		}
		if n := warmUps.Load(); n > 20+5 {
			t.Errorf("%d warm-ups though all fail", n)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if d := take(t, f); d != 100*time.Millisecond {
					t.Errorf("took %v", d)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
	})
}

// TestWarmUpsKeepNobodyWaitingInVain: a call that waits for a warm-up is told when it
// cannot be paid, or fails, and starts an instance itself.
func TestWarmUpsKeepNobodyWaitingInVain(t *testing.T) {
	f := func(told time.Duration, change func(*Function)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			_, provider := emulated(t, functions.Config{Service: 60 * time.Millisecond, ColdStart: 500 * time.Millisecond})
			f := New("thumb", Config{
				Memory: 512 << 20, Timeout: 5 * time.Second, MaxConcurrency: 100, MaxResponse: 1 << 20,
				WarmUp: "/warm-up", Price: PriceConfig{Platform: "aws-lambda"},
			}, provider, budget.New("spill", budget.Config{PerHour: 1000, PerClient: 1}), slog.New(slog.DiscardHandler))
			f.Prewarm(time.Now(), 2)
			time.Sleep(time.Second)
			synctest.Wait()
			change(f)
			var wg sync.WaitGroup
			for i := range 60 {
				wg.Go(func() {
					began := time.Now()
					resp, err := f.Invoke(t.Context(), ask("GET", "/", "", nil), strconv.Itoa(i))
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
					if d := time.Since(began); d > told+560*time.Millisecond+longestWait {
						t.Errorf("took %v, was told after %v, and a start and a call take 560ms", d, told)
					}
				})
			}
			wg.Wait()
			synctest.Wait()
			if s := f.State(); s.Waiting+s.Starting+s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	f(0, func(f *Function) { f.budget.SetConfig(budget.Config{PerHour: 1000, PerClient: f.worst / 1000}) }) // one call of each visitor
	f(500*time.Millisecond, func(f *Function) {
		calls := f.provider
		f.provider = fake(func(ctx context.Context, r *Request) (*http.Response, error) {
			if r.WarmUp {
				time.Sleep(500 * time.Millisecond)
				return answering(500, "", true)(ctx, r)
			}
			return calls.Invoke(ctx, r)
		})
	})
}

// TestWarmUpsProveNothing: that a function answers warm-ups does not make those of
// visitors work again, and they are no probe of it.
func TestWarmUpsProveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New("thumb", Config{
			Memory: 1 << 20, Timeout: 2 * time.Second, MaxConcurrency: 100, MaxResponse: 1000, WarmUp: "/up",
		}, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
			if r.WarmUp {
				return answering(404, "", true)(ctx, r)
			}
			return answering(500, "broken", true)(ctx, r)
		}), nil, slog.New(slog.DiscardHandler))
		asked := 0
		for range 100 { // ten seconds
			f.Prewarm(time.Now(), 20)
			synctest.Wait()
			for f.Ready("v") == outcome.None {
				call1(t, f)
				asked++
			}
			time.Sleep(100 * time.Millisecond)
		}
		// Five until the breaker opens, and a probe after 1, 2, 3 and 4 seconds.
		if s := f.State(); asked > 5+4 || s.WarmUps == 0 {
			t.Errorf("visitors met the broken function %d times: %+v", asked, s)
		}
	})
}

// TestPrewarmKeepsToTheRamp: warm-ups are made to start instances, and not while none
// may start.
func TestPrewarmKeepsToTheRamp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, provider := emulated(t, functions.Config{Service: 50 * time.Millisecond, ColdStart: 500 * time.Millisecond})
		f := New("thumb", Config{
			Memory: 512 << 20, Timeout: 5 * time.Second, MaxConcurrency: 100, MaxResponse: 1 << 20,
			Ramp: RampConfig{Burst: 10, PerSecond: 1}, WarmUp: "/warm-up",
		}, provider, nil, slog.New(slog.DiscardHandler))
		for range 105 {
			f.Prewarm(time.Now(), 100)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		// Ten, and for each further start one call to each instance that is ready.
		most := 10
		for instances := 11; instances <= 20; instances++ {
			most += instances
		}
		if s := e.Stats(); s.Instances != 20 || s.Arrived > most {
			t.Errorf("%d calls for %d instances, want at most %d for 20", s.Arrived, s.Instances, most)
		}
	})
}
