package peers

import (
	"fmt"
	"strings"
)

// A goal is what the node, its access log on, is to cost at most.
type goal struct {
	figure string
	than   string  // another contender, whose figure is multiplied; or
	most   float64 // by how much, or the figure itself
	below  bool    // the limit itself is too much
}

// cheaper is by how much the node is to be cheaper than Caddy wherever CPU time is
// measured.
const cheaper = 1.7

var goals = []goal{
	{figure: "m10", most: 10},
	{figure: "m10", than: nginx, most: 1.3},
	{figure: "m1", than: haproxy, most: 1},
	{figure: "visitor-500", than: nginx, most: 1.2},
	{figure: "visitor-500", than: haproxy, most: 1, below: true},
	{figure: "visitor-1500", than: nginx, most: 1.2},
	{figure: "visitor-1500", than: haproxy, most: 1, below: true},
	{figure: "early", most: 300},
	{figure: "big", most: 1.65},
	{figure: "h1", most: 10},
	{figure: "h2", most: 20},
	{figure: "idle", most: 70},
}

// A verdict is how a goal was met.
type verdict struct {
	Figure   string  `json:"figure"`
	Goal     string  `json:"goal"`
	Measured float64 `json:"measured,omitempty"` // the figure, or the ratio
	Met      bool    `json:"met"`
	// Open says why it could not be judged. Beside a contender that cannot do it, there
	// is nothing to judge.
	Open  string `json:"open,omitempty"`
	Moot  bool   `json:"moot,omitempty"`
	title string
}

// judge compares what was measured with the goals of it.
func judge(rows []row) []verdict {
	var all []verdict
	for _, r := range rows {
		of := goalsOf(r)
		for _, g := range of {
			all = append(all, g.judge(r))
		}
	}
	return all
}

// goalsOf are the goals of a row: its own, and that of all that is CPU time.
func goalsOf(r row) []goal {
	var of []goal
	for _, g := range goals {
		if g.figure == r.Name {
			of = append(of, g)
		}
	}
	if r.CPU {
		of = append(of, goal{figure: r.Name, than: caddy, most: 1 / cheaper})
	}
	return of
}

// judge compares medians, or the median of the rounds' ratios: the noise of a round
// hits both.
func (g goal) judge(r row) verdict {
	v := verdict{Figure: g.figure, Goal: g.text(r.Unit), title: r.Title}
	own := r.cell(spillway)
	if why := absent(own, spillway); why != "" {
		v.Open = why
		return v
	}
	v.Measured = own.Value
	if g.than != "" {
		other := r.cell(g.than)
		if why := absent(other, g.than); why != "" {
			v.Open, v.Measured, v.Moot = why, 0, other != nil && other.Lacks
			return v
		}
		v.Measured = ratio(own, other)
	}
	v.Met = v.Measured < g.most || !g.below && v.Measured == g.most
	return v
}

// absent says why there is no figure; empty if there is one.
func absent(c *cell, name string) string {
	switch {
	case c == nil:
		return name + " was not asked for"
	case c.Skipped != "":
		return name + ": " + c.Skipped
	case len(c.Rounds) == 0:
		return name + " was not measured"
	}
	return ""
}

// ratio is the median of the rounds' ratios.
func ratio(c, to *cell) float64 {
	var all []float64
	for i := range min(len(c.Rounds), len(to.Rounds)) {
		all = append(all, c.Rounds[i]/to.Rounds[i])
	}
	return median(all)
}

func (g goal) text(unit string) string {
	switch {
	case g.than == caddy:
		return fmt.Sprintf("%.1fx cheaper than %s", cheaper, caddy)
	case g.than != "" && g.below:
		return "below " + g.than
	case g.than != "" && g.most == 1:
		return "no more than " + g.than
	case g.than != "":
		return fmt.Sprintf("at most %gx of %s", g.most, g.than)
	}
	return fmt.Sprintf("at most %g %s", g.most, unit)
}

// missed are the goals that were not met, or not judged for want of something that
// can be had.
func (r *result) missed() []string {
	var all []string
	for _, v := range r.Verdicts {
		if !v.Met && !v.Moot {
			all = append(all, strings.TrimSpace(v.Figure+" "+v.Goal+": "+v.measured()))
		}
	}
	return all
}

// measured is what the goal was compared with, or why nothing was.
func (v verdict) measured() string {
	switch {
	case v.Open != "":
		return "not judged, " + v.Open
	case strings.HasSuffix(v.Goal, caddy):
		return fmt.Sprintf("%.2fx cheaper", 1/v.Measured)
	case strings.HasPrefix(v.Goal, "at most") && !strings.Contains(v.Goal, "x of"):
		return digits(v.Measured)
	}
	return fmt.Sprintf("%.2fx", v.Measured)
}
