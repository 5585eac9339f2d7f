package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/cmd/surge/crowd"
	bench "spillway/cmd/surge/origin"
	"spillway/cmd/surge/report"
	"spillway/config"
	"spillway/origin"
	"spillway/origin/faas"
	"spillway/origin/limit"
)

// TestConfiguration asks that the demo's edge runs on its defaults: what the
// file sets differs on every machine.
func TestConfiguration(t *testing.T) {
	s := &stage{dir: t.TempDir(), originURL: "http://127.0.0.1:9000"}
	c, err := config.Parse("spillway.yaml", []byte(s.configuration("/run/a.sock", "/run/f.sock")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Origins["app"].Limit; l != (limit.Config{Min: 1, Max: 10000}) {
		t.Errorf("a limit is set: %+v", l)
	}
	if f := c.Functions["local"]; f.Budget != "spill" || f.Process.Socket != "/run/f.sock" {
		t.Errorf("function: %+v", f)
	}
}

func TestOverloadedSeconds(t *testing.T) {
	phases, err := crowd.ParsePhases(crowdPhases, capacity)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Unix(1000, 300e6)
	// Half a load until 1012.3; the second in which it ends is not overloaded as a
	// whole, nor is the one in which the crowd ends.
	if from, to := overloaded(began, phases); from != 1013 || to != 1055 {
		t.Errorf("overloaded from %d to %d", from, to)
	}
}

func TestSummary(t *testing.T) {
	phases, err := crowd.ParsePhases("0.5x:2s,3x:3s", capacity)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Unix(1000, 0)
	seen := frame{
		at: began.Add(5 * time.Second), busy: 0.5, cpu: map[string]float64{"edge": 1, "origin": 2, "functions": 3, "crowd": 4},
		origin: bench.Stats{PerSecond: []bench.Second{
			{T: 1001, Useful: 15, Capacity: 30}, // not overloaded: does not count
			{T: 1003, Useful: 30, Capacity: 30}, {T: 1004, Useful: 24, Capacity: 30},
		}},
		edge: edgeState{
			Origins:   map[string]origin.State{"app": {Limit: limit.State{Limit: 6}}},
			Functions: map[string]faas.State{"local": {CostUSD: 0.25}},
		},
	}
	w := &watcher{stage: &stage{}, frames: []frame{seen, seen}}
	s := w.summarise(crowd.Result{Counts: crowd.Counts{Offered: 10, Answered: 9, Errors: 1}, Protocol: "h3"}, began, phases)
	if s.OriginGoodputRatio != 0.9 || s.OriginLimit != 6 || s.FunctionCostUSD != 0.25 || s.BusiestSecond != 0.5 || s.Warning != "" {
		t.Errorf("got %+v", s)
	}
	w.frames[1].busy, w.frames[0].busy = 1, 1
	if s := w.summarise(crowd.Result{}, began, phases); s.Warning == "" {
		t.Error("a saturated machine is not warned of")
	}

	var out bytes.Buffer
	if err := s.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(out.Bytes(), &fields); err != nil || strings.Count(out.String(), "\n") != 1 {
		t.Fatalf("%q is not one line of JSON: %v", out.String(), err)
	}
	for _, name := range []string{
		"offered", "answered", "errors", "outcomes", "origin_goodput_ratio", "p50_ms", "p99_ms", "p999_ms",
		"function_cost_usd", "origin_limit", "protocol", "cpu_isolated",
	} {
		if _, ok := fields[name]; !ok {
			t.Errorf("the JSON lacks %s", name)
		}
	}
	out.Reset()
	if err := report.HTML(&out, w.data(crowd.Result{}, s, began)); err != nil || !strings.Contains(out.String(), "90.0 %") {
		t.Errorf("the report lacks the goodput: %v", err)
	}
}

// TestMarks asks that a key that was pressed stands in the report at its time.
func TestMarks(t *testing.T) {
	began := time.Unix(1000, 0)
	w := &watcher{frames: []frame{
		{at: began.Add(time.Second)},
		{at: began.Add(2 * time.Second), toggles: toggles{Halved: true}},
		{at: began.Add(3 * time.Second)},
	}}
	marks := w.marks(began)
	if len(marks) != 2 || marks[0].Text != "halve the origin" || marks[0].Seconds != 2 || marks[1].Text != "restore the origin" {
		t.Errorf("got %+v", marks)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A key that is being pressed when the demo ends is no failure that its summary should
// begin with.
func TestPressAtTheEnd(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	functions := roundTrip(func(r *http.Request) (*http.Response, error) {
		end()
		return nil, r.Context().Err()
	})
	w := &watcher{stage: &stage{functions: &http.Client{Transport: functions}}}
	var out bytes.Buffer
	w.pressAll(ctx, []Press{{Key: "t"}, {At: time.Hour, Key: "t"}}, &out)
	if out.Len() > 0 || w.toggles.Throttled {
		t.Errorf("it says %q, and functions are throttled: %v", &out, w.toggles.Throttled)
	}
}
