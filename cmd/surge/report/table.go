package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"spillway/cmd/surge/crowd"
)

// Text writes the report for a terminal.
func Text(w io.Writer, d Data) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", title(d), lead(d))
	for _, t := range tiles(d) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-22s %12s  %s", t.Label, t.Value, t.Note), " ") + "\n")
	}
	for _, t := range tables(d) {
		textTable(&b, t)
	}
	for _, n := range notes(d) {
		fmt.Fprintf(&b, "\n%s\n", n)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// textTable aligns by hand: text/tabwriter aligns all columns to one side.
func textTable(b *strings.Builder, t Table) {
	widths := make([]int, len(t.Head))
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string) {
		var s strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if isText(t, i) {
				s.WriteString("  " + cell + pad)
			} else {
				s.WriteString("  " + pad + cell)
			}
		}
		b.WriteString(strings.TrimRight(s.String(), " ") + "\n")
	}
	fmt.Fprintf(b, "\n%s\n", t.Title)
	if hasHead(t) {
		line(t.Head)
	}
	for _, row := range t.Rows {
		line(row)
	}
}

// isText reports whether column i is text: the first, and those without a head of
// their own, which explain.
func isText(t Table, i int) bool { return i == 0 || t.Head[i] == "" }

func hasHead(t Table) bool {
	return slices.ContainsFunc(t.Head, func(s string) bool { return s != "" })
}

func title(d Data) string {
	if d.Title != "" {
		return d.Title
	}
	return "Flash crowd"
}

func lead(d Data) string {
	if d.Lead != "" {
		return d.Lead
	}
	r := d.Result
	who := "from one address"
	if r.Parameters.Addresses == crowd.CarrierNAT {
		who = "80 % of them behind 8 addresses"
	}
	each := "one request each"
	if r.RequestsPerVisitor > 1 {
		each = fmt.Sprintf("%d requests each", r.RequestsPerVisitor)
	}
	protocol := map[string]string{crowd.H1: "HTTP/1.1", crowd.H2: "HTTP/2", crowd.H3: "HTTP/3"}[r.Protocol]
	return fmt.Sprintf("%s visitors over %s in %s, %s, %s.", count(r.Visitors), protocol, seconds(r.Seconds), who, each)
}

// tiles are the headline numbers.
func tiles(d Data) []Tile {
	r := d.Result
	own := []Tile{
		{Label: "offered", Value: count(r.Offered), Note: "requests"},
		{Label: "answered", Value: percent(r.Answered, r.Offered), Note: count(r.Answered) + " within " + digits(r.Parameters.TimeoutS) + " s"},
		{Label: "errors", Value: percent(r.Errors, r.Offered), Note: count(r.Errors) + " of them", Bad: r.Errors*200 > r.Offered},
		{Label: "median latency", Value: millis(r.P50), Note: "from the intended time"},
		{Label: "99 % within", Value: millis(r.P99), Note: "99.9 % within " + millis(r.P999)},
	}
	return append(own, d.Tiles...)
}

func tables(d Data) []Table {
	r := d.Result
	out := []Table{outcomeTable(r)}
	if len(r.ClientErrors) > 0 {
		out = append(out, errorTable(r))
	}
	out = append(out, phaseTable(r))
	if len(r.Reasons) > 0 {
		out = append(out, reasonTable(r))
	}
	return append(append(out, d.Tables...), generatorTable(r))
}

// outcomeTable ends with the sum, so that a reader can see that nothing is missing.
func outcomeTable(r crowd.Result) Table {
	t := Table{
		Title:    "Outcomes, in the node's words",
		Head:     []string{"outcome", "", "requests", "share", "p50", "p99", "p99.9"},
		Outcomes: true,
	}
	add := func(word string, n int64, l crowd.Latency) {
		t.Rows = append(t.Rows, []string{word, meanings[word], count(n), percent(n, r.Offered), millis(l.P50), millis(l.P99), millis(l.P999)})
	}
	for _, word := range byLayer(r.Counts) {
		add(word, r.Outcomes[word], r.OutcomeLatency[word])
	}
	if n := layerCount(r.Counts, clientErrors); n > 0 {
		add(clientErrors, n, crowd.Latency{})
	}
	add("offered", r.Offered, r.Latency)
	return t
}

