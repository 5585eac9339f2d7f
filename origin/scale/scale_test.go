package scale

import (
	"log/slog"
	"math"
	"testing"
	"time"
)

// A play feeds a signal, a tenth of a second at a time.
type play struct {
	*Signal
	at       time.Time
	standing Standing
	work     float64 // asked at once
	waiting  float64
	hidden   float64 // what it really is over what the latencies say
}

// newPlay begins with two servers that make progress on eight requests together.
func newPlay(t *testing.T) *play {
	s := New("app", slog.New(slog.DiscardHandler))
	apply, err := s.Prepare(Config{Target: 0.8, AtLeast: time.Minute, Every: 5 * time.Minute}, 2)
	if err != nil {
		t.Fatal(err)
	}
	apply()
	return &play{Signal: s, at: time.Unix(0, 0), standing: Standing{Up: true, Servers: 2, Ready: 2, Useful: 8}, hidden: 1}
}

// goOn plays that long. The origin does what it can, and nothing when it is down.
func (p *play) goOn(length time.Duration) State {
	const bin = 100 * time.Millisecond
	for range length / bin {
		p.at = p.at.Add(bin)
		busy := min(p.work*p.hidden, p.standing.Useful)
		if !p.standing.Up {
			busy = 0
		} else if p.standing.Useful > 0 { // else as many as it was given
			p.standing.InFlight = int(math.Round(busy))
		}
		p.Observe(p.at, Asked{
			Work: p.work * bin.Seconds(), Taken: busy / p.hidden * bin.Seconds(), Waiting: p.waiting, CostUSD: 0.001,
		}, p.standing)
	}
	return p.State()
}

func near(got, want, by float64) bool { return math.Abs(got-want) <= by*want }

// TestSignalFollowsACrowd: it says what is wanted within a minute, and forgets it
// in minutes, not in hours.
func TestSignalFollowsACrowd(t *testing.T) {
	p := newPlay(t)
	f := func(what string, work float64, length time.Duration, ratio float64, wanted int, needed bool) {
		t.Helper()
		p.work = work
		s := p.goOn(length)
		if !s.Known || !near(s.Ratio, ratio, 0.05) || s.Wanted != wanted || s.Needed != needed {
			t.Errorf("%s: %+v, want %v, %d servers, needed %v", what, s, ratio, wanted, needed)
		}
	}
	f("half", 4, time.Minute, 0.625, 2, false)
	f("three times", 24, 45*time.Second, 3.75, 8, false)
	f("and still", 24, 30*time.Second, 3.75, 8, true)
	f("ten times", 80, 45*time.Second, 12.5, 25, true)
	f("half, remembered for a while", 4, 2*time.Minute, 0.625+11.875*math.Exp(-(2*time.Minute-rise).Seconds()/fall.Seconds()), 11, true)
	f("and forgotten", 4, 12*time.Minute, 0.625, 2, false)
	f("a crowd of seconds", 80, 5*time.Second, 4.0, 8, false)
	p.work = 4
	if s := p.goOn(5 * time.Minute); s.Ratio > 1 || s.Needed {
		t.Errorf("after five minutes: %+v", s)
	}
	f("is nobody's need", 4, time.Hour, 0.625, 2, false)
	if s := p.State(); !near(s.SpendPerHour, 36, 1e-6) || s.Spilled != 0 || !s.Since.IsZero() {
		t.Errorf("%+v", s)
	}
	p.work = 80
	if s := p.goOn(2 * time.Minute); !near(s.Spilled, 0.9, 0.01) {
		t.Errorf("%+v", s)
	}
}

// TestSignalWithoutKnowledge leaves things as they are.
func TestSignalWithoutKnowledge(t *testing.T) {
	f := func(what string, change func(p *play)) {
		t.Helper()
		p := newPlay(t)
		p.work = 80
		change(p)
		if s := p.State(); s.Known || s.Ratio != 1 || s.Wanted != 2 || s.Servers != 2 || s.Needed {
			t.Errorf("%s: %+v", what, s)
		}
	}
	f("before anything", func(*play) {})
	f("the first seconds", func(p *play) { p.goOn(rise - time.Second) })
	f("nothing learned", func(p *play) {
		p.standing.Useful = 0
		p.goOn(time.Hour)
	})
	f("the origin is down from the start", func(p *play) {
		p.standing.Up, p.standing.Ready = false, 0
		p.goOn(time.Hour)
	})
	f("the origin goes down before it counts", func(p *play) {
		p.goOn(50 * time.Second)
		p.standing.Up, p.standing.Ready = false, 0
		p.goOn(time.Hour)
	})
}

// TestSignalWhenTheOriginComesBack: it knows what it knew, and a need has to last
// anew.
func TestSignalWhenTheOriginComesBack(t *testing.T) {
	p := newPlay(t)
	p.work = 24
	p.goOn(50 * time.Second)
	p.standing.Up, p.standing.Ready = false, 0
	p.goOn(time.Minute)
	p.standing.Up, p.standing.Ready = true, 2
	if s := p.goOn(50 * time.Second); !s.Known || !near(s.Ratio, 3.75, 0.01) || s.Needed {
		t.Errorf("%+v", s)
	}
	if s := p.goOn(20 * time.Second); !s.Needed || !s.Since.Equal(time.Unix(110, int64(100*time.Millisecond))) {
		t.Errorf("%+v", s)
	}
}

