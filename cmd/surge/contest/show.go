package contest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"spillway/cmd/surge/crowd"
	"spillway/cmd/surge/report"
)

// comparison is the report of the contest.
func (t *table) comparison() report.Comparison {
	met, all, open := t.tally()
	c := report.Comparison{
		Title: "Flash crowds: who keeps the origin busy and the visitors served",
		Lead: "Every contender met the same arrivals and service times. Goodput is useful work done by the origin against an oracle that replays them " +
			"in virtual time; latency is from the intended time of a request to its last byte; money is the emulated platform's bill.",
		When:  time.Now(),
		Notes: slices.Clone(t.contest.notes),
		Tiles: []report.Tile{
			{Label: "targets met", Value: fmt.Sprintf("%d of %d", met, all), Note: fmt.Sprintf("%d could not be judged", open), Bad: met < all},
			{Label: "runs", Value: fmt.Sprint(len(t.contest.results)), Note: fmt.Sprintf("%d invalid", t.invalid())},
		},
		Verdicts: t.verdictTable(),
	}
	if t.contest.o.Short {
		c.Notes = append([]string{"This is a short contest: it shows that everything works. Its figures are not to be quoted."}, c.Notes...)
	}
	for _, row := range t.rows {
		for _, why := range row.Invalid {
			c.Notes = append(c.Notes, fmt.Sprintf("A run of %s on %s does not count: %s.", row.Contender, row.Scenario, why))
		}
	}
	for _, p := range t.contest.plans {
		c.Sections = append(c.Sections, t.section(p))
	}
	return c
}

func (t *table) tally() (met, all, open int) {
	for _, row := range t.rows {
		for _, v := range row.Verdicts {
			all++
			if v.Met {
				met++
			}
			if v.Open {
				open++
			}
		}
	}
	return met, all, open
}

func (t *table) invalid() int {
	n := 0
	for _, row := range t.rows {
		n += len(row.Invalid)
	}
	return n
}

// verdictTable is the final table: each target and whether it was met.
func (t *table) verdictTable() report.Table {
	out := report.Table{Title: "Targets", Head: []string{"scenario", "", "measured", "met"}}
	for _, row := range t.rows {
		for _, v := range row.Verdicts {
			name, _, _ := strings.Cut(v.Target, " ")
			measured, word := format(name, v.Measured), "no"
			switch {
			case v.Open:
				word = "not judged"
				if v.Measured == 0 {
					measured = "–"
				}
			case v.Met:
				word = "yes"
			}
			who := row.Scenario
			if row.Contender != "spillway" {
				who += ", " + row.Contender
			}
			out.Rows = append(out.Rows, []string{who, v.Target, measured, word})
		}
	}
	return out
}

// section is the part of one scenario.
func (t *table) section(p *plan) report.Section {
	s := p.scenario
	rows := t.scenario(s.Name)
	out := report.Section{
		Title: s.Name, Lead: s.About + t.best(p),
		Phases: phaseBands(p), Marks: marks(s),
		Tables: []report.Table{measureTable(rows), phaseTable(rows), answerTable(rows)},
	}
	for _, name := range []string{"work", "spilled", "p99", "errors", "limit"} {
		out.Series = append(out.Series, chart(rows, name)...)
	}
	return out
}

// best tells what the oracle chose.
func (t *table) best(p *plan) string {
	if p.scenario.Foreign != "" {
		return " The ideal here is of workers that wait in line; compare with the fixed limits."
	}
	return fmt.Sprintf(" The oracle's limit is %d with a queue and %d without one, which is HAProxy's right maxconn.", p.ideal.limit, p.scenario.Right)
}

func phaseBands(p *plan) []crowd.PhaseResult {
	var out []crowd.PhaseResult
	for i, ph := range p.phases {
		w := p.window(i)
		out = append(out, crowd.PhaseResult{Name: ph.Name, Start: w.From.Seconds(), Seconds: (w.To - w.From).Seconds()})
	}
	return out
}

