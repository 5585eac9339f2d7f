package contest

import (
	"math"
	"slices"
	"testing"
	"time"

	"spillway/cmd/surge/crowd"
)

// scenarioNamed returns one of the table, a good deal shorter.
func scenarioNamed(t *testing.T, name string) *Scenario {
	t.Helper()
	for _, s := range Scenarios() {
		if s.Name == name {
			s.shorten(.1)
			return &s
		}
	}
	t.Fatalf("there is no scenario %s", name)
	return nil
}

func planOf(t *testing.T, s *Scenario, seed uint64) *plan {
	t.Helper()
	p, err := newPlan(s, seed)
	if err != nil {
		t.Fatal(err)
	}
	s.Right = p.ideal.bare
	return p
}

func TestScenariosAreWhole(t *testing.T) {
	names := map[string]bool{}
	total := time.Duration(0)
	for _, s := range Scenarios() {
		if names[s.Name] {
			t.Errorf("two scenarios are called %s", s.Name)
		}
		names[s.Name] = true
		length := crowd.Length(s.phases())
		if want := 45 * time.Second; s.Foreign == "" && s.Name != "large" && length != want {
			t.Errorf("%s lasts %v, want %v", s.Name, length, want)
		}
		for _, e := range s.Events {
			if e.At <= 0 || e.At >= length {
				t.Errorf("%s: %s at %v of %v", s.Name, e.Text, e.At, length)
			}
		}
		for _, name := range s.Contenders {
			if _, err := contender(name); err != nil {
				t.Errorf("%s: %v", s.Name, err)
			}
		}
		before, after := 0.0, 0.0
		for _, c := range s.Classes {
			before, after = before+c.Share, after+c.Other
		}
		if math.Abs(before-1) > 1e-9 || math.Abs(after-1) > 1e-9 {
			t.Errorf("%s: the shares of its classes add up to %g and %g", s.Name, before, after)
		}
		total += length * time.Duration(s.Seeds*len(s.Contenders))
	}
	// An hour, less what a run takes to start, to settle and to be replayed.
	if total > 52*time.Minute {
		t.Errorf("all scenarios last %v", total)
	}
}

func TestPlanBelongsToItsSeed(t *testing.T) {
	for _, s := range Scenarios() {
		if s.Name == "large" {
			s.stretch(2000)
		}
		s.shorten(.05)
		a, again, other := planOf(t, &s, 1), planOf(t, &s, 1), planOf(t, &s, 2)
		if a.digest() != again.digest() || a.digest() == other.digest() {
			t.Errorf("%s: digests %s, %s again, %s of another seed", s.Name, a.digest(), again.digest(), other.digest())
		}
		if len(a.requests) == 0 || len(a.ideal.fates) != len(a.requests) {
			t.Errorf("%s: %d requests, %d fates", s.Name, len(a.requests), len(a.ideal.fates))
		}
		if !slices.IsSortedFunc(a.requests, func(x, y planned) int { return int(x.At - y.At) }) {
			t.Errorf("%s: the requests are out of order", s.Name)
		}
	}
}

func TestDigestKnowsWhatTheRunDependsOn(t *testing.T) {
	base := planOf(t, scenarioNamed(t, "slots"), 1).digest()
	f := func(what string, change func(*Scenario)) {
		t.Helper()
		s := scenarioNamed(t, "slots")
		change(s)
		if planOf(t, s, 1).digest() == base {
			t.Errorf("another %s leaves the digest as it is", what)
		}
	}
	f("origin", func(s *Scenario) { s.Origin.Thrash = .1 })
	f("event", func(s *Scenario) { s.Events[0].At++ })
	f("network", func(s *Scenario) { s.Network = &Network{RTT: time.Millisecond} })
	f("number of retries", func(s *Scenario) { s.Retries = 1 })
}

