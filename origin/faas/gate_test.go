package faas

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/cmd/surge/functions"
	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/faas/budget"
)

func TestAdmit(t *testing.T) {
	f := func(what string, want, afterWait passage, change func(*standing)) {
		t.Helper()
		// Ten instances, all busy, in 60 ms each; a start takes half a second.
		s := standing{
			limit: 100, inFlight: 10, ready: 10, busy: 10, mayStart: true, aside: true,
			call: 60 * time.Millisecond, start: 500 * time.Millisecond,
		}
		change(&s)
		if got := s.admit(false); got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
		if got := s.admit(true); got != afterWait {
			t.Errorf("%s, after a wait: %d, want %d", what, got, afterWait)
		}
	}
	f("an instance is free", takeReady, takeReady, func(s *standing) { s.inFlight, s.busy = 9, 9 })
	f("who waits comes first", wait, takeReady, func(s *standing) { s.inFlight, s.busy, s.waiting = 9, 9, 1 })
	f("all are busy", wait, startOne, func(*standing) {})
	f("the tenth who waits", wait, startOne, func(s *standing) { s.waiting = 9 })
	f("the eleventh", startOne, startOne, func(s *standing) { s.waiting = 10 })
	f("calls take longer", startOne, startOne, func(s *standing) { s.call = time.Second })
	f("a start takes no longer", startOne, startOne, func(s *standing) { s.start = 5 * time.Millisecond })
	f("no warm-up can start one", startOne, startOne, func(s *standing) { s.aside = false })
	f("nothing is known", startOne, startOne, func(s *standing) { s.inFlight, s.ready, s.busy = 0, 0, 0 })
	f("the ramp is used up", wait, turnAway, func(s *standing) { s.mayStart = false })
	f("and too many wait", turnAway, turnAway, func(s *standing) { s.mayStart, s.waiting = false, 10 })
	f("the cap is reached", wait, turnAway, func(s *standing) { s.limit = 10 })
	f("the platform throttles", turnAway, turnAway, func(s *standing) { s.limit, s.spared = 10, true })
	f("it may have more", startOne, startOne, func(s *standing) { s.limit, s.spared, s.aside = 11, true, false })
	f("by starts alone", turnAway, turnAway, func(s *standing) { s.limit, s.ready, s.busy = 10, 0, 0 })
}

func TestThrottledFunctionIsGivenHalf(t *testing.T) {
	var throttle throttle
	now := start
	f := func(after time.Duration, want int) {
		t.Helper()
		if got := throttle.limit(now.Add(after), 100); got != want {
			t.Errorf("%v later: %d calls, want %d", after, got, want)
		}
	}
	f(0, 100)
	throttle.cut(now, now.Add(-time.Second), 80)
	throttle.cut(now.Add(time.Millisecond), now.Add(-time.Second), 60) // was under way
	f(0, 0)
	f(throttlePause+time.Millisecond, 40)
	f(999*time.Millisecond, 40)
	f(time.Second, 44)
	f(2*time.Second, 48)
	throttle.cut(now.Add(2*time.Second), now.Add(time.Second), 48)
	f(2*time.Second, 0)
	f(2*time.Second+throttlePause, 24)
	f(time.Second, 24) // a clock that goes back
	f(time.Minute, 100)
	f(0, 100) // and stays so
	throttle.cut(now, now.Add(-1), 1)
	f(0, 0)
	f(throttlePause, 1)
	f(time.Second, 2)
}

func TestTokens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ramp{burst: rapid.Float64Range(1, 1000).Draw(t, "burst"), perSecond: rapid.Float64Range(0, 1000).Draw(t, "per second")}
		tokens, now, latest, taken := newTokens(r), start, start, 0.0
		tokens.fill(start)
		for _, step := range rapid.SliceOfN(rapid.Int64Range(-int64(time.Second), int64(3*time.Second)), 1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(step))
			if now.After(latest) {
				latest = now
			}
			tokens.fill(now)
			if tokens.may() {
				tokens.take()
				taken++
			}
			if tokens.left < 0 || tokens.left > r.burst {
				t.Fatalf("%v left of %v", tokens.left, r.burst)
			}
			if most := r.burst + r.perSecond*latest.Sub(start).Seconds(); taken > most+1e-6 {
				t.Fatalf("%v started, the platform allows %v", taken, most)
			}
		}
	})
}