// TestSignalWhenTheLimiterBegins: what an origin has in flight before anything is
// known about it, and what came in the first moment, say nothing.
func TestSignalWhenTheLimiterBegins(t *testing.T) {
	p := newPlay(t)
	p.standing.Useful, p.standing.InFlight = 0, 32
	p.work = 24
	p.goOn(time.Minute)
	p.standing.Useful = 8
	if s := p.goOn(20 * time.Second); !near(s.Ratio, 3.75, 0.05) {
		t.Errorf("%+v", s)
	}
	p = newPlay(t)
	p.work = 80
	p.goOn(time.Second)
	p.work = 4
	if s := p.goOn(time.Minute); !s.Known || s.Ratio > 1 {
		t.Errorf("%+v", s)
	}
}

// TestSignalWhenServersComeAndGo: the number that is wanted stays, while the limiter
// has yet to find out what there is now.
func TestSignalWhenServersComeAndGo(t *testing.T) {
	p := newPlay(t)
	p.work = 24
	f := func(what string, length time.Duration, ratio float64) {
		t.Helper()
		if s := p.goOn(length); s.Wanted != 8 || !near(s.Ratio, ratio, 0.02) {
			t.Errorf("%s: %+v, want %v", what, s, ratio)
		}
	}
	f("two", 2*time.Minute, 3.75)
	p.standing.Servers, p.standing.Ready = 8, 8
	f("eight have come, and nobody knows it yet", 20*time.Second, 7.5/8)
	p.standing.Useful = 32
	f("now it is known", time.Minute, 7.5/8)
	p.standing.Ready = 4
	f("half are down", 20*time.Second, 7.5/8)
	p.standing.Useful = 16
	f("and that is known", time.Minute, 7.5/8)
	p.standing.Useful = 0
	f("the limiter begins anew", time.Minute, 7.5/8)
}

// TestSignalWhenAnOriginSlowsDown: what one server can do is followed.
func TestSignalWhenAnOriginSlowsDown(t *testing.T) {
	p := newPlay(t)
	p.work = 24
	p.goOn(time.Minute)
	p.standing.Useful = 4
	if s := p.goOn(2 * time.Minute); !near(s.Ratio, 7.5, 0.05) {
		t.Errorf("%+v", s)
	}
}

// TestSignalCountsThoseWhoWait: they shall be served within a minute, beside all who
// come.
func TestSignalCountsThoseWhoWait(t *testing.T) {
	p := newPlay(t)
	p.work, p.waiting = 6, 6*60 // as much again, over a minute
	if s := p.goOn(time.Minute); !near(s.Ratio, 1.875, 0.01) {
		t.Errorf("%+v", s)
	}
}

// TestSignalMeasuresTheWork: however far the learned latencies are from what the
// requests really take, what is wanted is right, with room at the origin and without.
func TestSignalMeasuresTheWork(t *testing.T) {
	f := func(hidden, work, ratio float64) {
		t.Helper()
		p := newPlay(t)
		p.hidden, p.work = hidden, work/hidden
		if s := p.goOn(3 * time.Minute); !s.Known || !near(s.Ratio, ratio, 0.01) {
			t.Errorf("%v times: %+v, want %v", hidden, s, ratio)
		}
	}
	f(1, 4, 0.625)
	f(1.8, 4, 0.625)
	f(1.8, 24, 3.75)
	f(0.7, 24, 3.75)
	f(40, 24, 0.375) // not believed: the origin hangs
}

// TestSignalFactor: of what is not known for long, or cannot be, nobody reckons with
// more or less than the latencies say.
func TestSignalFactor(t *testing.T) {
	f := func(hidden float64, length time.Duration, want float64) {
		t.Helper()
		p := newPlay(t)
		p.hidden, p.work = hidden, 8/hidden
		if p.goOn(length); !near(p.Factor(), want, 0.01) {
			t.Errorf("%v times for %v: %v, want %v", hidden, length, p.Factor(), want)
		}
	}
	f(1.8, rise-time.Second, 1)
	f(1.8, time.Minute, 1.8)
	f(0.7, time.Minute, 1)
	f(40, time.Minute, mostFactor)
}

// TestSignalForgivesTheLimiter: when the limiter finds less room for a while, and
// the origin is given less, that is no need.
func TestSignalForgivesTheLimiter(t *testing.T) {
	p := newPlay(t)
	p.work = 24
	p.goOn(2 * time.Minute)
	p.standing.Useful, p.hidden = 4, 0.5 // four at once get as much done as eight
	for range 60 {
		if s := p.goOn(time.Second); !near(s.Ratio, 3.75, 0.1) {
			t.Fatalf("%+v", s)
		}
	}
}

// TestSignalForgetsNonsense: what cannot be does not stay in the averages.
func TestSignalForgetsNonsense(t *testing.T) {
	p := newPlay(t)
	p.work = 6
	p.goOn(time.Minute)
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1} {
		p.at = p.at.Add(time.Millisecond)
		p.Observe(p.at, Asked{Work: v, Taken: v, Waiting: v, CostUSD: v}, p.standing)
		p.Observe(p.at, Asked{}, p.standing)                 // no time has passed
		p.Observe(p.at.Add(-time.Hour), Asked{}, Standing{}) // it went backwards
	}
	s := p.goOn(2 * time.Hour)
	if !s.Known || !near(s.Ratio, 0.9375, 0.01) || !near(s.SpendPerHour, 36, 0.01) {
		t.Errorf("%+v", s)
	}
}