func marks(s *Scenario) []report.Mark {
	var out []report.Mark
	for _, e := range s.Events {
		out = append(out, report.Mark{Seconds: e.At.Seconds(), Text: e.Text})
	}
	if s.Shift[1] > 0 {
		out = append(out, report.Mark{Seconds: s.Shift[0].Seconds(), Text: "heavier requests"})
	}
	return out
}

// The titles and units of the charts.
var charts = map[string][2]string{
	"work":    {"Useful work of the origin", "slots, mean of each second"},
	"spilled": {"Answered by functions", "requests a second"},
	"p99":     {"99th percentile of what the origin answered", "ms, log scale"},
	"limit":   {"The limit that Spillway learned", "requests"},
	"errors":  {"Without a good answer", "requests a second"},
}

// chart draws a series of every contender, and the ideal's where there is one.
func chart(rows []*Row, name string) []report.Series {
	var out []report.Series
	add := func(r *Result, series, label string) {
		for _, s := range r.Series {
			if s.Name == series && len(s.Points) > 0 {
				out = append(out, report.Series{Chart: charts[name][0], Unit: charts[name][1], Name: label, Log: name == "p99", Points: s.Points})
			}
		}
	}
	for i, row := range rows {
		if row.first == nil {
			continue
		}
		if i == 0 {
			add(row.first, "ideal "+name, "ideal")
		}
		add(row.first, name, row.Contender)
	}
	return out
}

// measureTable has a line for each measure and a column for each contender.
func measureTable(rows []*Row) report.Table {
	t := report.Table{Title: "Measures: medians over the seeds, and half their range", Head: []string{"measure", ""}}
	for _, row := range rows {
		t.Head = append(t.Head, row.title())
	}
	setting := []string{"configured", ""}
	for _, row := range rows {
		setting = append(setting, row.Setting)
	}
	t.Rows = append(t.Rows, setting)
	for _, m := range measures {
		line, any := []string{m.Name, m.Text}, false
		for _, row := range rows {
			f, ok := row.Measures[m.Name]
			if !ok {
				line = append(line, "–")
				continue
			}
			any = true
			cell := format(m.Name, f.Median)
			if f.Spread != nil && !math.IsNaN(*f.Spread) {
				cell += " ±" + format(m.Name, *f.Spread)
			}
			line = append(line, cell)
		}
		if any {
			t.Rows = append(t.Rows, line)
		}
	}
	return t
}

// title is the contender's name, and whether its figures count.
func (r *Row) title() string {
	if len(r.Seeds) == 0 {
		return r.Contender + " (invalid)"
	}
	return r.Contender
}

// phaseTable has a line for each phase of each contender's first seed.
func phaseTable(rows []*Row) report.Table {
	t := report.Table{
		Title: "Phases, of the first seed",
		Head:  []string{"contender", "phase", "offered", "goodput", "p50", "p99", "left the origin", "in the ideal", "errors"},
	}
	for _, row := range rows {
		for _, ph := range row.Phases {
			t.Rows = append(t.Rows, []string{
				row.title(), ph.Name, fmt.Sprint(ph.Offered), fmt.Sprintf("%.3f", ph.Goodput), format("p50_peak", ph.P50), format("p99_peak", ph.P99),
				format("errors", ph.Spilled), format("errors", ph.Ideal), format("errors", ph.Errors),
			})
		}
	}
	return t
}

// answerTable tells what the visitors got: a line for each kind of answer.
func answerTable(rows []*Row) report.Table {
	t := report.Table{Title: "What visitors got, of the first seed", Head: []string{"answer"}}
	kinds := map[string]bool{}
	for _, row := range rows {
		t.Head = append(t.Head, row.title())
		for kind := range row.Answers {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		line := []string{kind}
		for _, row := range rows {
			line = append(line, fmt.Sprint(row.Answers[kind]))
		}
		t.Rows = append(t.Rows, line)
	}
	return t
}
