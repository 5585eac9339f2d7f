package budget

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
)

// noon is the middle of a period of any length.
var noon = time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)

func reserve(t *testing.T, b *Budget, now time.Time, client string, amount float64, want outcome.Reason) *Charge {
	t.Helper()
	charge, why := b.Reserve(now, client, amount)
	if why != want {
		t.Fatalf("Reserve(%v) = %q, want %q", amount, why, want)
	}
	return charge
}

func TestReserveRefusesWhatWouldExceed(t *testing.T) {
	f := func(c Config, amount float64, want outcome.Reason) {
		t.Helper()
		b := New("spill", c)
		reserve(t, b, noon, "v", amount, want)
		if why := b.Check(noon, "w", math.NaN()); why != outcome.BudgetSpent {
			t.Errorf("Check(NaN) = %q", why)
		}
	}
	f(Config{PerHour: 2}, 2, outcome.None)
	f(Config{PerHour: 2}, 2.01, outcome.BudgetSpent)
	f(Config{PerHour: 2}, -1, outcome.BudgetSpent)
	f(Config{PerHour: 2}, math.NaN(), outcome.BudgetSpent)
	f(Config{PerHour: 2}, math.Inf(1), outcome.BudgetSpent)
	f(Config{PerDay: 1}, 2, outcome.BudgetSpent)
	f(Config{PerMonth: 1}, 2, outcome.BudgetSpent)
	f(Config{PerMonth: 1, FreePerMonth: 1}, 2, outcome.None)
	f(Config{PerMonth: 1, FreePerMonth: 1}, 2.01, outcome.BudgetSpent)
	f(Config{PerHour: 1, FreePerMonth: 1}, 1.5, outcome.BudgetSpent)
	f(Config{PerMonth: 20, PerClient: 0.05}, 1.01, outcome.ClientShareSpent)
	f(Config{PerHour: 2, PerDay: 1}, 1.5, outcome.BudgetSpent)
	f(Config{}, 1e9, outcome.None)
	f(Config{PerHour: 2, PerClient: 0.05}, 0.1, outcome.None)
	f(Config{PerHour: 2, PerClient: 0.05}, 0.11, outcome.ClientShareSpent)
	f(Config{PerDay: 20, PerClient: 0.05}, 1.01, outcome.ClientShareSpent)
}

func TestSettleCorrectsTheCharge(t *testing.T) {
	f := func(actual, left float64) {
		t.Helper()
		b := New("spill", Config{PerHour: 2, PerDay: 20})
		charge := reserve(t, b, noon, "v", 1, outcome.None)
		charge.Settle(noon, actual)
		again := charge
		again.Settle(noon, 100) // a second settlement does nothing
		if got := b.Left(noon); got != left {
			t.Errorf("settled %v: left %v, want %v", actual, got, left)
		}
	}
	f(0, 2)
	f(0.25, 1.75)
	f(1.5, 0.5)
	f(3, 0)
	f(math.NaN(), 1)
	f(-1, 1)
	f(math.Inf(1), 1)
}

func TestPeriodsEnd(t *testing.T) {
	b := New("spill", Config{PerHour: 2, PerDay: 3})
	spend := func(now time.Time, amount float64) {
		t.Helper()
		charge := reserve(t, b, now, "v", amount, outcome.None)
		charge.Settle(now, amount)
	}
	spend(noon, 2)
	reserve(t, b, noon.Add(29*time.Minute), "v", 0.1, outcome.BudgetSpent)
	spend(noon.Add(31*time.Minute), 1)
	reserve(t, b, noon.Add(2*time.Hour), "v", 0.1, outcome.BudgetSpent) // the day's
	spend(noon.Add(12*time.Hour), 2)
}

func TestOpenChargeCountsInTheNextPeriod(t *testing.T) {
	b := New("spill", Config{PerHour: 2, PerClient: 0.5})
	charge := reserve(t, b, noon, "v", 1, outcome.None)
	next := noon.Add(time.Hour)
	if got := b.Left(next); got != 1 {
		t.Errorf("left %v with 1 at risk", got)
	}
	charge.Settle(next, 0.75)
	if got := b.Left(next); got != 1.25 {
		t.Errorf("left %v after the settlement", got)
	}
	// The client's share of the new period bears the cost, too.
	if own, other := b.ClientLeft(next, "v"), b.ClientLeft(next, "w"); own != 0.25 || other != 1 {
		t.Errorf("left %v for the client, %v for another", own, other)
	}
	reserve(t, b, next, "v", 0.26, outcome.ClientShareSpent)
	reserve(t, b, next, "v", 0.25, outcome.None)
}

// A cost that nobody asked about since the period began is the new period's all
// the same.
func TestSettleBeginsThePeriod(t *testing.T) {
	b := New("spill", Config{PerHour: 2, PerClient: 0.5})
	charge := reserve(t, b, noon, "v", 1, outcome.None)
	next := noon.Add(time.Hour)
	charge.Settle(next, 1)
	if got := b.Left(next); got != 1 {
		t.Errorf("left %v: the cost is forgotten", got)
	}
	reserve(t, b, next, "v", 0.1, outcome.ClientShareSpent)
}

