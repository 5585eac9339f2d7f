package scale

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNeedIsToldWhenItLasts plays ratios second by second.
func TestNeedIsToldWhenItLasts(t *testing.T) {
	type span struct {
		length    time.Duration
		now, held float64
	}
	c := Config{AtLeast: time.Minute, Every: 5 * time.Minute}
	f := func(what string, spans []span, stage stage, want ...time.Duration) {
		t.Helper()
		var n need
		var got []time.Duration
		start := time.Unix(0, 0)
		at := start
		for _, s := range spans {
			for end := at.Add(s.length); at.Before(end); at = at.Add(time.Second) {
				if n.step(at, s.now, s.held, &c) {
					got = append(got, at.Sub(start))
					n.rest(s.now, s.held)
				}
			}
		}
		same := len(got) == len(want) && n.stage == stage
		for i := 0; same && i < len(want); i++ {
			same = got[i] == want[i]
		}
		if !same {
			t.Errorf("%s: told at %v, stage %d; want %v, stage %d", what, got, n.stage, want, stage)
		}
	}
	m, s := time.Minute, time.Second
	f("enough", []span{{time.Hour, 1.1, 1.1}}, calm)
	f("a crowd of seconds", []span{{m, 0.5, 0.5}, {59 * s, 5, 5}, {time.Hour, 0.5, 3}}, calm)
	f("a need", []span{{m, 0.5, 0.5}, {10 * m, 3, 3}}, needed, 2*m, 7*m)
	f("one that is nearly met does not begin anew", []span{{30 * s, 3, 3}, {30 * s, 1.05, 3}, {30 * s, 3, 3}}, needed, m)
	f("one that is interrupted does", []span{{30 * s, 3, 3}, {s, 0.9, 3}, {59 * s, 3, 3}}, calm)
	f("over", []span{{2 * m, 3, 3}, {10 * m, 0.5, 0.5}}, calm, m, 6*m)
	f("over, and falling", []span{{2 * m, 3, 3}, {8 * m, 0.5, 0.9}, {9 * m, 0.5, 0.5}}, calm, m, 6*m, 11*m)
	f("over in name, while what is wanted is remembered", []span{{2 * m, 3, 3}, {5 * m, 0.5, 1.5}}, needed, m, 6*m)
	f("nothing asked any more", []span{{2 * m, 3, 3}, {10 * m, 0, 0}}, calm, m, 6*m)
	f("a new need right after", []span{{2 * m, 3, 3}, {5 * m, 0.5, 0.5}, {10 * m, 3, 3}}, needed, m, 6*m, 11*m, 16*m)
	f("a need while the last one eases", []span{{2 * m, 3, 3}, {5 * m, 0.5, 0.9}, {5 * m, 3, 3}}, needed, m, 6*m, 11*m)
}

// TestUnsureForgetsWhatNobodyWasToldOf: an origin that went down begins anew.
func TestUnsureForgetsWhatNobodyWasToldOf(t *testing.T) {
	c := Config{AtLeast: time.Minute, Every: time.Minute}
	var n need
	at := time.Unix(0, 0)
	n.step(at, 3, 3, &c)
	n.unsure()
	if n.step(at.Add(time.Minute), 3, 3, &c) || n.stage != calm {
		t.Error("told of a need that was not there all the time")
	}
	if !n.step(at.Add(2*time.Minute), 3, 3, &c) {
		t.Error("not told of one that was")
	}
}

// TestNeedIsNeverToldTooOften, whatever the ratios do.
func TestNeedIsNeverToldTooOften(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			AtLeast: time.Duration(rapid.IntRange(0, 60).Draw(t, "at_least")) * time.Second,
			Every:   time.Duration(rapid.IntRange(1, 60).Draw(t, "every")) * time.Second,
		}
		ratio := rapid.Float64Range(0, 3)
		var n need
		var told, high time.Time
		at := time.Unix(0, 0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(1, 20000).Draw(t, "step")) * time.Millisecond)
			now := ratio.Draw(t, "now")
			held := max(now, ratio.Draw(t, "held"))
			switch {
			case now < needEnds:
				high = time.Time{}
			case now > needBegins && high.IsZero():
				high = at
			}
			if !n.step(at, now, held, &c) {
				continue
			}
			if !told.IsZero() && at.Sub(told) < c.Every {
				t.Fatalf("told again after %v", at.Sub(told))
			}
			if n.stage == needed && told.IsZero() && (high.IsZero() || at.Sub(high) < c.AtLeast) {
				t.Fatalf("told of a need of %v", at.Sub(high))
			}
			told = at
			n.rest(now, held)
		}
	})
}
