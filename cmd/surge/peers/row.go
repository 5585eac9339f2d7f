package peers

import "slices"

// A row is one figure, of all contenders.
type row struct {
	Name   string  `json:"name"`
	Trial  string  `json:"trial"`
	Title  string  `json:"title"`
	About  string  `json:"about"`
	Unit   string  `json:"unit"`
	Client string  `json:"client"`
	CPU    bool    `json:"cpu"`
	Cells  []*cell `json:"cells"`
}

// A cell is one figure of one contender.
type cell struct {
	Contender string    `json:"contender"`
	Value     float64   `json:"value,omitempty"`  // the median of the rounds
	Rounds    []float64 `json:"rounds,omitempty"` // in their order
	Busy      float64   `json:"busy,omitempty"`   // the share of its core that the server used, the median
	Skipped   string    `json:"skipped,omitempty"`
	Lacks     bool      `json:"lacks,omitempty"` // it is here, and cannot do it, or is not asked to

	of []measurement
}

// rows are the figures of a trial.
func (t trial) rows(cells []*cell, b *bed) []row {
	var rows []row
	for _, f := range t.figures {
		r := row{Name: f.name, Trial: t.name, Title: f.title, About: t.about, Unit: f.unit, CPU: f.cpu, Client: b.clientOf(t)}
		for _, c := range cells {
			one := &cell{Contender: c.Contender, Skipped: c.Skipped, Lacks: c.Lacks}
			var busy []float64
			for _, m := range c.of {
				one.Rounds, busy = append(one.Rounds, f.of(m)), append(busy, m.busy())
			}
			if len(c.of) > 0 {
				one.Value, one.Busy = median(one.Rounds), median(busy)
			}
			r.Cells = append(r.Cells, one)
		}
		rows = append(rows, r)
	}
	return rows
}

// cell returns that of a contender, nil if it had no part.
func (r row) cell(name string) *cell {
	if i := slices.IndexFunc(r.Cells, func(c *cell) bool { return c.Contender == name }); i >= 0 {
		return r.Cells[i]
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
