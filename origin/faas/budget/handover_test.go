package budget

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
)

// handedOver is a ledger that was handed over, and the one that has it now.
func handedOver(t testing.TB, d disk, name string, c Config, before func(*Budget)) (old, next *Ledger, was, is *Budget) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	old = newLedger(d, "test", log)
	was = old.Budget(name, c)
	next = awaitLedger(d, "test", log)
	is = next.Budget(name, c)
	stop := running(old)
	before(was)
	stop()
	if err := old.HandOver(); err != nil {
		t.Fatal(err)
	}
	next.Open()
	if s := next.State(); s.Error != "" {
		t.Fatalf("the successor's ledger: %s", s.Error)
	}
	return old, next, was, is
}

// Whatever two generations spend, the ledger has no less than that at any time, and
// exactly that when the old one has told the end.
func TestHandOverIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := Config{PerHour: 2}
		now := time.Now()
		hourOf := func() time.Time { return hour.start(time.Now()) }
		began := hourOf()
		var open []*Charge
		spent := 0.0 // by the old one
		amounts := rapid.Float64Range(0, 0.05)
		call := func(b *Budget) {
			if c, why := b.Reserve(now, "v", amounts.Draw(rt, "amount")); why == outcome.None {
				open = append(open, c)
			}
		}
		settle := func() {
			if len(open) == 0 {
				return
			}
			c := open[0]
			open = open[1:]
			// Some cost more than was set aside.
			cost := c.Amount() * rapid.Float64Range(0, 1.2).Draw(rt, "share")
			c.Settle(now, cost)
			spent += cost
		}
		old, next, was, is := handedOver(t, newRecorder(nil), "spill", limits, func(b *Budget) {
			for range rapid.IntRange(0, 5).Draw(rt, "before") {
				call(b)
			}
			settle()
		})
		told := 0.0
		for range rapid.IntRange(0, 10).Draw(rt, "after") {
			call(was)
			settle()
			next.Correct(now, now, old.GiveBack(now, false))
			if is.settled < spent-1e-9 && hourOf() == began {
				rt.Fatalf("the ledger has $%v, and $%v was spent", is.settled, spent)
			}
			told = is.settled
		}
		for len(open) > 0 {
			settle()
		}
		next.Correct(now, now, old.GiveBack(now, true))
		if hourOf() != began {
			return // the clock has turned under the test
		}
		if math.Abs(is.settled-spent) > 1e-9 {
			rt.Fatalf("in the end the ledger has $%v, $%v was spent (before $%v)", is.settled, spent, told)
		}
	})
}

// The old generation goes on within what it has reserved, and no further.
func TestHandOverSpendsWhatIsReserved(t *testing.T) {
	limits := Config{PerHour: 2}
	_, _, was, is := handedOver(t, newRecorder(nil), "spill", limits, func(b *Budget) {
		reserve(t, b, time.Now(), "v", 0.01, outcome.None).Settle(time.Now(), 0.01)
	})
	reserve(t, was, time.Now(), "v", 0.0001, outcome.None)
	reserve(t, was, time.Now(), "v", 1, outcome.LedgerFailed)
	if got := is.State(time.Now()).Periods[hour].Spent; got < 0.01+0.0001 {
		t.Errorf("the successor counts $%v", got)
	}
}

// Only Open takes a ledger back that was handed over: neither an operator's change that
// came too late nor the end of the process writes what another one knows better, even
// if that one is gone.
func TestHandedOverLedgerIsNotWritten(t *testing.T) {
	limits := Config{PerHour: 2}
	d := folder(t.TempDir())
	old, next, was, is := handedOver(t, d, "spill", limits, func(b *Budget) {
		reserve(t, b, time.Now(), "v", 0.1, outcome.None).Settle(time.Now(), 0.01)
	})
	if was.Add(time.Now(), 1) == nil {
		t.Error("a change of the operator was written by the process before")
	}
	is.Spend(time.Now(), 0.3)
	next.Correct(time.Now(), time.Now(), old.GiveBack(time.Now(), true))
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	was.Add(time.Now(), 1)
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	after := newLedger(d, "test", slog.New(slog.DiscardHandler))
	if s := after.State(); s.Error != "" {
		t.Fatalf("the process before has the ledger: %s", s.Error)
	}
	if got := after.Budget("spill", limits).State(time.Now()).Periods[hour].Spent; got < 0.31-1e-9 {
		t.Errorf("the ledger has $%v, and $0.31 were spent", got)
	}
}

// Before its turn the successor spends nothing.
func TestAwaitedLedgerSpendsNothing(t *testing.T) {
	b := awaitLedger(newRecorder(nil), "test", slog.New(slog.DiscardHandler)).Budget("spill", Config{PerHour: 2})
	reserve(t, b, time.Now(), "v", 0.01, outcome.LedgerFailed)
}

// One whose turn never came leaves the ledger alone, and says nothing of it.
func TestAwaitedLedgerIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	var said bytes.Buffer
	l := AwaitLedger(dir, slog.New(slog.NewTextHandler(&said, nil)))
	l.Budget("spill", Config{PerHour: 2})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 || said.Len() > 0 {
		t.Errorf("it left %v, %v, and said %q", files, err, &said)
	}
}

// What calls in flight cost after the turn of the hour counts in the new hour, though
// it was reserved in the old, and what was not needed is not given to the new one.
func TestHandOverAcrossTheHour(t *testing.T) {
	limits := Config{PerHour: 2}
	var flying *Charge
	old, next, _, is := handedOver(t, newRecorder(nil), "spill", limits, func(b *Budget) {
		flying = reserve(t, b, time.Now(), "v", 0.5, outcome.None)
	})
	then := time.Now().Add(time.Hour)
	next.Correct(then, then, old.GiveBack(then, false))
	if got := is.State(then).Periods[hour].Spent; math.Abs(got-0.5) > 1e-9 {
		t.Errorf("the new hour has $%v of a call in flight, want $0.5", got)
	}
	flying.Settle(then, 0.2)
	next.Correct(then, then, old.GiveBack(then, true))
	if got := is.State(then).Periods[hour].Spent; math.Abs(got-0.2) > 1e-9 {
		t.Errorf("the new hour has $%v, want $0.2", got)
	}
	later := then.Add(time.Hour)
	next.Correct(later, then, map[string]float64{"spill": -0.2})
	if got := is.State(later).Left; got > limits.PerHour {
		t.Errorf("$%v are left of $%v", got, limits.PerHour)
	}
}

// A ledger that comes back, because the successor failed, has what that one spent.
func TestLedgerComesBack(t *testing.T) {
	limits := Config{PerHour: 2}
	old, next, was, is := handedOver(t, newRecorder(nil), "spill", limits, func(b *Budget) {
		reserve(t, b, time.Now(), "v", 0.1, outcome.None).Settle(time.Now(), 0.1)
	})
	is.Spend(time.Now(), 0.3)
	if err := next.flush(time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	old.Open()
	if was.settled < 0.4 {
		t.Errorf("$%v after $0.4 were spent", was.settled)
	}
	stop := running(old)
	defer stop()
	reserve(t, was, time.Now(), "v", 1, outcome.None)
}
