package contest

import (
	"fmt"
	"math"
	"strings"
	"time"

	"spillway/cmd/surge/contest/ideal"
	"spillway/cmd/surge/report"
)

// A Result is what is kept of one run: a file that a later run of the contest
// finds, so that nothing is measured twice.
type Result struct {
	Scenario  string  `json:"scenario"`
	Contender string  `json:"contender"`
	Seed      uint64  `json:"seed"`
	Protocol  string  `json:"protocol"`
	Setting   string  `json:"setting"`   // what was configured
	Limit     int     `json:"limit"`     // of the ideal, with a queue
	Stretched float64 `json:"stretched"` // see Scenario
	// Plan is a digest of the scenario; a result of another one is not this run's.
	Plan string `json:"plan"`
	// Build is a digest of the program that ran, so that a report that mixes two
	// can say so.
	Build string    `json:"build"`
	Time  time.Time `json:"time"`
	// Invalid says why the run tells of this machine and not of the contender.
	Invalid  string             `json:"invalid,omitempty"`
	Measures map[string]float64 `json:"measures"`
	Answers  map[string]int     `json:"answers"` // how many visitors got what
	Phases   []Phase            `json:"phases"`
	Series   []report.Series    `json:"series"`
}

// The bounds of a valid run.
const (
	// lagBound is the lateness of one request in a hundred, in milliseconds; more is
	// a large part of the latencies that are measured.
	lagBound = 10
	// busyBound is the share of the machine in use at the highest load. Above it the
	// contenders are starved, and not by each other.
	busyBound = .95
)

// judgeRun says why the figures of a run tell of this machine, or nothing.
func judgeRun(m map[string]float64) string {
	switch {
	case m["lag"] > lagBound:
		return fmt.Sprintf("the driver was late: one request in a hundred by more than %.0f ms", m["lag"])
	case m["busy"] > busyBound:
		return fmt.Sprintf("the machine had no CPU time left: %.0f %% in use at the highest load", 100*m["busy"])
	}
	return ""
}

// result makes the record of a run.
func (e *evidence) result(s *stage, c Contender, seed uint64, digest string) Result {
	p := e.plan
	r := Result{
		Scenario: p.scenario.Name, Contender: c.Name, Seed: seed, Protocol: c.Protocol, Setting: s.edge.setting,
		Limit: p.ideal.limit, Stretched: p.scenario.Stretched, Plan: digest, Time: time.Now().UTC(),
	}
	r.Measures, r.Phases = e.measure()
	r.Answers = e.answersByKind()
	r.Invalid = judgeRun(r.Measures)
	r.Series = e.series()
	return r
}

// answersByKind counts the visitors by the status that they got and who gave it, or
// by why they got none.
func (e *evidence) answersByKind() map[string]int {
	kinds := map[string]int{}
	for _, s := range e.samples {
		kind := s.Error
		if s.Status > 0 {
			kind = strings.TrimSpace(fmt.Sprintf("%d %s", s.Status, s.Place))
		}
		kinds[kind]++
	}
	return kinds
}

// series is the run by the second, for the plots.
func (e *evidence) series() []report.Series {
	p := e.plan
	seconds := int(math.Ceil(p.length().Seconds()))
	real, ideals := e.stays(), p.idealStays()
	line := func(name string, value func(w ideal.Window) float64) report.Series {
		s := report.Series{Name: name}
		for i := range seconds {
			w := ideal.Window{From: time.Duration(i) * time.Second, To: time.Duration(i+1) * time.Second}
			if v := value(w); !math.IsNaN(v) && !math.IsInf(v, 0) { // JSON has neither
				s.Points = append(s.Points, report.Point{Seconds: float64(i) + .5, Value: v})
			}
		}
		return s
	}
	count := func(w ideal.Window) float64 {
		from, to := p.between(w)
		return float64(to - from)
	}
	return []report.Series{
		line("work", func(w ideal.Window) float64 { return work(real, w) }),
		line("ideal work", func(w ideal.Window) float64 { return work(ideals, w) }),
		line("offered", count),
		line("spilled", func(w ideal.Window) float64 { return e.spilled(w) * count(w) }),
		line("ideal spilled", func(w ideal.Window) float64 { return p.spilled(w) * count(w) }),
		line("ideal errors", func(ideal.Window) float64 { return 0 }),
		line("errors", func(w ideal.Window) float64 { return e.errors(w) * count(w) }),
		line("p99", func(w ideal.Window) float64 { return quantile(e.admitted(w), .99) }),
		line("limit", func(w ideal.Window) float64 {
			if i := int(w.From / time.Second); i < len(e.limits) {
				return e.limits[i]
			}
			return math.NaN()
		}),
		line("ideal p99", func(w ideal.Window) float64 { return quantile(p.admitted(w), .99) }),
	}
}
