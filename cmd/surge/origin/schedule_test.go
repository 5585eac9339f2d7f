package origin

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func newSchedule(m Model, slots int, thrash float64) *schedule {
	return &schedule{
		model: m, slots: slots, speed: 1, knee: 1.5, thrash: thrash,
		elapsed: func(float64, float64) {},
	}
}

// ends lets the schedule run out and returns when each job was done.
func ends(s *schedule, jobs ...*job) []float64 {
	s.advance(1e6)
	at := make([]float64, len(jobs))
	for i, j := range jobs {
		at[i] = j.ended
	}
	return at
}

func wantTimes(t *testing.T, got []float64, want ...float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-9 {
			t.Fatalf("done at %v, want %v", got, want)
		}
	}
}

func TestFIFOServesInOrder(t *testing.T) {
	s := newSchedule(FIFO, 2, 0)
	a, b, c := s.add(0, 1), s.add(0, 3), s.add(0.5, 1)
	wantTimes(t, ends(s, a, b, c), 1, 3, 2)
}

func TestSharingSharesTheSlots(t *testing.T) {
	s := newSchedule(Sharing, 1, 0)
	// Alone until 1, then two halves: b is done at 2, a has 2 left and is alone.
	a, b := s.add(0, 3.5), s.add(1, 0.5)
	wantTimes(t, ends(s, a, b), 4, 2)
}

// A slot's next job starts when the last was done, however late anybody looks.
func TestLateLooksDoNotAddUp(t *testing.T) {
	s := newSchedule(FIFO, 1, 0)
	var jobs []*job
	for range 5 {
		jobs = append(jobs, s.add(0, 1))
	}
	s.advance(1.9)
	s.advance(3.7)
	wantTimes(t, ends(s, jobs...), 1, 2, 3, 4, 5)
}

func TestThrashBeyondTheKnee(t *testing.T) {
	s := newSchedule(Sharing, 2, 0.5)
	// Five inside two slots with a knee of three: 2/5 of a slot each, divided by
	// 1+0.5*(5-3)/2.
	var jobs []*job
	for range 5 {
		jobs = append(jobs, s.add(0, 1))
	}
	wantTimes(t, ends(s, jobs...), 3.75, 3.75, 3.75, 3.75, 3.75)
}

func TestChangesApplyToJobsInside(t *testing.T) {
	s := newSchedule(FIFO, 2, 0)
	a, b := s.add(0, 2), s.add(0, 2)
	s.set(1, 1, 1) // both keep a slot's half
	wantTimes(t, ends(s, a, b), 3, 3)

	s = newSchedule(FIFO, 1, 0)
	a, b = s.add(0, 2), s.add(0, 2)
	s.set(1, 2, 0.5)
	wantTimes(t, ends(s, a, b), 3, 5)

	s = newSchedule(FIFO, 1, 0)
	a = s.add(0, 2)
	s.set(1, 1, 0)
	if !math.IsInf(s.next(), 1) {
		t.Fatalf("a hanging origin has a next end, %v", s.next())
	}
	s.set(11, 1, 1)
	wantTimes(t, ends(s, a), 12)
}

func TestRemoveFreesTheSlot(t *testing.T) {
	s := newSchedule(FIFO, 1, 0)
	a, b, c := s.add(0, 5), s.add(0, 5), s.add(0, 1)
	s.remove(1, b)
	s.remove(2, a)
	wantTimes(t, ends(s, c), 3)
	if isClosed(a.done) || isClosed(b.done) {
		t.Fatal("a removed job was done")
	}
}

func TestKillEndsAll(t *testing.T) {
	s := newSchedule(FIFO, 1, 0)
	a, b := s.add(0, 5), s.add(0, 5)
	s.kill(1)
	for _, j := range []*job{a, b} {
		if !j.killed || !isClosed(j.started) || !isClosed(j.done) {
			t.Fatalf("job %d was not killed", j.seq)
		}
	}
	c := s.add(1, 1)
	wantTimes(t, ends(s, c), 2)
}

// Whatever happens, no work is lost and none invented: the slot-seconds worked
// equal the demand of the jobs that were done.
func TestWorkIsConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := rapid.SampledFrom([]Model{FIFO, Sharing}).Draw(t, "model")
		s := newSchedule(model, rapid.IntRange(1, 6).Draw(t, "slots"), 0)
		worked := 0.0
		s.elapsed = func(from, to float64) { worked += float64(s.busy()) * s.speed * (to - from) }
		var jobs []*job
		now, demand := 0.0, 0.0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now += rapid.Float64Range(0, 0.3).Draw(t, "wait")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				s.set(now, rapid.IntRange(1, 6).Draw(t, "slots"), rapid.Float64Range(0.1, 3).Draw(t, "speed"))
			case 1:
				s.advance(now)
			default:
				d := rapid.Float64Range(0.001, 1).Draw(t, "demand")
				demand += d
				jobs = append(jobs, s.add(now, d))
			}
			if model == Sharing && len(s.waiting) > 0 {
				t.Fatalf("%d jobs wait under sharing", len(s.waiting))
			}
			if len(s.waiting) > 0 && len(s.served) < s.slots {
				t.Fatalf("%d wait while %d of %d slots work", len(s.waiting), len(s.served), s.slots)
			}
		}
		s.advance(now + 1e4)
		for _, j := range jobs {
			if !isClosed(j.done) {
				t.Fatalf("job %d was never done", j.seq)
			}
		}
		if math.Abs(worked-demand) > 1e-6 {
			t.Fatalf("worked %v slot-seconds for %v of demand", worked, demand)
		}
		if s.begun != len(jobs) {
			t.Fatalf("%d jobs begun of %d", s.begun, len(jobs))
		}
	})
}