// A clock that was a year ahead, and is set right, neither ends the service for
// a year nor gives anything back.
func TestClockThatWasFarAhead(t *testing.T) {
	b := New("spill", Config{PerHour: 2, PerDay: 3, PerClient: 0.5})
	wrong := noon.AddDate(1, 0, 0)
	charge := reserve(t, b, wrong, "v", 1, outcome.None)
	charge.Settle(wrong, 1)
	b.Empty(wrong)
	reserve(t, b, noon, "w", 0.1, outcome.BudgetSpent) // emptied, but not for a year
	now := noon.Add(-time.Minute)
	b.Reset(noon)
	charge = reserve(t, b, wrong, "v", 1, outcome.None)
	charge.Settle(wrong, 1)
	reserve(t, b, now, "v", 0.1, outcome.ClientShareSpent)
	if got := b.Left(now); got != 1 {
		t.Errorf("left %v of 2 with 1 spent", got)
	}
	next := now.Add(time.Hour)
	if got := b.Left(next); got != 2 {
		t.Errorf("left %v in the next hour", got)
	}
	reserve(t, b, next, "v", 1, outcome.None)

	b = New("spill", Config{PerHour: 2})
	b.Empty(wrong)
	if got := b.Left(noon.Add(time.Hour)); got != 0 || !b.State(noon).Drained {
		t.Errorf("left %v of an empty budget", got)
	}
	if got := b.Left(noon.Add(2 * time.Hour)); got != 2 {
		t.Errorf("left %v: emptied for a year", got)
	}
}

func TestChargeIsSettledOnce(t *testing.T) {
	b := New("spill", Config{PerHour: 2})
	charge := reserve(t, b, noon, "v", 1, outcome.None)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { charge.Settle(noon, 0.5) })
	}
	wg.Wait()
	if got := b.Left(noon); got != 1.5 {
		t.Errorf("left %v", got)
	}
}

func TestShareIsPerClient(t *testing.T) {
	b := New("spill", Config{PerHour: 1, PerClient: 0.1})
	for i := range 9 {
		client := fmt.Sprint(i)
		charge := reserve(t, b, noon, client, 0.1, outcome.None)
		reserve(t, b, noon, client, 0.01, outcome.ClientShareSpent)
		charge.Settle(noon, 0.05)
		reserve(t, b, noon, client, 0.05, outcome.None)
	}
}

func TestManyClientsDoNotWeighOnOne(t *testing.T) {
	b := New("spill", Config{PerHour: 10, PerClient: 0.05})
	for i := range 50_000 {
		charge := reserve(t, b, noon, fmt.Sprint("visitor ", i), 0.0001, outcome.None)
		charge.Settle(noon, 0.0001)
	}
	// Half of the budget is spent by others; a newcomer has its share, less the
	// error of the table.
	reserve(t, b, noon, "newcomer", 0.5-0.0013*10, outcome.None)
}

func TestDrain(t *testing.T) {
	b := New("spill", Config{PerHour: 2})
	b.Empty(noon)
	reserve(t, b, noon, "v", 0, outcome.BudgetSpent)
	if got, s := b.Left(noon), b.State(noon); got != 0 || s.Left != 0 || !s.Drained {
		t.Errorf("left %v, state %+v", got, s)
	}
	b.Reset(noon)
	reserve(t, b, noon, "v", 2, outcome.None)
	b.Empty(noon)
	b.Reset(noon)
	if got := b.Left(noon); got != 0 {
		t.Errorf("left %v: Reset forgot the open charge", got)
	}
	b.Empty(noon)
	if got := b.Left(noon.Add(time.Hour)); got != 0 {
		t.Errorf("left %v: the open charge still counts", got)
	}
	b.Empty(noon)
	if b.State(noon.Add(time.Hour)).Drained {
		t.Error("drained in the next period")
	}
}

func TestReloadKeepsWhatWasSpent(t *testing.T) {
	b := New("spill", Config{PerHour: 2})
	charge := reserve(t, b, noon, "v", 1.5, outcome.None)
	charge.Settle(noon, 1.5)
	b.SetConfig(Config{PerHour: 3, PerClient: 0.5})
	if got := b.Left(noon); got != 1.5 {
		t.Errorf("left %v", got)
	}
	reserve(t, b, noon, "v", 0.1, outcome.ClientShareSpent)
	b.SetConfig(Config{PerHour: 1})
	if got := b.Left(noon); got != 0 {
		t.Errorf("left %v of less than was spent", got)
	}
}

func TestNilBudgetAllowsEverything(t *testing.T) {
	var b *Budget
	charge := reserve(t, b, noon, "v", 1e6, outcome.None)
	charge.Settle(noon, 1e6)
	if !math.IsInf(b.Left(noon), 1) || b.Check(noon, "v", 1e6) != outcome.None {
		t.Error("a nil budget has a limit")
	}
}

