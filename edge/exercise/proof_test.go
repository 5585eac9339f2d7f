package exercise

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

var begin = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func TestProof(t *testing.T) {
	var p Proof
	now := begin
	f := func(what string, verdict Verdict, words string) {
		t.Helper()
		if s := p.State(now); s.Verdict != verdict || s.Words(now) != words {
			t.Errorf("%s: %s, %q", what, s.Verdict, s.Words(now))
		}
	}
	equal := func() News { return p.Note(Result{At: now}) }
	differs := func() News {
		return p.Note(Result{Difference: Difference{Status, "200 and 404"}, At: now, Method: "GET", Path: "/a"})
	}
	news := func(what string, got, want News) {
		t.Helper()
		if got != want {
			t.Errorf("%s: news %q, want %q", what, got, want)
		}
	}
	f("at first", Never, "UNPROVEN: never compared")
	p.Skip("budget-spent")
	p.Skip("too-large")
	p.Skip("too-large")
	f("when it could not be", Never, "UNPROVEN: never compared, 2 times because of too-large")
	news("nothing yet", p.Check(now), NoNews)
	news("the first", equal(), Mended)
	for range 411 {
		news("the next", equal(), NoNews)
	}
	now = now.Add(3 * time.Minute)
	f("when all are equal", Proved, "proved 3 min ago, 412 of 412 equal")
	news("the first that differs", differs(), Broke)
	now = now.Add(time.Minute)
	news("the second soon after", differs(), NoNews)
	now = now.Add(toldEvery)
	news("the third much later", differs(), Broke)
	now = now.Add(5 * time.Second)
	f("when some differ", Differs, `UNPROVEN: 3 of the last 10 differ, 5 s ago: status 200 and 404 (GET "/a")`)
	for range recentMost - 1 {
		news("not all of the last", equal(), NoNews)
	}
	news("all of the last", equal(), Mended)
	f("when it is mended", Proved, "proved 0 s ago, 422 of 425 equal")
	now = now.Add(staleAfter + time.Hour)
	news("a day later", p.Check(now), WentCold)
	news("and later", p.Check(now.Add(time.Hour)), NoNews)
	f("when it is old", Stale, "UNPROVEN: proved 25 h ago, which is too long")
	news("proved again", equal(), Mended)
	p.Note(Result{Difference: Difference{Failed, "timeout"}, At: now, Method: "GET", Path: "/\x1b[2J"})
	f("what a terminal would take for a command", Differs, `UNPROVEN: 1 of the last 10 differ, 0 s ago: no answer, timeout (GET "/\x1b[2J")`)
	if s := p.State(now); s.Differences[Status] != 3 || s.Differences[Failed] != 1 || s.Compared != 427 {
		t.Errorf("%+v", s)
	}
}

// TestPaceKeepsItsBounds lets any number of requests arrive: a quiet route compares
// now and then, a busy one no more often than each gap, one in between by its share.
func TestPaceKeepsItsBounds(t *testing.T) {
	count := func(share float64, gap, length time.Duration, finish bool) (n int) {
		synctest.Test(t, func(*testing.T) {
			p, end := NewPace(share), time.Now().Add(length)
			for time.Now().Before(end) {
				if p.Due(time.Now()) {
					n++
					if finish {
						p.Done(time.Now())
					}
				}
				time.Sleep(gap)
			}
		})
		return n
	}
	f := func(what string, got, want int) {
		t.Helper()
		if math.Abs(float64(got-want)) > 1 {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	f("a request a minute", count(0.001, time.Minute, time.Hour, true), 12)
	f("a request an hour", count(0.001, time.Hour, 24*time.Hour, true), 24)
	f("20 a second", count(0.001, 50*time.Millisecond, time.Hour, true), 72)
	f("500 a second", count(0.001, 2*time.Millisecond, 10*time.Minute, true), 60)
	f("all of a few", count(1, time.Minute, time.Hour, true), 60)
	f("none that came to an end", count(0.001, time.Second, 10*time.Minute, false), 60)
	var off *Pace
	if NewPace(0) != nil || off.Due(begin) {
		t.Error("no share is compared all the same")
	}
}

func TestPaceNeverHurries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := NewPace(rapid.Float64Range(1e-6, 1).Draw(t, "share"))
		now, last := begin, time.Time{}
		for _, gap := range rapid.SliceOf(rapid.Int64Range(0, int64(time.Minute))).Draw(t, "gaps") {
			now = now.Add(time.Duration(gap))
			if !p.Due(now) {
				continue
			}
			if !last.IsZero() && now.Sub(last) < leastGap {
				t.Fatalf("%v after the last", now.Sub(last))
			}
			last = now
			p.Done(now)
		}
	})
}
