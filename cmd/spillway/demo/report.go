package demo

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"spillway/cmd/surge/crowd"
	"spillway/cmd/surge/report"
)

// data puts what the watcher saw of the parts beside what the crowd counted.
func (w *watcher) data(r crowd.Result, s Summary, began time.Time) report.Data {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := report.Data{
		Title:  "A flash crowd at the edge",
		Result: r,
		Tiles: []report.Tile{
			{
				Label: "origin goodput", Value: fmt.Sprintf("%.1f %%", s.OriginGoodputRatio*100),
				Note: "of its capacity while overloaded", Bad: s.OriginGoodputRatio < 0.95,
			},
			{Label: "functions", Value: fmt.Sprintf("$%.4f", s.FunctionCostUSD), Note: "as AWS Lambda would charge"},
		},
		Notes: []string{"Functions ran on this machine; their price is " + s.PricedAs + "."},
	}
	if s.Warning != "" {
		d.Notes = append(d.Notes, s.Warning)
	}
	if !s.CPUIsolated {
		d.Notes = append(d.Notes, "All parts shared the machine's cores.")
	}
	d.Series = w.series(began)
	d.Marks = w.marks(began)
	d.Tables = []report.Table{cpuTable(s)}
	return d
}

// series turns the frames into lines of the report's plots.
func (w *watcher) series(began time.Time) []report.Series {
	limit := report.Series{Chart: "Origin", Name: "learned limit", Unit: "requests"}
	inFlight := report.Series{Chart: "Origin", Name: "in flight", Unit: "requests"}
	slots := report.Series{Chart: "Origin", Name: "slots", Unit: "requests"}
	busy := report.Series{Chart: "Machine", Name: "CPU in use", Unit: "%"}
	for _, f := range w.frames {
		at := f.at.Sub(began).Seconds()
		if at < 0 {
			continue
		}
		add := func(s *report.Series, v float64) { s.Points = append(s.Points, report.Point{Seconds: at, Value: v}) }
		add(&limit, float64(f.edge.Origins["app"].Limit.Limit))
		add(&inFlight, float64(f.origin.InFlight))
		add(&slots, float64(f.origin.Slots))
		add(&busy, f.busy*100)
	}
	return []report.Series{limit, inFlight, slots, busy}
}

// marks names the moments at which a key was pressed.
func (w *watcher) marks(began time.Time) []report.Mark {
	var marks []report.Mark
	for i := 1; i < len(w.frames); i++ {
		was, now := w.frames[i-1].toggles, w.frames[i].toggles
		for k, key := range keys {
			if was.on(k) == now.on(k) {
				continue
			}
			text := key.undoes
			if now.on(k) {
				text = key.does
			}
			marks = append(marks, report.Mark{Seconds: w.frames[i].at.Sub(began).Seconds(), Text: text})
		}
	}
	return marks
}

func cpuTable(s Summary) report.Table {
	t := report.Table{Title: "CPU time", Head: []string{"part", "seconds"}}
	for _, part := range slices.Sorted(maps.Keys(s.CPUSeconds)) {
		t.Rows = append(t.Rows, []string{part, fmt.Sprintf("%.1f", s.CPUSeconds[part])})
	}
	return t
}
