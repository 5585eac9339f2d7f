package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed page.html
var page string

var pageTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"isText": isText, "hasHead": hasHead, "class": className,
}).Parse(page))

// HTML writes the report as one self-contained file.
func HTML(w io.Writer, d Data) error {
	err := pageTemplate.Execute(w, struct {
		Title, Lead, When string
		Tiles             []Tile
		Charts            []chart
		Tables            []Table
		Notes             []string
	}{
		title(d), lead(d), d.Result.Environment.Time.Format("2 January 2006, 15:04 MST"),
		tiles(d), charts(d), tables(d), notes(d),
	})
	if err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}
