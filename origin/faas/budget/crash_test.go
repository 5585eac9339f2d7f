package budget

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
)

// TestEveryCrashCountsEnough spends from 64 callers, records all that is written,
// and opens the ledger again on what each prefix of it leaves. What was handed out
// until then must be there, and no more than one block beyond.
func TestEveryCrashCountsEnough(t *testing.T) {
	// In virtual time no caller loses patience with a ledger that a busy machine stalls.
	synctest.Test(t, crashAtEveryStep)
}

func crashAtEveryStep(t *testing.T) {
	limits := Config{PerHour: 2, PerDay: 20, PerMonth: 200, PerClient: 1}
	disk := newRecorder(nil)
	l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
	b := l.Budget("spill", limits)
	stop := running(l)

	// What was spent or at risk when so many steps had been recorded, at most, and
	// what was surely spent.
	var mu sync.Mutex
	most, least := map[int]float64{}, map[int]float64{}
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		n := disk.count() // the money of a block is handed out after its steps
		most[n] = max(most[n], b.settled+b.atRisk)
		if _, ok := least[n]; !ok {
			least[n] = b.settled
		}
	}
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			for i := range 40 {
				charge, why := b.Reserve(time.Now(), fmt.Sprint(caller), 0.0006)
				look()
				if why == outcome.None {
					charge.Settle(time.Now(), 0.0006*float64(i%5)/4)
					look()
				}
			}
		})
	}
	wg.Wait()
	stop()
	if len(disk.steps) < 10 || b.settled == 0 {
		t.Fatalf("%d steps, $%v spent", len(disk.steps), b.settled)
	}
	block := 0.0 // the largest
	for n, s := range disk.steps {
		if s.act != "write" {
			continue
		}
		accounts, err := parseLedger(append([]byte(header), bytes.TrimPrefix(s.data, []byte(header))...))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range accounts {
			block = max(block, a.Booked-a.Settled)
			least[n] = max(least[n], a.Settled)
		}
	}
	handed, sure := 0.0, 0.0
	for n := range len(disk.steps) + 1 {
		handed, sure = max(handed, most[n]), max(sure, least[n])
		for _, torn := range []bool{false, true} {
			for _, eager := range []bool{false, true} {
				got, _ := settledAfter(t, crash(nil, disk.steps[:n], torn, eager), "spill", limits)
				if got < handed-1e-9 {
					t.Fatalf("after %d of %d steps (torn %t, eager %t) the ledger has $%v, and $%v was handed out", n, len(disk.steps), torn, eager, got, handed)
				}
				if got > sure+block+1e-9 {
					t.Fatalf("after %d of %d steps the ledger has $%v, $%v was spent, and blocks have $%v", n, len(disk.steps), got, sure, block)
				}
			}
		}
	}
	t.Logf("%d steps, $%.4f spent, blocks of $%.4f at most", len(disk.steps), b.settled, block)
}

// TestSpendingSurvivesAnything: whatever is reserved, settled, crashed and
// restarted in whatever order, and however the clock jumps, the ledger knows of all
// that was spent, and no period's limit is passed.
func TestSpendingSurvivesAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{PerHour: rapid.Float64Range(0.1, 5).Draw(t, "hour"), PerMonth: rapid.Float64Range(0.1, 20).Draw(t, "month"), OnLedgerError: "stop"}
		var kept map[string][]byte
		disk := newRecorder(nil)
		l := newLedger(disk, "test", slog.New(slog.DiscardHandler))
		b := l.Budget("spill", c)
		now, away := noon, false
		// What was spent in all, and in each hour since time went on by itself.
		spent, inHour := 0.0, map[time.Time]float64{}
		var open []*Charge
		reopen := func(torn bool) {
			kept = crash(kept, disk.steps, torn, false)
			for _, charge := range open { // nobody knows how they ended
				spent += charge.Amount()
				inHour[hour.start(now)] += charge.Amount()
			}
			open = nil
			disk = newRecorder(kept)
			l = newLedger(disk, "test", slog.New(slog.DiscardHandler))
			b = l.Budget("spill", c)
			l.flush(now, nil)
			if b.settled < spent-1e-9 {
				t.Fatalf("after a crash the ledger has %v of %v", b.settled, spent)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				amount := rapid.Float64Range(0, 1).Draw(t, "amount")
				if b.Check(now, "a", amount) != outcome.None {
					return
				}
				b.mu.Lock()
				b.block.asked, b.block.wanted = amount, true // as a caller that waits
				b.mu.Unlock()
				l.flush(now, nil)
				if charge, why := b.Reserve(now, "a", amount); why == outcome.None {
					open = append(open, charge)
					withinLimits(t, b.State(now))
				}
			},
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				actual := open[0].Amount() * rapid.Float64Range(0, 1).Draw(t, "part")
				open[0].Settle(now, actual)
				spent += actual
				inHour[hour.start(now)] += actual
				open = open[1:]
			},
			"spend": func(t *rapid.T) { // whatever is left
				amount := rapid.Float64Range(0, 1).Draw(t, "amount")
				b.Spend(now, amount)
				l.flush(now, nil) // as Run does, if it is asked to
				spent += amount
				inHour[hour.start(now)] += amount
			},
			"tick":  func(*rapid.T) { l.flush(now, (*Budget).rest) },
			"crash": func(t *rapid.T) { reopen(rapid.Bool().Draw(t, "torn")) },
			"stop": func(*rapid.T) {
				l.Close()
				reopen(false)
			},
			"clock": func(t *rapid.T) {
				switch {
				case rapid.Bool().Draw(t, "time passes"):
					now = now.Add(time.Hour)
					clear(inHour) // an hour that was left may come again
				case away:
					now = now.Add(-5 * time.Hour)
					away = false
				default:
					now = now.Add(5 * time.Hour)
					away = true
				}
				b.Left(now)
				l.flush(now, nil) // as Run does
			},
			"": func(t *rapid.T) {
				s := b.State(now)
				if known := inHour[hour.start(now)]; s.Periods[hour].Spent < known-1e-9 {
					t.Fatalf("forgot of the hour that %v was spent: %+v", known, s)
				}
			},
		})
	})
}

// withinLimits is true when money was just handed out. When the clock jumps, charges
// of one period may come on top of what another had spent.
func withinLimits(t *rapid.T, s State) {
	for _, p := range s.Periods {
		if p.Limit > 0 && p.Spent+s.AtRisk > p.Limit+1e-9 {
			t.Fatalf("limit passed: %+v", s)
		}
	}
}
