package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"spillway/cmd/surge/crowd"
)

// A Comparison shows several runs beside each other.
type Comparison struct {
	Title    string
	Lead     string // a sentence under the title
	When     time.Time
	Tiles    []Tile
	Notes    []string // what the reader should know first
	Verdicts Table
	Sections []Section
}

// A Section is what was run under the same conditions.
type Section struct {
	Title  string
	Lead   string
	Phases []crowd.PhaseResult // name, start and length
	Series []Series
	Marks  []Mark
	Tables []Table
}

//go:embed comparison.html
var comparisonPage string

var comparisonTemplate = template.Must(template.Must(pageTemplate.Clone()).New("comparison").Parse(comparisonPage))

// Text writes the comparison for a terminal: its tables.
func (c Comparison) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", c.Title, c.Lead)
	for _, s := range c.Sections {
		fmt.Fprintf(&b, "\n\n%s\n%s\n", s.Title, s.Lead)
		for _, t := range s.Tables {
			textTable(&b, t)
		}
	}
	textTable(&b, c.Verdicts)
	for _, n := range c.Notes {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// HTML writes the comparison as one self-contained file.
func (c Comparison) HTML(w io.Writer) error {
	type section struct {
		Title, Lead string
		Charts      []chart
		Tables      []Table
	}
	var sections []section
	for _, s := range c.Sections {
		sections = append(sections, section{s.Title, s.Lead, s.charts(), s.Tables})
	}
	err := comparisonTemplate.Execute(w, struct {
		Title, Lead, Date string
		Tiles             []Tile
		Notes             []string
		Verdicts          []Table
		Sections          []section
	}{c.Title, c.Lead, c.When.Format("2 January 2006, 15:04 MST"), c.Tiles, c.Notes, []Table{c.Verdicts}, sections})
	if err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}

func (s Section) charts() []chart {
	d := Data{Result: crowd.Result{Phases: s.Phases}, Series: s.Series, Marks: s.Marks}
	var out []chart
	for _, group := range groups(s.Series) {
		out = append(out, seriesChart(d, group))
	}
	return out
}
