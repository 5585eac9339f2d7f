package budget

import (
	"slices"
	"testing"
	"time"
)

func TestWarningsAreGivenOncePerPeriod(t *testing.T) {
	b := New("spill", Config{PerHour: 1, PerDay: 2})
	spend := func(now time.Time, amount float64, want ...int) {
		t.Helper()
		b.Spend(now, amount)
		var got []int
		for _, p := range b.passed(now) {
			got = append(got, p.Warned)
		}
		if !slices.Equal(got, want) {
			t.Errorf("warned of %v, want %v", got, want)
		}
		if again := b.passed(now); len(again) > 0 {
			t.Errorf("warned again of %v", again)
		}
	}
	spend(noon, 0.74)
	spend(noon, 0.02, 75)
	spend(noon, 0.1)
	spend(noon, 0.1, 90)
	next := noon.Add(time.Hour)
	spend(next, 0.92, 90, 90) // the hour's, and the day's 1.88 of 2
}

func TestForecast(t *testing.T) {
	b := New("spill", Config{PerHour: 100, PerDay: 200})
	now := noon
	for range 600 {
		b.Spend(now, 0.1)
		now = now.Add(time.Second)
	}
	s := b.State(now)
	if s.Rate < 0.9*360 || s.Rate > 1.1*360 {
		t.Errorf("rate %v, want about 360", s.Rate)
	}
	if in := s.EmptyAt.Sub(now); in < 350*time.Second || in > 450*time.Second {
		t.Errorf("empty in %v, want about 400 s", in)
	}
	if s := b.State(now.Add(10 * time.Minute)); !s.EmptyAt.IsZero() {
		t.Errorf("empty at %v though nothing is spent any more", s.EmptyAt)
	}
}
