// Package report shows what became of a crowd: as a table for a terminal, as one
// line of JSON for a program, and as one HTML file for a person to read and pass on.
//
// The HTML is self-contained: style and plots are inside it, nothing is loaded from
// anywhere and no script runs, so that it looks the same from a mail, an archive or
// a machine without a network, in ten years too.
//
// It only draws. What the numbers mean is decided where they are counted, in
// package crowd, and a report never adds or leaves out a request to look better.
package report

import (
	"encoding/json"
	"io"

	"spillway/cmd/surge/crowd"
)

// Data is what a report shows: a result, and what else is known about the run.
type Data struct {
	Title  string
	Lead   string // a sentence under the title; empty: one about the crowd
	Result crowd.Result
	Tiles  []Tile   // headline numbers, after those of the result
	Series []Series // more plots, with the time axis of the result
	Marks  []Mark   // events during the run
	Tables []Table  // more tables
	Notes  []string // what the reader should know
}

// A Tile is one headline number.
type Tile struct {
	Label string // origin goodput
	Value string // 0.98
	Note  string // of 35/s
	Bad   bool   // to be looked at
}

// A Series is one line of a plot. Series with the same Chart share a plot and
// should share a unit.
type Series struct {
	Chart  string // Origin
	Name   string // limit
	Unit   string // requests
	Log    bool   // on a log scale, if the first of its plot says so
	Points []Point
}

// A Point is a value at a time since the start of the run.
type Point struct{ Seconds, Value float64 }

// A Mark is an event: a vertical line in every plot.
type Mark struct {
	Seconds float64
	Text    string
}

// A Table is rows of cells under a head. The first column and those without a head
// are text, the others numbers.
type Table struct {
	Title    string
	Head     []string
	Rows     [][]string
	Outcomes bool // the first column names outcomes, shown with their colors
}

// JSON writes v as one line.
func JSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
