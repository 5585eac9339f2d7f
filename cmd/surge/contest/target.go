package contest

import (
	"fmt"
	"math"
	"slices"
)

// A target is what a measure of Spillway should be.
type target struct {
	measure string
	atLeast bool // else at most
	bound   float64
}

// targets are those of each scenario. They are what the product promises, not what
// was measured.
var targets = map[string][]target{
	"plain": {
		{"goodput_10x", true, .98},
		{"p99_ratio", false, 1.5},
		{"p999_all", false, 300},
		{"errors", false, .0005},
		{"spill_0.9x_over", false, .01},
		{"convergence", false, .5},
		{"recovery", false, 1},
	},
	"mix":   {{"goodput_step", true, .95}},
	"small": {{"goodput_all", true, .95}, {"spill_0.9x_over", false, .03}},
	"large": {{"goodput_all", true, .95}, {"p99_ideal", false, 1.25}, {"spill_0.9x", false, .01}},
}

// elsewhere is what holds for the scenarios without targets of their own.
var elsewhere = []target{{"goodput_all", true, .95}, {"p99_ideal", false, 1.25}}

// sweepTargets hold beside the best fixed limit.
var sweepTargets = []target{{bestGoodput, true, .95}, {bestP99, false, 1.3}}

// ledgerTargets hold everywhere.
var ledgerTargets = []target{{"ledger", true, 1}, {"ledger", false, 1.05}}

// A Verdict says whether a target was met.
type Verdict struct {
	Target   string  `json:"target"`
	Measured float64 `json:"measured"`
	Met      bool    `json:"met"`
	Open     bool    `json:"open,omitempty"` // there is nothing to judge by
}

// verdicts judges a row of Spillway's. Others have no targets.
func (t *table) verdicts(row *Row) []Verdict {
	if row.Contender != "spillway" && row.Contender != "spillway-h3" {
		return nil
	}
	var out []Verdict
	for _, g := range t.targetsOf(row) {
		out = append(out, g.judge(row))
	}
	if row.Contender == "spillway" && row.Scenario == "plain" {
		out = append(out, t.rivalry(row)...)
	}
	return out
}

func (t *table) targetsOf(row *Row) []target {
	if slices.ContainsFunc(sweeps(), func(s Scenario) bool { return s.Name == row.Scenario }) {
		return slices.Concat(sweepTargets, ledgerTargets)
	}
	own, ok := targets[row.Scenario]
	if !ok {
		own = elsewhere
	}
	return slices.Concat(own, ledgerTargets)
}

func (g target) judge(row *Row) Verdict {
	word := "at most"
	if g.atLeast {
		word = "at least"
	}
	v := Verdict{Target: fmt.Sprintf("%s %s %s", g.measure, word, format(g.measure, g.bound))}
	f, ok := row.Measures[g.measure]
	v.Measured = f.Median
	if v.Open = !ok || len(row.Seeds) == 0; v.Open {
		return v
	}
	v.Met = f.Median <= g.bound
	if g.atLeast {
		v.Met = f.Median >= g.bound
	}
	return v
}

// rivalry compares with HAProxy and the right number: nothing may be worse by more
// than the spread.
func (t *table) rivalry(row *Row) []Verdict {
	rival := t.find(row.Scenario, "haproxy-right")
	var out []Verdict
	for _, m := range measures {
		if m.Better == 0 {
			continue
		}
		if _, ok := row.Measures[m.Name]; !ok {
			continue // the scenario has no such measure
		}
		v := Verdict{Target: m.Name + " no worse than haproxy-right's"}
		if rival == nil || len(row.Seeds) == 0 || len(rival.Seeds) == 0 {
			v.Open = true
			out = append(out, v)
			continue
		}
		p := pairUp(row.bySeed[m.Name], rival.bySeed[m.Name])
		if v.Open = math.IsNaN(p.Spread); p.Seeds > 0 {
			v.Measured = p.Difference
		}
		v.Met = !v.Open && !(p.Counts() && p.Difference*float64(m.Better) < 0)
		if !v.Open {
			v.Target += fmt.Sprintf(" (%s against %s, spread of the difference %s)", format(m.Name, p.Ours), format(m.Name, p.Theirs), format(m.Name, p.Spread))
		}
		out = append(out, v)
	}
	return out
}

// missed counts the targets that were not met or could not be judged.
func (t *table) missed() int {
	n := 0
	for _, row := range t.rows {
		for _, v := range row.Verdicts {
			if !v.Met {
				n++
			}
		}
	}
	return n
}

// format writes a measure with its unit.
func format(name string, v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	i := slices.IndexFunc(measures, func(m Measure) bool { return m.Name == name })
	unit := ""
	if i >= 0 {
		unit = measures[i].Unit
	}
	switch {
	case unit == "s" && v >= never:
		return "never"
	case unit == "s":
		return fmt.Sprintf("%.2f s", v)
	case unit == "ms":
		return fmt.Sprintf("%.1f ms", v)
	case unit == "us":
		return fmt.Sprintf("%.0f us", v)
	case unit == "n":
		return fmt.Sprintf("%.0f", v)
	case unit == "%":
		return fmt.Sprintf("%.2f %%", 100*v)
	case unit == "$":
		return fmt.Sprintf("$%.4f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