func TestMixShifts(t *testing.T) {
	s := scenarioNamed(t, "mix")
	p := planOf(t, s, 1)
	var heavy, all [2]float64
	for _, r := range p.requests {
		shifted := 0
		if s.Shift[0] <= r.At && r.At < s.Shift[1] {
			shifted = 1
		}
		all[shifted]++
		heavy[shifted] += float64(r.class)
	}
	if was, is := heavy[0]/all[0], heavy[1]/all[1]; was < .1 || was > .3 || is < .92 || is > .98 {
		t.Errorf("%.2f of the requests are heavy, %.2f in the crowd; want .20 and .95", was, is)
	}
}

func TestUploadsAreAlone(t *testing.T) {
	p := planOf(t, scenarioNamed(t, "upload"), 1)
	uploads := 0
	for _, r := range p.requests {
		if r.Alone != (r.Upload > 0) {
			t.Fatal("a visitor has the slow connection and uploads nothing, or the other way round")
		}
		if r.Upload > 0 {
			uploads++
		}
	}
	if share := float64(uploads) / float64(len(p.requests)); share < .02 || share > .09 {
		t.Errorf("%.2f upload, want .05", share)
	}
}

// A stretched scenario has the same numbers in flight at a rate that the machine can
// play.
func TestStretch(t *testing.T) {
	s := scenarioNamed(t, "large")
	if peak := s.peak(); peak != 24_000 {
		t.Fatalf("peak %g", peak)
	}
	s.stretch(2000)
	if s.peak() > 2000.001 || s.peak() < 1900 || s.Stretched != 12 || s.Origin.Slots != 160 {
		t.Errorf("peak %g, stretched %g times, %d slots", s.peak(), s.Stretched, s.Origin.Slots)
	}
	if s.Patience != 50*s.Origin.Service {
		t.Errorf("patience %v with a service time of %v", s.Patience, s.Origin.Service)
	}
	s = scenarioNamed(t, "plain")
	if s.stretch(1e6); s.Stretched != 1 || s.Origin.Service != 20*time.Millisecond {
		t.Errorf("stretched %g times without need", s.Stretched)
	}
}

// A lowered scenario keeps its origin and its lengths.
func TestLower(t *testing.T) {
	s := Scenario{Name: "x", Phases: "0.5x:1s,0.5x..10x:2s,10x:3s,10x..3x:1s"}
	if !s.lower(4.5) || s.Phases != "0.5x:1s,0.5x..4.5x:2s,4.5x:3s,4.5x..3x:1s" {
		t.Errorf("phases %s", s.Phases)
	}
	if s.lower(4.5) {
		t.Error("what is low enough is lowered again")
	}
}

func TestFitSaysWhatItChanged(t *testing.T) {
	f := func(name string, m Machine, changed bool) {
		t.Helper()
		s := scenarioNamed(t, name)
		about := s.About
		s.fit(s, m)
		if (s.About != about) != changed || changed && s.peak() > m.perSecond()+.001 {
			t.Errorf("%s: peak %g of %g: %s", name, s.peak(), m.perSecond(), s.About)
		}
	}
	f("large", Machine{Bench: 200, Edge: 200, Cores: 2}, true)
	f("large", Machine{Bench: 20, Edge: 20, Cores: 64}, false)
	f("wan", Machine{Bench: 500, Edge: 500, Cores: 2}, true)
	f("wan", Machine{Bench: 200, Edge: 200, Cores: 2}, false)
}

func TestChangesFollowEvents(t *testing.T) {
	f := func(name string, want ...[3]float64) {
		t.Helper()
		var got [][3]float64
		s := scenarioNamed(t, name)
		for _, c := range s.changes() {
			got = append(got, [3]float64{c.At.Seconds(), float64(c.Slots), c.Speed})
		}
		if !slices.EqualFunc(got, want, func(a, b [3]float64) bool { return math.Abs(a[0]-b[0]) < 1e-6 && a[1] == b[1] && a[2] == b[2] }) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	f("plain")
	f("throttle")
	f("slots", [3]float64{1.7, 2, 1}, [3]float64{2.3, 4, 1})
	f("speed", [3]float64{1.7, 4, .5}, [3]float64{2.3, 4, 1})
	f("dead", [3]float64{1.4, 0, 1}, [3]float64{1.9, 4, 1})
}