func TestRampByPlatform(t *testing.T) {
	f := func(c Config, want ramp) {
		t.Helper()
		if got := c.ramp(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	web := func(platform string, r RampConfig) Config {
		return Config{Provider: "web", Price: PriceConfig{Platform: platform}, Ramp: r}
	}
	f(Config{Provider: "lambda", Price: PriceConfig{Platform: "auto"}}, ramp{1000, 100})
	f(Config{Provider: "lambda", Price: PriceConfig{Platform: "none"}}, ramp{1000, 100})
	f(Config{Provider: "process"}, hostRamp())
	f(web("auto", RampConfig{}), ramp{})
	f(web("google-cloud-run", RampConfig{}), ramp{})
	f(web("azure-functions", RampConfig{}), ramp{100, 100})
	f(web("azure-functions", RampConfig{Burst: 10}), ramp{10, 100})
	f(web("auto", RampConfig{PerSecond: 5}), ramp{1, 5})
	unbounded := newTokens(ramp{})
	for range 1000 {
		if !unbounded.may() {
			t.Fatal("no ramp, and no start")
		}
		unbounded.take()
	}
}

func TestFleetForgetsAndLearns(t *testing.T) {
	f := newFleet(Config{})
	f.starting = 5
	f.advance(start)
	f.starting, f.ready = 0, 5
	f.advance(start.Add(keptWarm - peakBucket))
	if f.ready != 5 {
		t.Errorf("%d ready within five minutes", f.ready)
	}
	f.busy = 2
	f.advance(start.Add(keptWarm))
	if f.ready != 2 {
		t.Errorf("%d ready, of which two are used", f.ready)
	}
	f.advance(start.Add(-time.Hour)) // a clock that is set back
	if f.ready < f.busy {
		t.Errorf("%d ready, %d busy", f.ready, f.busy)
	}

	// Calls of 100 ms and starts of a second; the first three find instances that the
	// node does not know of.
	for _, took := range []time.Duration{80, 150, 250, 1100, 1100} {
		f.learnStart(took*time.Millisecond, false)
	}
	f.learnStart(time.Second, true)
	f.learnStart(100*time.Millisecond, true)
	if got := f.start.value(); got < 990*time.Millisecond || got > 1010*time.Millisecond {
		t.Errorf("a start is taken to need %v", got)
	}

	s := span{standard: time.Second}
	if s.value() != time.Second {
		t.Errorf("%v before the first sample", s.value())
	}
	for range 100 {
		s.learn(100 * time.Millisecond)
	}
	s.learn(10 * time.Second) // hangs
	if got := s.value(); got < 100*time.Millisecond || got > 130*time.Millisecond {
		t.Errorf("%v after one call that hung", got)
	}
	s.learn(-time.Second)
	if got := s.value(); got <= 0 {
		t.Errorf("%v after a time that was not to be measured", got)
	}
}

// lambdaLike is a function of the emulator with that many slots.
func lambdaLike(t *testing.T, c functions.Config, slots int) (*functions.Emulator, *Function) {
	e, provider := emulated(t, c)
	return e, New("thumb", Config{
		Memory: 512 << 20, Timeout: 5 * time.Second, MaxConcurrency: slots, MaxResponse: 1 << 20,
		Ramp: RampConfig{Burst: 1000, PerSecond: 100}, WarmUp: "/warm-up",
	}, provider, nil, slog.New(slog.DiscardHandler))
}

// take calls f and says how long that took.
func take(t *testing.T, f *Function) time.Duration {
	t.Helper()
	began := time.Now()
	resp, err := f.Invoke(t.Context(), ask("GET", "/", "", nil), "v")
	if err != nil {
		t.Error(err)
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return time.Since(began)
}

// A call that finds no instance free has one started by a warm-up, and takes one
// that is free before.
func TestFirstFreeInstanceIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := lambdaLike(t, functions.Config{Service: 100 * time.Millisecond, ColdStart: time.Second}, 100)
		take(t, f)      // starts the first
		synctest.Wait() // a slot is given back a moment after the answer
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if d := take(t, f); d > 300*time.Millisecond {
					t.Errorf("took %v with an instance that is free every 100 ms", d)
				}
			})
			synctest.Wait() // else a warm-up may overtake the call that the first instance is free for
		}
		wg.Wait()
		time.Sleep(5 * time.Second)
		if s := f.State(); e.Stats().Instances < 2 || s.WarmUps == 0 || s.Waited != 2 || s.InFlight != 0 {
			t.Errorf("%+v, state %+v", e.Stats(), s)
		}
	})
}

