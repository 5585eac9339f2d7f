package contest

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// A Row is what one contender did in one scenario: the object of --json.
type Row struct {
	Scenario  string            `json:"scenario"`
	Contender string            `json:"contender"`
	Protocol  string            `json:"protocol"`
	Setting   string            `json:"setting"`
	Stretched float64           `json:"stretched"`
	Seeds     []uint64          `json:"seeds"`             // of the valid runs
	Invalid   []string          `json:"invalid,omitempty"` // why others are not
	Measures  map[string]Figure `json:"measures"`          // without valid runs, those of the invalid
	Answers   map[string]int    `json:"answers"`           // of the first run, as its phases
	Phases    []Phase           `json:"phases"`
	Verdicts  []Verdict         `json:"verdicts,omitempty"`

	bySeed map[string]map[uint64]float64
	first  *Result
	unsure []*Result // the invalid runs
}

// A Figure is a measure over the seeds.
type Figure struct {
	Median float64 `json:"median"`
	// Spread is half the range over the seeds; absent with one seed.
	Spread *float64 `json:"spread,omitempty"`
}

// A table is all rows, and what follows from them.
type table struct {
	contest *contest
	rows    []*Row
}

func newTable(c *contest) *table {
	t := &table{contest: c}
	for i := range c.results {
		t.add(&c.results[i])
	}
	for _, row := range t.rows {
		row.sum()
	}
	t.sweepRatios()
	for _, row := range t.rows {
		row.Verdicts = t.verdicts(row)
	}
	return t
}

// add files a result under its row.
func (t *table) add(r *Result) {
	row := t.find(r.Scenario, r.Contender)
	if row == nil {
		row = &Row{
			Scenario: r.Scenario, Contender: r.Contender, Protocol: r.Protocol, Setting: r.Setting, Stretched: r.Stretched,
			bySeed: map[string]map[uint64]float64{}, Measures: map[string]Figure{},
		}
		t.rows = append(t.rows, row)
	}
	if r.Invalid != "" {
		row.Invalid = append(row.Invalid, r.Invalid)
		row.unsure = append(row.unsure, r)
		return
	}
	row.Seeds = append(row.Seeds, r.Seed)
	row.take(r)
}

// take adds the figures of a run.
func (r *Row) take(run *Result) {
	if r.first == nil {
		r.first, r.Phases, r.Answers = run, run.Phases, run.Answers
	}
	for name, v := range run.Measures {
		r.set(name, run.Seed, v)
	}
}

func (r *Row) set(name string, seed uint64, v float64) {
	if r.bySeed[name] == nil {
		r.bySeed[name] = map[uint64]float64{}
	}
	r.bySeed[name][seed] = v
}

// sum computes the figures: of the valid runs, or if there is none, of the others.
// Those are shown and judge nothing.
func (r *Row) sum() {
	if len(r.Seeds) == 0 {
		for _, run := range r.unsure {
			r.take(run)
		}
	}
	for name, bySeed := range r.bySeed {
		values := slices.Collect(maps.Values(bySeed))
		f := Figure{Median: median(values)}
		if s := spreadOf(values); !math.IsNaN(s) {
			f.Spread = &s
		}
		r.Measures[name] = f
	}
}

func (t *table) find(scenario, contender string) *Row {
	for _, r := range t.rows {
		if r.Scenario == scenario && r.Contender == contender {
			return r
		}
	}
	return nil
}

// scenario returns the rows of a scenario, in the order of playing.
func (t *table) scenario(name string) []*Row {
	var rows []*Row
	for _, r := range t.rows {
		if r.Scenario == name {
			rows = append(rows, r)
		}
	}
	return rows
}

// The measures of a row that stands beside a sweep of fixed limits.
const (
	bestGoodput = "goodput_best" // against the best fixed limit's
	bestP99     = "p99_best"
	bestLimit   = "best_limit"
)

// sweepRatios compares Spillway with the best of the fixed limits.
func (t *table) sweepRatios() {
	for _, row := range t.rows {
		if row.Contender != "spillway" || row.Measures["goodput_3x"].Median == 0 {
			continue
		}
		best := t.bestFixed(row.Scenario)
		if best == nil {
			continue
		}
		// A sweep is judged as a whole: one invalid run may hide the best.
		if slices.ContainsFunc(t.scenario(row.Scenario), func(r *Row) bool { return len(r.Seeds) == 0 }) {
			row.Seeds = nil
		}
		for name, of := range map[string]string{bestGoodput: "goodput_3x", bestP99: "p99_peak"} {
			if theirs := best.Measures[of].Median; theirs > 0 {
				row.Measures[name] = Figure{Median: row.Measures[of].Median / theirs}
			}
		}
		row.Measures[bestLimit] = Figure{Median: limitOf(best.Contender)}
	}
}

// bestFixed is the smallest fixed limit within 1 % of the best one's goodput.
func (t *table) bestFixed(scenario string) *Row {
	var all []*Row
	most := 0.0
	for _, r := range t.scenario(scenario) {
		if limitOf(r.Contender) > 0 {
			all = append(all, r)
			most = max(most, r.Measures["goodput_3x"].Median)
		}
	}
	slices.SortFunc(all, func(a, b *Row) int { return cmp.Compare(limitOf(a.Contender), limitOf(b.Contender)) })
	for _, r := range all {
		if r.Measures["goodput_3x"].Median >= .99*most {
			return r
		}
	}
	return nil
}

// limitOf is the limit in the name of a contender; 0 without.
func limitOf(contender string) float64 {
	number, ok := strings.CutPrefix(contender, "fixed-")
	if !ok {
		return 0
	}
	n := 0.0
	for _, digit := range number {
		n = 10*n + float64(digit-'0')
	}
	return n
}