func errorTable(r crowd.Result) Table {
	t := Table{Title: "Errors that only the client saw", Head: []string{"error", "", "requests", "share"}}
	for _, class := range byCount(r.ClientErrors) {
		n := r.ClientErrors[class]
		t.Rows = append(t.Rows, []string{class, meanings[class], count(n), percent(n, r.Offered)})
	}
	return t
}

func phaseTable(r crowd.Result) Table {
	t := Table{Title: "Phases", Head: []string{"phase", "visitors", "length", "offered", "answered", "errors", "p50", "p99", "p99.9"}}
	for _, p := range r.Phases {
		t.Rows = append(t.Rows, []string{
			p.Name, perSecond(p.From, p.To), seconds(p.Seconds), count(p.Offered), percent(p.Answered, p.Offered),
			percent(p.Errors, p.Offered), millis(p.P50), millis(p.P99), millis(p.P999),
		})
	}
	return t
}

func reasonTable(r crowd.Result) Table {
	t := Table{Title: "Reasons", Head: []string{"outcome; reason", "requests", "share"}}
	for _, reason := range byCount(r.Reasons) {
		t.Rows = append(t.Rows, []string{reason, count(r.Reasons[reason]), percent(r.Reasons[reason], r.Offered)})
	}
	return t
}

// generatorTable says how the crowd was made and whether its maker kept up.
func generatorTable(r crowd.Result) Table {
	p, e := r.Parameters, r.Environment
	t := Table{Title: "How it was measured", Head: []string{"", ""}}
	add := func(key, format string, a ...any) { t.Rows = append(t.Rows, []string{key, fmt.Sprintf(format, a...)}) }
	for _, u := range p.URLs {
		add("asked for", "%s", u)
	}
	if p.Connect != "" {
		add("connected to", "%s", p.Connect)
	}
	add("connections", "%s, %s", p.Connections, p.Addresses)
	add("patience", "%g s", p.TimeoutS)
	add("seed", "%d", p.Seed)
	if p.SlowShare > 0 {
		add("slow visitors", "%g %% at %s/s", p.SlowShare*100, byteCount(p.SlowRate))
	}
	if h := r.Held; h != nil {
		add("event streams", "%d asked, %d opened, %d open at the end%s", h.Asked, h.Opened, h.OpenAtEnd, lost(h.Errors))
	}
	add("bodies read", "%s", byteCount(r.Bytes))
	add("generator", "%.2f s of CPU, %.0f µs a visitor, 99 %% of them started within %s of their time",
		r.CPUSeconds, r.CPUMicrosPerVisitor, millis(r.LagP99))
	add("machine", "%s, %d cores, %s, %s", e.CPU, e.Cores, e.Kernel, e.Go)
	add("time", "%s", e.Time.Format("2006-01-02 15:04:05 MST"))
	return t
}

func lost(errs map[string]int64) string {
	var b strings.Builder
	for _, class := range slices.Sorted(maps.Keys(errs)) {
		fmt.Fprintf(&b, ", %d %s", errs[class], class)
	}
	return b.String()
}

// lagTold is the lag of the generator that a reader must know of.
const lagTold = 50 // ms

func notes(d Data) []string {
	var own []string
	if d.Result.LagP99 > lagTold {
		own = append(own, fmt.Sprintf("The generator lagged: one visitor in a hundred started more than %s late. "+
			"The latencies contain that; this machine was too busy for its crowd.", millis(d.Result.LagP99)))
	}
	if n := d.Result.ClientErrors[crowd.ClassCapped]; n > 0 {
		own = append(own, fmt.Sprintf("%s requests were not sent, because %d visitors were present at once. They count as errors.",
			count(n), d.Result.Parameters.MaxInFlight))
	}
	return append(own, d.Notes...)
}
