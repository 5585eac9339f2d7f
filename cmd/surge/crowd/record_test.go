package crowd

import (
	"maps"
	"testing"
	"time"
)

func answer(word string, intended, latency time.Duration) sample {
	return sample{intended: intended, word: word, answered: true, timed: true, latency: latency}
}

func TestRecorder(t *testing.T) {
	r := newRecorder(2, 5*time.Second)
	ms := time.Millisecond
	r.schedule(0, 0, 0, 2)
	r.schedule(1500*ms, 1500*ms, 1, 2)
	r.add(10*ms, answer("hit", 0, 10*ms))
	r.add(20*ms, sample{word: "shed", reason: "queue-full", timed: true, latency: 20 * ms})
	r.add(1600*ms, sample{intended: 1500 * ms, phase: 1, class: ClassReset, timed: true, latency: 100 * ms})
	s := answer("origin", 1500*ms, 1000*ms)
	s.phase, s.reason, s.bytes = 1, "fresh", 7
	r.add(2500*ms, s)

	var res Result
	r.result(&res, []Phase{{Name: "a", Length: time.Second}, {Name: "b", Length: time.Second}})
	if res.Offered != 4 || res.Answered != 2 || res.Errors != 2 || res.Visitors != 2 || res.Bytes != 7 {
		t.Errorf("got %+v", res.Counts)
	}
	checkSums(t, "total", res.Counts)
	for _, p := range res.Phases {
		checkSums(t, p.Name, p.Counts)
	}
	for _, s := range res.PerSecond {
		checkSums(t, "second", s.Counts)
	}
	if len(res.PerSecond) != 2 || res.PerSecond[1].Offered != 2 || res.PerSecond[1].P99 < 990 {
		t.Errorf("seconds %+v", res.PerSecond)
	}
	if res.Phases[0].P99 > 10.1 || res.Phases[1].Start != 1 {
		t.Errorf("phases %+v", res.Phases)
	}
	want := map[string]int64{"shed; queue-full": 1, "origin; fresh": 1}
	if !maps.Equal(res.Reasons, want) {
		t.Errorf("reasons %v, want %v", res.Reasons, want)
	}
	if res.P50 > 10.1 || res.P999 < 990 {
		t.Errorf("an error's latency was counted: %+v", res.Latency)
	}
}

// TestWindow checks that the live view forgets: after a gap nothing of before is
// left, and the last full second is the one before the current.
func TestWindow(t *testing.T) {
	r := newRecorder(1, time.Second)
	at := func(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
	r.schedule(at(.5), at(.5), 0, 1)
	r.add(at(.6), answer("hit", at(.5), at(.1)))
	f := func(now float64, offered, answered int64, p50 float64) {
		t.Helper()
		var s Snapshot
		r.snapshot(&s, at(now))
		if s.Last.Offered != offered || s.Last.Answered != answered || (s.P50 > 0) != (p50 > 0) {
			t.Errorf("at %g s: last second %+v, latency %+v", now, s.Last, s.Latency)
		}
		if s.Offered != 1 || s.Answered != 1 {
			t.Errorf("at %g s: in all %+v", now, s.Counts)
		}
	}
	f(.9, 0, 0, 0) // the second is not over
	f(1.1, 1, 1, 100)
	f(2.1, 0, 0, 100)
	f(5.9, 0, 0, 100)
	f(6.1, 0, 0, 0)
	f(10_000, 0, 0, 0)
}

// TestSecondsClose checks that the histograms of past seconds go, and their numbers
// stay.
func TestSecondsClose(t *testing.T) {
	r := newRecorder(1, 5*time.Second)
	for i := range 100 {
		now := time.Duration(i) * time.Second
		r.schedule(now, now, 0, 1)
		r.add(now, answer("hit", now, 10*time.Millisecond))
	}
	open := 0
	for _, s := range r.seconds {
		if s.hist != nil {
			open++
		}
	}
	if open > 8 {
		t.Errorf("%d seconds are kept open", open)
	}
	var res Result
	r.result(&res, []Phase{{}})
	for _, s := range res.PerSecond {
		if s.P50 < 9.9 || s.P50 > 10.1 {
			t.Fatalf("second %d has a median of %g ms", s.T, s.P50)
		}
	}
}

// checkSums checks that nothing was lost and nothing counted twice.
func checkSums(t *testing.T, what string, c Counts) {
	t.Helper()
	var ends int64
	for _, n := range c.Outcomes {
		ends += n
	}
	for _, n := range c.ClientErrors {
		ends += n
	}
	if c.Offered != c.Answered+c.Errors || c.Offered != ends {
		t.Errorf("%s: offered %d, answered %d, errors %d, outcomes and client errors %d", what, c.Offered, c.Answered, c.Errors, ends)
	}
}

func BenchmarkRecorderAdd(b *testing.B) {
	r := newRecorder(1, 5*time.Second)
	r.schedule(0, 0, 0, 1)
	s := answer("function", 0, 12345678)
	s.reason = "origin-saturated"
	for b.Loop() {
		r.add(time.Second, s)
	}
}
