package origin

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"spillway/edge/leaktest"
	"spillway/edge/synctest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func newOrigin(t *testing.T, c Config) *Origin {
	t.Helper()
	o, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// get asks the origin for a target; status 0 means that it closed the
// connection instead of answering.
func get(ctx context.Context, o *Origin, target string) (status int, w *httptest.ResponseRecorder) {
	w = httptest.NewRecorder()
	defer func() {
		if r := recover(); r == http.ErrAbortHandler {
			status = 0
		} else if r != nil {
			panic(r)
		}
	}()
	o.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", target, nil))
	return w.Code, w
}

// checkSums fails unless the counters add up.
func checkSums(t *testing.T, s Stats) {
	t.Helper()
	if s.Arrived != s.Rejected+s.Completed+s.Canceled+s.Killed+s.InFlight {
		t.Errorf("arrivals do not add up: %+v", s)
	}
	if s.Completed != s.Useful+s.Late+s.Abandoned {
		t.Errorf("completions do not add up: %+v", s)
	}
	arrived, completed, useful, rejected := 0, 0, 0, 0
	busy := 0.0
	seconds := s.PerSecond
	s.PerSecond = nil // too long for a message
	for _, second := range seconds {
		arrived += second.Arrived
		completed += second.Completed
		useful += second.Useful
		rejected += second.Rejected
		busy += second.BusySlotSeconds
	}
	if arrived != s.Arrived || completed != s.Completed || useful != s.Useful || rejected != s.Rejected {
		t.Errorf("the seconds do not add up to the counters: %+v", s)
	}
	if math.Abs(busy-s.BusySlotSeconds) > 1e-6 {
		t.Errorf("busy %v in the seconds, %v in all", busy, s.BusySlotSeconds)
	}
}

// crowd keeps n requests inside until stop is closed.
func crowd(t *testing.T, o *Origin, n int, stop <-chan struct{}) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for !isClosed(stop) {
				get(t.Context(), o, "/")
			}
		})
	}
	return &wg
}

func TestSaturatedGoodputIsTheCapacity(t *testing.T) {
	f := func(c Config, inside int, off float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, c)
			stop := make(chan struct{})
			wg := crowd(t, o, inside, stop)
			from := time.Now().Unix() + 1
			time.Sleep(42 * time.Second)
			s := o.Stats()
			if g := s.Goodput(from, from+40); math.Abs(g-1) > off {
				t.Errorf("goodput %.4f of the capacity with %+v", g, c)
			}
			if math.Abs(s.BusySlotSeconds-42*float64(s.Slots)) > 1e-3 {
				t.Errorf("busy for %v slot-seconds of %v", s.BusySlotSeconds, 42*s.Slots)
			}
			close(stop)
			wg.Wait()
			checkSums(t, o.Stats())
		})
	}
	f(Config{}, 6, 0.005)
	f(Config{}, 40, 0.005)
	f(Config{Model: Sharing, Service: 20 * time.Millisecond}, 6, 0.005)
	f(Config{Service: 20 * time.Millisecond, CV: 1, Seed: 1}, 8, 0.03)
	f(Config{Model: Sharing, Service: 20 * time.Millisecond, CV: 1, Seed: 1}, 8, 0.03)
}

func TestThrashCostsGoodput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Model: Sharing, Service: 20 * time.Millisecond, Thrash: 0.05})
		stop := make(chan struct{})
		wg := crowd(t, o, 46, stop) // 40 beyond the knee of 6
		from := time.Now().Unix() + 1
		time.Sleep(22 * time.Second)
		if g, want := o.Stats().Goodput(from, from+20), 1/1.5; math.Abs(g-want) > 0.01 {
			t.Errorf("goodput %.3f, want %.3f", g, want)
		}
		close(stop)
		wg.Wait()
	})
}

func TestCapacityFollowsControl(t *testing.T) {
	f := func(m Model, change Change, capacity float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Model: m, Service: 100 * time.Millisecond})
			stop := make(chan struct{})
			wg := crowd(t, o, 8, stop)
			time.Sleep(10 * time.Second)
			if err := o.Control(change); err != nil {
				t.Fatal(err)
			}
			from := time.Now().Unix() + 1
			time.Sleep(42 * time.Second)
			s := o.Stats()
			done := 0
			for _, second := range s.PerSecond {
				if from <= second.T && second.T < from+40 {
					done += second.Useful
				}
			}
			if s.CapacityPerSecond != capacity || math.Abs(float64(done)/40/capacity-1) > 0.02 {
				t.Errorf("%d completions in 40 s at a capacity of %v, want %v", done, s.CapacityPerSecond, capacity)
			}
			close(stop)
			wg.Wait()
			checkSums(t, o.Stats())
		})
	}
	for _, m := range []Model{FIFO, Sharing} {
		f(m, Change{Slots: new(2)}, 20)
		f(m, Change{Speed: new(0.5)}, 20)
		f(m, Change{Slots: new(8)}, 80)
		f(m, Change{Slots: new(2), Speed: new(2.0)}, 40)
	}
}