// TestThrottledFunctionIsSkippedAtOnce: one refusal of the platform is enough.
func TestThrottledFunctionIsSkippedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, f := lambdaLike(t, functions.Config{Service: time.Second, Cap: 4}, 8)
		f.gate.warm = nil // else a warm-up would be turned away first
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { take(t, f) })
		}
		synctest.Wait()
		if _, e := call1(t, f); e == nil || e.Class != Throttled || e.Executed {
			t.Fatalf("the fifth call: %v", e)
		}
		arrived := e.Stats().Arrived
		if why := f.Ready("v"); why != outcome.FunctionThrottled {
			t.Errorf("Ready: %q", why)
		}
		if _, e := call1(t, f); e == nil || e.Class != Refused || e.Reason() != outcome.FunctionThrottled {
			t.Errorf("the sixth call: %v", e)
		}
		if e.Stats().Arrived != arrived {
			t.Error("the platform was asked again")
		}
		wg.Wait()
		synctest.Wait() // a slot is given back a moment after the answer
		if why := f.Ready("v"); why != outcome.None {
			t.Errorf("Ready with instances that are free: %q", why)
		}
	})
}

// TestGateUnderChance lets calls end in every way, free or paid out of a budget that
// may be too small, and asks that no slot, place or charge is lost, nobody waits for
// ever, and no bound is passed at any moment.
func TestGateUnderChance(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		slots := rapid.IntRange(1, 20).Draw(rt, "slots")
		burst := rapid.IntRange(1, 20).Draw(rt, "burst")
		reserve := rapid.IntRange(0, 10).Draw(rt, "reserve")
		price, limit := PriceConfig{}, 0.0
		if rapid.Bool().Draw(rt, "paid") {
			price, limit = PriceConfig{Platform: "none", PerMillionRequests: new(1e6)}, rapid.Float64Range(1, 200).Draw(rt, "dollars")
		}
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex
			chance := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
			running, most := 0, 0
			b := budget.New("spill", budget.Config{PerHour: limit, PerClient: 0.5})
			f := New("thumb", Config{
				Memory: 1 << 20, Timeout: 2 * time.Second, MaxConcurrency: slots, MaxResponse: 1000,
				Ramp: RampConfig{Burst: burst, PerSecond: 5}, WarmUp: "/warm-up", Price: price,
			}, fake(func(ctx context.Context, r *Request) (*http.Response, error) {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				defer func() { mu.Lock(); running--; mu.Unlock() }()
				select {
				case <-time.After(time.Duration(chance(500)) * time.Millisecond):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
				switch n := chance(20); {
				case n == 0:
					panic("in the provider")
				case n == 1:
					return nil, &Error{Class: Throttled}
				case n == 2:
					return nil, &Error{Class: Timeout, Executed: true}
				case n == 3:
					return nil, &Error{Class: Unavailable}
				case n == 4:
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("ok")), ContentLength: -1}, nil
			}), b, slog.New(slog.DiscardHandler))
			shared := NewShared("db", SharedConfig{Max: 12})
			shared.Set(SharedConfig{Max: 12}, []func() int{func() int { return reserve }})
			f.Protect(shared)
			var wg sync.WaitGroup
			for range 200 {
				time.Sleep(time.Duration(chance(30)) * time.Millisecond)
				switch chance(10) {
				case 0:
					f.Prewarm(time.Now(), chance(30))
				default:
					patience := time.Duration(1+chance(400)) * time.Millisecond
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						resp, err := f.Invoke(ctx, ask("GET", "/", "", nil), "v")
						if err == nil {
							_, _ = io.CopyN(io.Discard, resp.Body, int64(chance(4)))
							resp.Body.Close()
						} else if !errors.As(err, new(*Error)) {
							t.Errorf("error %v", err)
						}
					})
				}
				f.gate.mu.Lock()
				g, tokens := f.gate, f.gate.ramp.left
				if g.inFlight > slots || g.inFlight != g.fleet.busy+g.fleet.starting || g.fleet.busy > g.fleet.ready || tokens < 0 || tokens > float64(burst) {
					t.Errorf("%d in flight of %d, fleet %+v, %v tokens", g.inFlight, slots, g.fleet, tokens)
				}
				f.gate.mu.Unlock()
			}
			wg.Wait()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			s := f.State()
			if s.InFlight+s.Starting+s.Waiting+f.gate.fleet.busy != 0 || shared.calls.Load() != 0 {
				t.Errorf("at rest: %+v, shared %+v", s, shared.State())
			}
			if paid := b.State(time.Now()); paid.AtRisk != 0 || !near(paid.Periods[0].Spent, s.CostUSD) || limit > 0 && s.CostUSD > limit+1e-9 {
				t.Errorf("cost $%v, the budget says %+v", s.CostUSD, paid)
			}
			if most > min(slots, 12-reserve) {
				t.Errorf("%d calls at once, of %d and %d", most, slots, 12-reserve)
			}
		})
	})
}

