package contest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/contest/rival"
	"spillway/cmd/surge/program"
	"spillway/edge/leaktest"
)

// TestMain lets the test binary be a contender: the small edge.
func TestMain(m *testing.M) {
	if os.Getenv("SURGE_CONTEST_EDGE") != "" {
		if err := rival.Command().Execute(); err != nil {
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}

// smallEdge is the small edge over a protocol.
func smallEdge(protocol string) Contender {
	return Contender{Name: "edge", Protocol: protocol, start: func(s *stage) (*edgeProcess, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		e := new(edgeProcess)
		e.Process, err = program.Start(program.Spec{
			Name: "edge", Path: self, Log: s.path("edge.log"), Env: []string{"SURGE_CONTEST_EDGE=1"},
			Args: []string{
				"--rule", rival.Failsafe, "--origin", s.originURL, "--functions", s.functionsURL,
				"--cert", s.path("cert.pem"), "--key", s.path("key.pem"),
			},
		})
		if err != nil {
			return nil, err
		}
		return e, e.says(s)
	}}
}

// One run of everything: a crowd over a network with slow visitors, an event at the
// origin and one at the platform, and every request found again.
func TestPlay(t *testing.T) {
	for _, protocol := range []string{load.H2, load.H3} {
		t.Run(protocol, func(t *testing.T) {
			s := scenarioNamed(t, "plain")
			s.Phases = "0.2x:300ms,1x:500ms"
			s.Network = &Network{RTT: 4 * time.Millisecond, SlowShare: .1, SlowRate: 64_000}
			s.Events = []Event{
				{At: 100 * time.Millisecond, Text: "slots", Slots: 3},
				{At: 200 * time.Millisecond, Text: "throttle", Throttle: new(true)},
				{At: 300 * time.Millisecond, Text: "throttle ends", Throttle: new(false)},
			}
			p := planOf(t, s, 1)
			e, st, err := play(t.Context(), p, 1, smallEdge(protocol))
			if err != nil {
				t.Fatal(err)
			}
			origins, spills := 0, 0
			for i, sample := range e.samples {
				switch {
				case sample.OK() && sample.Place == "origin":
					origins++
				case sample.OK() && sample.Place == "function", sample.Status == 429:
					spills++
				case sample.OK():
					t.Errorf("request %d was answered by %q", i, sample.Place)
				}
			}
			if len(e.samples) != len(p.requests) || origins == 0 {
				t.Errorf("%d samples of %d requests, %d from the origin", len(e.samples), len(p.requests), origins)
			}
			if len(st.spills) < spills || len(e.visits) < origins {
				t.Errorf("%d spills seen of %d, %d visits of %d", len(st.spills), spills, len(e.visits), origins)
			}
			for _, v := range e.visits {
				if v.Demand <= 0 || math.Abs(float64(v.Demand-p.requests[v.Number].demand)) > 2 {
					t.Fatalf("request %d took %v of a slot, planned were %v", v.Number, v.Demand, p.requests[v.Number].demand)
				}
			}
			if st.origin.Stats().Slots != 3 {
				t.Error("the event did not reach the origin")
			}
			if _, err := os.Stat(st.dir); !errors.Is(err, os.ErrNotExist) {
				t.Error("the folder of the run is left")
			}
			if r := e.result(st, smallEdge(protocol), 1, p.digest()); len(r.Series) == 0 || len(r.Phases) != 2 {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// A contender that was started is ended, though it never said where it listens.
func TestSilentContenderIsEnded(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	silent := Contender{Name: "silent", start: func(s *stage) (_ *edgeProcess, err error) {
		e := new(edgeProcess)
		e.Process, err = program.Start(program.Spec{Name: "silent", Path: "/bin/sleep", Args: []string{"300"}, Log: s.path("silent.log")})
		if err != nil {
			return nil, err
		}
		interrupt()
		return e, e.says(s)
	}}
	s, err := raise(ctx, t.TempDir(), planOf(t, scenarioNamed(t, "small"), 1), 1, silent)
	s.lower()
	if err == nil {
		t.Error("a contender plays whose address nobody knows")
	}
	if _, err := program.CPU(s.edge.Pid()); err == nil {
		t.Error("it still runs")
	}
}

// finished fills a store with results of a scenario, as its runs would.
func finished(t *testing.T, dir, name string, spoil func(*Result)) {
	t.Helper()
	for _, s := range Scenarios() {
		if s.Name != name {
			continue
		}
		s.shorten(shortFactor)
		p := planOf(t, &s, 1)
		for _, who := range s.Contenders {
			e := perfect(p)
			r := Result{Scenario: name, Contender: who, Seed: 1, Plan: p.digest(), Protocol: load.H2, Build: "one"}
			r.Measures, r.Phases = e.measure()
			r.Series, r.Answers = e.series(), e.answersByKind()
			if spoil != nil {
				spoil(&r)
			}
			if err := (store{filepath.Join(dir, "short")}).save(r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What is finished is not played again. The test has no programs beside it, so what
// is played fails, and is left out with a note.
func TestResumes(t *testing.T) {
	f := func(what string, spoil func(*Result), o Options, played int) {
		t.Helper()
		dir := t.TempDir()
		finished(t, dir, "small", spoil)
		o.Dir, o.Short, o.Scenarios = dir, true, []string{"small"}
		c, err := run(t.Context(), o, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.results) != 2-played || len(c.notes) != played {
			t.Errorf("%s: %d results found, notes %q; want %d", what, len(c.results), c.notes, played)
		}
	}
	// Spillway is missing in a test; HAProxy may be there, so it is left out of these.
	only := Options{Contenders: []string{"spillway"}}
	f("all finished", nil, Options{}, 0)
	one := func(what string, spoil func(*Result), o Options) {
		t.Helper()
		dir := t.TempDir()
		finished(t, dir, "small", spoil)
		o.Dir, o.Short, o.Scenarios = dir, true, []string{"small"}
		c, err := run(t.Context(), o, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.results) != 0 || len(c.notes) != 1 || !strings.Contains(c.notes[0], "run make build") {
			t.Errorf("%s: %d results found, notes %q; want it to be played", what, len(c.results), c.notes)
		}
	}
	one("an invalid run", func(r *Result) { r.Invalid = "late" }, only)
	one("a run of another plan", func(r *Result) { r.Plan = "other" }, only)
	again := only
	again.Again = true
	one("asked to play again", nil, again)
}

// What is only shown is not played, and what does not count is shown.
func TestShowPlaysNothing(t *testing.T) {
	dir := t.TempDir()
	finished(t, dir, "small", func(r *Result) { r.Invalid = "late" })
	c, err := run(t.Context(), Options{Dir: dir, Short: true, Show: true}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.results) != 2 || len(c.notes) != 0 {
		t.Errorf("%d results, notes %q", len(c.results), c.notes)
	}
}

func TestBrokenResultIsPlayedAgain(t *testing.T) {
	s := store{t.TempDir()}
	if err := s.save(Result{Scenario: "plain", Contender: "none", Seed: 1, Plan: "p"}); err != nil {
		t.Fatal(err)
	}
	if r, err := s.load("plain", "none", 1, "p"); err != nil || r == nil {
		t.Fatalf("%v, %v", r, err)
	}
	if err := os.Truncate(s.file("plain", "none", 1), 20); err != nil {
		t.Fatal(err)
	}
	if r, err := s.load("plain", "none", 1, "p"); err != nil || r != nil {
		t.Errorf("half a file: %v, %v", r, err)
	}
}

func TestInterruptedContestSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	_, err := run(ctx, Options{Dir: t.TempDir(), Short: true, Scenarios: []string{"small"}, Contenders: []string{"spillway"}}, io.Discard)
	if !errors.Is(err, why) {
		t.Errorf("error %v", err)
	}
}

func TestUnknownNames(t *testing.T) {
	for _, o := range []Options{{Scenarios: []string{"flood"}}, {Contenders: []string{"squid"}}} {
		o.Dir = t.TempDir()
		if _, err := run(t.Context(), o, io.Discard); err == nil {
			t.Errorf("%+v is played", o)
		}
	}
}

// The report of a whole contest is written in all forms.
func TestShow(t *testing.T) {
	dir := t.TempDir()
	names := []string{"small", "slots", "php"}
	for _, name := range names {
		finished(t, dir, name, nil)
	}
	c, err := run(t.Context(), Options{Dir: dir, Short: true, Scenarios: names}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out, text bytes.Buffer
	page := filepath.Join(dir, "page.html")
	if err := c.show(&out, &text, page, true, true); err != nil {
		t.Fatalf("targets that the oracle meets: %v\n%s", err, text.String())
	}
	var objects []Row
	for decoder := json.NewDecoder(&out); decoder.More(); {
		var row Row
		if err := decoder.Decode(&row); err != nil {
			t.Fatal(err)
		}
		objects = append(objects, row)
	}
	if len(objects) != 2+2+7 {
		t.Errorf("%d objects, want one for each scenario and contender", len(objects))
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"slots halved", "Useful work of the origin", "haproxy-right", "spill_0.9x_over at most 3.00 %", "200 function"} {
		if !bytes.Contains(html, []byte(want)) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if !strings.Contains(text.String(), "Targets") || !strings.Contains(text.String(), "short contest") {
		t.Error("the text lacks the targets, or the warning that it was short")
	}
}

func rowsOf(results ...Result) *table { return newTable(&contest{results: results}) }

func resultOf(contender string, seed uint64, measures map[string]float64) Result {
	return Result{Scenario: "plain", Contender: contender, Seed: seed, Measures: measures}
}

func TestTargets(t *testing.T) {
	good := map[string]float64{
		"goodput_10x": .99, "p99_ratio": 1.4, "p999_all": 250, "errors": 0, "spill_0.9x_over": 0, "convergence": .1, "recovery": .5, "ledger": 1.01,
	}
	with := func(name string, v float64) map[string]float64 {
		m := map[string]float64{}
		maps.Copy(m, good)
		m[name] = v
		return m
	}
	open := func(t *table) (n int) {
		for _, v := range t.rows[0].Verdicts {
			if v.Open {
				n++
			}
		}
		return n
	}
	f := func(what string, tb *table, missed, unjudged int) {
		t.Helper()
		if tb.missed() != missed || open(tb) != unjudged {
			t.Errorf("%s: %d missed, %d not judged; want %d and %d: %+v", what, tb.missed(), open(tb), missed, unjudged, tb.rows[0].Verdicts)
		}
	}
	three := func(contender string, m map[string]float64) (out []Result) {
		for seed := range uint64(3) {
			out = append(out, resultOf(contender, seed, m))
		}
		return out
	}
	rivals := three("haproxy-right", good)
	f("all good", rowsOf(slices.Concat(three("spillway", good), rivals)...), 0, 0)
	f("low goodput", rowsOf(slices.Concat(three("spillway", with("goodput_10x", .97)), rivals)...), 2, 0) // and worse than HAProxy
	f("ledger too low", rowsOf(slices.Concat(three("spillway", with("ledger", .99)), rivals)...), 1, 0)
	f("ledger too high", rowsOf(slices.Concat(three("spillway", with("ledger", 1.06)), rivals)...), 1, 0)
	f("no rival", rowsOf(three("spillway", good)...), 7, 7)
	noisy := three("spillway", good)
	noisy[0].Measures, noisy[1].Measures = with("goodput_10x", .982), with("goodput_10x", 1)
	f("within the spread", rowsOf(slices.Concat(noisy, rivals)...), 0, 0)
	invalid := three("spillway", good)
	for i := range invalid {
		invalid[i].Invalid = "late"
	}
	f("invalid runs", rowsOf(slices.Concat(invalid, rivals)...), 16, 16)
}

// The best fixed limit is the smallest within 1 % of the best goodput.
func TestSweep(t *testing.T) {
	r := func(contender string, goodput, p99 float64) Result {
		return Result{Scenario: "php", Contender: contender, Seed: 1, Measures: map[string]float64{"goodput_3x": goodput, "p99_peak": p99, "ledger": 1}}
	}
	tb := rowsOf(r("spillway", .96, 120), r("fixed-10", 1, 200), r("fixed-5", .992, 100), r("fixed-2", .5, 50))
	m := tb.rows[0].Measures
	if m[bestLimit].Median != 5 || math.Abs(m[bestGoodput].Median-.96/.992) > 1e-9 || m[bestP99].Median != 1.2 || tb.missed() != 0 {
		t.Errorf("%+v, %+v", m, tb.rows[0].Verdicts)
	}
	if tb := rowsOf(r("spillway", .9, 140), r("fixed-5", .992, 100)); tb.missed() != 2 {
		t.Errorf("%+v", tb.rows[0].Verdicts)
	}
}

func TestFormat(t *testing.T) {
	f := func(name string, v float64, want string) {
		t.Helper()
		if got := format(name, v); got != want {
			t.Errorf("%s %g: %q, want %q", name, v, got, want)
		}
	}
	f("convergence", never, "never")
	f("convergence", .25, "0.25 s")
	f("errors", .0005, "0.05 %")
	f("p99_peak", 12.34, "12.3 ms")
	f("cpu", 271.4, "271 us")
	f("usd", .0123, "$0.0123")
	f("goodput_10x", math.NaN(), "–")
	f("goodput_10x", .9876, "0.988")
}