// The law of the ledger: whatever is reserved, settled and changed in whatever
// order, and however the clock jumps, no period's limit is passed.
func TestSpentNeverPassesTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{PerHour: rapid.Float64Range(0.1, 5).Draw(t, "hour"), PerDay: rapid.Float64Range(0.1, 20).Draw(t, "day"), PerMonth: rapid.Float64Range(0.1, 40).Draw(t, "month"), PerClient: 0.3}
		b := New("spill", c)
		now, latest := noon, noon
		var open []*Charge
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				client := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "client")
				if charge, why := b.Reserve(now, client, rapid.Float64Range(0, 1).Draw(t, "amount")); why == outcome.None {
					open = append(open, charge)
					withinLimits(t, b.State(now))
				}
			},
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "charge")
				open[i].Settle(now, open[i].Amount()*rapid.Float64Range(0, 1).Draw(t, "part"))
				open = append(open[:i], open[i+1:]...)
			},
			"clock": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.Int64Range(-int64(2*time.Hour), int64(3*time.Hour)).Draw(t, "step")))
				left := b.Left(latest)
				if got := b.Left(now); now.Before(latest) && got > left {
					t.Fatalf("the clock went back and gave %v for %v", got, left)
				}
				if now.After(latest) {
					latest = now
				}
			},
			"reload": func(t *rapid.T) { b.SetConfig(c) },
			"": func(t *rapid.T) {
				s := b.State(now)
				const rounding = 1e-9
				if s.AtRisk < -rounding {
					t.Fatalf("at risk: %+v", s)
				}
				for _, client := range []string{"", "a", "b"} {
					if spent := b.clients.spent(b.clients.hash(client)); spent < -rounding {
						t.Fatalf("client %q has spent %v", client, spent)
					}
				}
			},
		})
	})
}

func TestConcurrentCharges(t *testing.T) {
	b := New("spill", Config{PerHour: 1, PerClient: 0.5})
	var wg sync.WaitGroup
	for client := range 8 {
		wg.Go(func() {
			for range 1000 {
				if charge, why := b.Reserve(noon, fmt.Sprint(client%4), 0.01); why == outcome.None {
					charge.Settle(noon, 0.0005)
				}
				if s := b.State(noon); s.Periods[hour].Spent+s.AtRisk > 1+1e-9 {
					t.Errorf("limit passed: %+v", s)
				}
			}
		})
	}
	wg.Wait()
	if s := b.State(noon); s.AtRisk != 0 {
		t.Errorf("at risk after all: %+v", s)
	}
}

func BenchmarkReserveSettle(b *testing.B) {
	limits := Config{PerHour: 1e9, PerDay: 1e9, PerMonth: 1e9, PerClient: 0.5}
	f := func(name string, ledger *Budget) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					charge, _ := ledger.Reserve(noon, "visitor 1234", 0.0001)
					charge.Settle(noon, 0.00001)
				}
			})
		})
	}
	f("memory", New("spill", limits))
	l := OpenLedger(b.TempDir(), slog.New(slog.DiscardHandler))
	stop := running(l)
	f("ledger", l.Budget("spill", limits))
	stop()
	if err := l.Close(); err != nil {
		b.Error(err)
	}
	// The least limit that lasts takes a block for each twentieth of it.
	l = OpenLedger(b.TempDir(), slog.New(slog.DiscardHandler))
	stop = running(l)
	limits.PerHour, limits.PerDay, limits.PerMonth = 1000, 1000, 1000
	f("ledger, small blocks", l.Budget("spill", limits))
	b.Logf("%d writes", l.State().Writes)
	stop()
	if err := l.Close(); err != nil {
		b.Error(err)
	}
}

// TestReserveWithin: a client that is to stay within a share does so, and within that
// of every client.
func TestReserveWithin(t *testing.T) {
	f := func(what string, c Config, amount, share float64, want int) {
		t.Helper()
		b, now := New("spill", c), time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
		n := 0
		for n < 1000 && b.CheckWithin(now, "few", amount, share) == outcome.None {
			if _, why := b.ReserveWithin(now, "few", amount, share); why != outcome.None {
				t.Fatalf("%s: allowed, and then %s", what, why)
			}
			n++
		}
		if _, why := b.ReserveWithin(now, "few", amount, share); n != want || n < 1000 && why == outcome.None {
			t.Errorf("%s: %d times, then %q; want %d", what, n, why, want)
		}
	}
	f("a hundredth", Config{PerHour: 1000}, 1, 0.01, 10)
	f("of the shortest period", Config{PerDay: 1000, PerMonth: 1e6}, 1, 0.01, 10)
	f("two at least", Config{PerHour: 1000}, 100, 0.01, 2)
	f("no more than any client", Config{PerHour: 1000, PerClient: 0.005}, 1, 0.01, 5)
	f("no more than there is", Config{PerHour: 1000, PerDay: 5}, 1, 0.01, 5)
	f("no bound", Config{}, 1, 0.01, 1000)
}
