package origin

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func TestDemandBelongsToItsNumber(t *testing.T) {
	c, err := Config{Service: 20 * time.Millisecond, CV: 1, Seed: 7}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	var sum, logs, squares float64
	for i := range uint64(n) {
		d := c.Demand(i)
		if d != c.Demand(i) {
			t.Fatalf("number %d has two demands", i)
		}
		sum += d.Seconds()
		logs += math.Log(d.Seconds())
	}
	mean := logs / n
	for i := range uint64(n) {
		squares += math.Pow(math.Log(c.Demand(i).Seconds())-mean, 2)
	}
	// The standard error of the mean is 0.7 % here, of the variance 1 %.
	if got := sum / n; got < .019 || got > .021 {
		t.Errorf("mean %v s, want 20 ms", got)
	}
	if got := squares / n; got < .66 || got > .73 {
		t.Errorf("variance of the logarithm %v, want ln 2", got)
	}
	other := c
	other.Seed++
	if c.Demand(3) == other.Demand(3) {
		t.Error("the seed makes no difference")
	}
}

// The live origin and the replay are given the same requests and agree on when
// each is done.
func TestReplayAgreesWithTheOrigin(t *testing.T) {
	for _, model := range []Model{FIFO, Sharing} {
		synctest.Test(t, func(t *testing.T) {
			c := Config{Model: model, Slots: 2, Service: 20 * time.Millisecond, CV: 1, Thrash: .05, Seed: 3}
			var mu sync.Mutex
			live := map[int64]time.Duration{}
			start := time.Now()
			c.Visited = func(v Visit) {
				mu.Lock()
				defer mu.Unlock()
				live[v.Number] = v.Ended.Sub(start)
			}
			o := newOrigin(t, c)
			whole, _ := c.Complete()
			r, err := NewReplay(c)
			if err != nil {
				t.Fatal(err)
			}
			replayed := map[int64]time.Duration{}
			var wg sync.WaitGroup
			for n := range int64(40) {
				at := time.Since(start)
				for next, ok := r.Next(); ok && next <= at; next, ok = r.Next() {
					for _, done := range r.Advance(next) {
						replayed[done] = next
					}
				}
				r.Enter(at, n, whole.Demand(uint64(n)))
				wg.Go(func() { get(context.Background(), o, fmt.Sprintf("/?draw=%d", n)) })
				synctest.Wait()
				time.Sleep(7 * time.Millisecond)
			}
			wg.Wait()
			for next, ok := r.Next(); ok; next, ok = r.Next() {
				for _, done := range r.Advance(next) {
					replayed[done] = next
				}
			}
			for n := range int64(40) {
				if d := (live[n] - replayed[n]).Abs(); replayed[n] == 0 || d > time.Microsecond {
					t.Errorf("%s: request %d done after %v, in the replay %v", model, n, live[n], replayed[n])
				}
			}
		})
	}
}

func TestVisitedTellsEveryFate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fates []Fate
		o := newOrigin(t, Config{
			Slots: 1, Service: time.Second, Backlog: 1, Patience: 1500 * time.Millisecond,
			Visited: func(v Visit) { fates = append(fates, v.Fate) },
		})
		var wg sync.WaitGroup
		for range 3 { // useful, late, and one that finds no room
			wg.Go(func() { get(context.Background(), o, "/") })
			synctest.Wait()
		}
		wg.Wait()
		leaving, leave := context.WithCancel(context.Background())
		wg.Go(func() { get(leaving, o, "/") })
		synctest.Wait()
		leave()
		wg.Wait()
		wg.Go(func() { get(context.Background(), o, "/") })
		synctest.Wait()
		o.Control(Change{Dead: new(true)})
		wg.Wait()
		if want := []Fate{Rejected, Useful, Late, Abandoned, Killed}; !slices.Equal(fates, want) {
			t.Errorf("fates %v, want %v", fates, want)
		}
	})
}

func TestReplayFollowsChanges(t *testing.T) {
	r, err := NewReplay(Config{Slots: 2})
	if err != nil {
		t.Fatal(err)
	}
	r.Enter(0, 1, time.Second)
	r.Enter(0, 2, 2*time.Second)
	r.Set(500*time.Millisecond, 2, .5) // half a second is left of the first: it takes one
	if next, ok := r.Next(); !ok || next < 1500*time.Millisecond || next > 1500*time.Millisecond+2 {
		t.Errorf("next at %v, want after 1.5 s", next)
	}
	if done := r.Advance(2 * time.Second); !slices.Equal(done, []int64{1}) || r.Inside() != 1 {
		t.Errorf("done %v, %d inside; want 1 done and 1 inside", done, r.Inside())
	}
	r.Kill(2 * time.Second)
	if _, ok := r.Next(); ok || r.Inside() != 0 {
		t.Error("something is left of a dead origin")
	}
}