func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Slots: 2, Backlog: 3})
		var wg sync.WaitGroup
		var mu sync.Mutex
		statuses := map[int]int{}
		inside := map[string]int{}
		for range 9 {
			wg.Go(func() {
				status, w := get(t.Context(), o, "/")
				mu.Lock()
				defer mu.Unlock()
				statuses[status]++
				inside[w.Header().Get("X-True-Inflight")]++
			})
		}
		wg.Wait()
		if statuses[200] != 5 || statuses[503] != 4 {
			t.Errorf("statuses %v, want five 200 and four 503", statuses)
		}
		if inside["1"] != 1 || inside["5"] != 1 || inside[""] != 4 {
			t.Errorf("true in-flight %v, want 1 to 5 once each", inside)
		}
		s := o.Stats()
		checkSums(t, s)
		if s.Rejected != 4 || s.Started != 5 {
			t.Errorf("stats %+v", s)
		}
	})
}

// Three requests on one slot, the client of the first two leaves: the origin
// works on for it, unless it is told to notice.
func TestAbandonedRequests(t *testing.T) {
	f := func(cancel bool, took time.Duration, want Stats) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Slots: 1, Service: time.Second, Cancel: cancel})
			ctx, leave := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { get(ctx, o, "/") })
				synctest.Wait()
			}
			start := time.Now()
			wg.Go(func() {
				if status, _ := get(t.Context(), o, "/"); status != 200 {
					t.Errorf("status %d for the client that stayed", status)
				}
				if d := time.Since(start); d.Round(time.Millisecond) != took {
					t.Errorf("the client that stayed waited %v, want %v", d, took)
				}
			})
			time.Sleep(500 * time.Millisecond)
			leave()
			wg.Wait()
			s := o.Stats()
			checkSums(t, s)
			if s.Abandoned != want.Abandoned || s.Canceled != want.Canceled ||
				math.Abs(s.BusySlotSeconds-want.BusySlotSeconds) > 1e-3 {
				t.Errorf("stats %+v, want %+v", s, want)
			}
		})
	}
	f(false, 3*time.Second, Stats{Abandoned: 2, BusySlotSeconds: 3})
	// Removed in either order, the second may have been given the slot for no time.
	f(true, 1500*time.Millisecond, Stats{Canceled: 2, BusySlotSeconds: 1.5})
}

func TestLateCompletionIsOfNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Slots: 1, Service: time.Second, Patience: 2500 * time.Millisecond})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { get(t.Context(), o, "/") })
		}
		wg.Wait()
		s := o.Stats()
		checkSums(t, s)
		if s.Useful != 2 || s.Late != 2 {
			t.Errorf("%d in time, %d late, want 2 and 2", s.Useful, s.Late)
		}
	})
}

func TestDieAndRevive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Slots: 1, Service: time.Second})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if status, _ := get(t.Context(), o, "/"); status != 0 {
					t.Errorf("a dying origin answered %d", status)
				}
			})
		}
		wg.Go(func() {
			if status, _ := get(t.Context(), o, "/events?slow=0.1"); status != 0 {
				t.Errorf("a dying origin ended its stream with %d", status)
			}
		})
		time.Sleep(500 * time.Millisecond)
		if err := o.Control(Change{Dead: new(true)}); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		for _, target := range []string{"/", "/healthz"} {
			if status, _ := get(t.Context(), o, target); status != 0 {
				t.Errorf("a dead origin answered %d to %s", status, target)
			}
		}
		s := o.Stats()
		checkSums(t, s)
		if s.Killed+s.Completed != 4 || s.Refused != 1 || s.CapacityPerSecond != 0 {
			t.Errorf("stats %+v", s)
		}
		if err := o.Control(Change{Dead: new(false)}); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"/", "/healthz"} {
			if status, _ := get(t.Context(), o, target); status != 200 {
				t.Errorf("a revived origin answered %d to %s", status, target)
			}
		}
	})
}

// A dead second has no capacity, so it cannot count against the goodput.
func TestDeadSecondsHaveNoCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Service: 100 * time.Millisecond})
		from := time.Now().Unix()
		time.Sleep(2 * time.Second)
		_ = o.Control(Change{Dead: new(true)})
		time.Sleep(3 * time.Second)
		_ = o.Control(Change{Dead: new(false)})
		time.Sleep(time.Second)
		s := o.Stats()
		for i, want := range []float64{40, 40, 0, 0, 0, 40} {
			if got := s.PerSecond[i]; got.T != from+int64(i) || math.Abs(got.Capacity-want) > 1e-6 {
				t.Errorf("second %d: %+v, want a capacity of %v", i, got, want)
			}
		}
	})
}

func TestHangAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{Service: time.Second})
		start := time.Now()
		done := make(chan struct{})
		go func() {
			get(t.Context(), o, "/")
			close(done)
		}()
		time.Sleep(300 * time.Millisecond)
		_ = o.Control(Change{Speed: new(0.0)})
		time.Sleep(10 * time.Minute)
		_ = o.Control(Change{Speed: new(1.0)})
		<-done
		if d := time.Since(start).Round(time.Millisecond); d != 10*time.Minute+time.Second {
			t.Errorf("took %v, want ten minutes and a second", d)
		}
		checkSums(t, o.Stats())
	})
}

// Work that takes longer than its service time is late itself, but the schedule
// goes on: the capacity stays.
func TestOverrunsLeaveTheScheduleAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				time.Sleep(1300 * time.Millisecond)
			}
			w.WriteHeader(http.StatusTeapot)
		})
		o := newOrigin(t, Config{Slots: 1, Service: time.Second, Work: work})
		start := time.Now()
		var wg sync.WaitGroup
		ask := func(target string, took time.Duration) {
			wg.Go(func() {
				if status, _ := get(t.Context(), o, target); status != http.StatusTeapot {
					t.Errorf("%s: status %d, want that of the work", target, status)
				}
				if d := time.Since(start).Round(time.Millisecond); d != took {
					t.Errorf("%s took %v, want %v", target, d, took)
				}
			})
			synctest.Wait()
		}
		ask("/long", 1300*time.Millisecond)
		ask("/short", 2*time.Second)
		wg.Wait()
		s := o.Stats()
		checkSums(t, s)
		if s.Overruns != 1 || s.Useful != 2 {
			t.Errorf("stats %+v, want one overrun and two useful", s)
		}
	})
}

// A storm of arrivals, departures and changes: the books still balance.
func TestEverythingAddsUp(t *testing.T) {
	for _, cancel := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{Backlog: 20, CV: 1, Cancel: cancel, Thrash: 0.05, Patience: 700 * time.Millisecond})
			rng := rand.New(rand.NewPCG(7, 7))
			var wg sync.WaitGroup
			asked := 0
			for i := range 2000 {
				time.Sleep(time.Duration(rng.ExpFloat64() * float64(10*time.Millisecond)))
				ctx, leave := context.WithTimeout(t.Context(), time.Duration(rng.IntN(3000))*time.Millisecond)
				asked++
				wg.Go(func() {
					defer leave()
					get(ctx, o, "/")
				})
				switch i {
				case 500:
					_ = o.Control(Change{Slots: new(2)})
				case 1000:
					_ = o.Control(Change{Slots: new(6), Speed: new(0.5)})
				case 1300:
					_ = o.Control(Change{Dead: new(true)})
				case 1400:
					_ = o.Control(Change{Dead: new(false)})
				}
				if i%100 == 0 {
					checkSums(t, o.Stats())
				}
			}
			wg.Wait()
			s := o.Stats()
			checkSums(t, s)
			if s.Arrived+s.Refused != asked || s.InFlight != 0 || s.Queued != 0 {
				t.Errorf("%d asked; %+v", asked, s)
			}
			if s.Rejected == 0 || s.Killed == 0 || (s.Canceled > 0) != cancel || s.Abandoned == 0 && !cancel {
				t.Errorf("the storm missed a case: %+v", s)
			}
		})
	}
}

func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		get(t.Context(), o, "/")
		time.Sleep(48 * time.Hour)
		s := o.Stats()
		if len(s.PerSecond) != keptSeconds || s.PerSecond[keptSeconds-1].T != time.Now().Unix() {
			t.Errorf("%d seconds kept, the last %d", len(s.PerSecond), s.PerSecond[len(s.PerSecond)-1].T)
		}
	})
}

func TestControlRefuses(t *testing.T) {
	o := newOrigin(t, Config{})
	for _, c := range []Change{{Slots: new(0)}, {Speed: new(-1.0)}, {Speed: new(math.NaN())}} {
		if o.Control(c) == nil {
			t.Errorf("change %+v was accepted", c)
		}
	}
	if s := o.Stats(); s.Slots != 4 || s.Speed != 1 {
		t.Errorf("a refused change was made: %+v", s)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{
		{Model: "lifo"},
		{Slots: -1},
		{Service: -1},
		{CV: -1},
		{CV: math.NaN()},
		{Knee: -1},
		{Thrash: -1},
		{Patience: -1},
		{Body: maxBody + 1},
	} {
		if _, err := New(c); err == nil || errors.Is(err, errDead) {
			t.Errorf("New(%+v) = %v, want an error", c, err)
		}
	}
}
