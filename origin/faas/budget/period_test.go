package budget

import (
	"math"
	"testing"
	"time"

	"spillway/edge/outcome"
)

// A clock that jumps and is set right finds what was spent before it jumped.
func TestClockThatComesBack(t *testing.T) {
	f := func(jumps ...time.Duration) {
		t.Helper()
		b := New("spill", Config{PerHour: 2})
		charge := reserve(t, b, noon, "v", 1.5, outcome.None)
		charge.Settle(noon, 1.5)
		for _, d := range jumps {
			charge, why := b.Reserve(noon.Add(d), "v", 0.25)
			if why == outcome.None {
				charge.Settle(noon.Add(d), 0.25)
			}
		}
		if s := b.State(noon).Periods[hour]; s.Spent < 1.5 {
			t.Errorf("%v: %+v", jumps, s)
		}
	}
	f(2 * time.Hour)
	f(-2 * time.Hour)
	f(-30*365*24*time.Hour, 0)
	f(30 * 365 * 24 * time.Hour)
	f(2*time.Hour, -2*time.Hour, 2*time.Hour)
	f(time.Hour)
}

// What is to come is not charged with what was spent before it, because a clock was
// there once by error.
func TestClockThatWasWrongBlocksNothing(t *testing.T) {
	b := New("spill", Config{PerHour: 2})
	b.Left(noon)
	b.Left(noon.Add(3 * time.Hour)) // an error
	for h := range 4 {
		now := noon.Add(time.Duration(h) * time.Hour)
		charge := reserve(t, b, now, "v", 2, outcome.None)
		charge.Settle(now, 2)
	}
}

func TestMonthsEnd(t *testing.T) {
	f := func(spent, later time.Time, left float64) {
		t.Helper()
		b := New("spill", Config{PerMonth: 10})
		charge := reserve(t, b, spent, "v", 4, outcome.None)
		charge.Settle(spent, 4)
		if got := b.Left(later); math.Abs(got-left) > 1e-9 {
			t.Errorf("%v after %v: %v left, want %v", later, spent, got, left)
		}
	}
	at := func(month time.Month, day, hour int) time.Time {
		return time.Date(2028, month, day, hour, 59, 59, 0, time.UTC)
	}
	f(at(1, 31, 23), at(1, 31, 23), 6)
	f(at(1, 31, 23), at(2, 1, 0), 10)
	f(at(2, 1, 0), at(2, 29, 23), 6)
	f(at(2, 29, 23), at(3, 1, 0), 10)
	f(at(12, 31, 23), time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC), 10)
	// Summer time changes nothing: 2028-03-26 01:00 UTC in Berlin.
	berlin := time.FixedZone("CEST", 2*3600)
	f(at(3, 31, 22), time.Date(2028, 4, 1, 0, 30, 0, 0, berlin), 6)
}

// A suspended machine wakes in another hour: that has its own amount, and the day
// what is left of it.
func TestResume(t *testing.T) {
	b := New("spill", Config{PerHour: 2, PerDay: 3})
	for _, now := range []time.Time{noon, noon.Add(5 * time.Hour)} {
		charge := reserve(t, b, now, "v", 1.5, outcome.None)
		charge.Settle(now, 1.5)
	}
	reserve(t, b, noon.Add(8*time.Hour), "v", 0.1, outcome.BudgetSpent)
}