// What a scrape saw must not be taken back: Prometheus takes a counter that falls for
// one that began anew.
func TestSlotsCountWhenTheyWereUsed(t *testing.T) {
	g := newGate(Config{MaxConcurrency: 1, Ramp: RampConfig{Burst: 1, PerSecond: 1}})
	f := func(u use, want gateCounts) {
		t.Helper()
		s, why := g.enterWarmUp()
		if why != outcome.None {
			t.Fatal(why)
		}
		before := g.count
		if g.leave(s, u); g.count != want || g.count.coldStarts < before.coldStarts || g.count.warmUps < before.warmUps {
			t.Errorf("counted %+v, and %+v before the end", g.count, before)
		}
	}
	f(unused, gateCounts{})
	f(answered, gateCounts{coldStarts: 1, warmUps: 1})
	f(answered, gateCounts{coldStarts: 1, warmUps: 2})
}

// While nothing is ready, half of the calls start an instance and the others have
// it after them; not so where a call takes longer than a start.
func TestFirstCallsShareTheirStarts(t *testing.T) {
	f := func(service time.Duration, starts int, longest time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			e, f := lambdaLike(t, functions.Config{Service: service, ColdStart: 500 * time.Millisecond}, 100)
			f.gate.fleet.call.learn(service)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if d := take(t, f); d > longest {
						t.Errorf("calls of %v: took %v", service, d)
					}
				})
			}
			wg.Wait()
			time.Sleep(10 * time.Second)
			if s := e.Stats(); s.ColdStarts != starts {
				t.Errorf("calls of %v: %d starts, want %d", service, s.ColdStarts, starts)
			}
		})
	}
	f(50*time.Millisecond, 5, 600*time.Millisecond)
	f(150*time.Millisecond, 5, 800*time.Millisecond)
	f(time.Second, 10, 1500*time.Millisecond)
}
