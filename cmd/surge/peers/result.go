package peers

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"spillway/cmd/surge/report"
)

// A result is what all came to.
type result struct {
	Time       time.Time    `json:"time"`
	Machine    string       `json:"machine"`
	Client     string       `json:"http3_client"`
	WhyClient  string       `json:"why_not_h2load,omitempty"`
	Rounds     int          `json:"rounds"`
	Each       float64      `json:"each_s"`
	Contenders []*contender `json:"contenders"`
	// Loads are the machine's load averages of a minute, before and after: with nothing
	// else to do it nears 2.
	Loads    []string  `json:"loads"`
	Rows     []row     `json:"rows"`
	Verdicts []verdict `json:"verdicts"`
}

func newResult(b *bed) *result {
	return &result{
		Time: time.Now(), Machine: fmt.Sprintf("%d cores, %s, %s", runtime.NumCPU(), kernel(), runtime.Version()),
		Client: b.client, WhyClient: b.noH2load, Rounds: b.rounds, Each: b.each.Seconds(), Contenders: b.all,
		Loads: []string{loadAverage()},
	}
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(text))
}

// loadAverage is that of the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// comparison is the report.
func (r *result) comparison() report.Comparison {
	met, judged := 0, 0
	for _, v := range r.Verdicts {
		if v.Open == "" {
			judged++
		}
		if v.Met {
			met++
		}
	}
	c := report.Comparison{
		Title: "What a hit and a new visitor cost",
		Lead: "CPU time of the server, user and system, which has one core; the load has another. Every contender of a row got the same work from " +
			"the same client, in turn, round by round. Medians of the rounds; ratios compare within this run only.",
		When: r.Time,
		Tiles: []report.Tile{
			{Label: "goals met", Value: fmt.Sprintf("%d of %d", met, judged), Note: fmt.Sprintf("%d could not be judged", len(r.Verdicts)-judged), Bad: met < judged},
			{Label: "rounds", Value: fmt.Sprint(r.Rounds), Note: fmt.Sprintf("of %g s", r.Each)},
			{Label: "load of the machine", Value: strings.Join(r.Loads, ", "), Note: "over a minute, before and after"},
		},
		Notes:    r.notes(),
		Verdicts: r.goalTable(),
	}
	for i, one := range r.Rows {
		if i > 0 && r.Rows[i-1].Trial == one.Trial {
			last := &c.Sections[len(c.Sections)-1]
			last.Tables = append(last.Tables, one.table())
			continue
		}
		c.Sections = append(c.Sections, report.Section{Title: one.Trial, Lead: one.About + " Client: " + one.Client + ".", Tables: []report.Table{one.table()}})
	}
	return c
}

// notes say who the contenders are and what the reader should know.
func (r *result) notes() []string {
	all := []string{r.Machine + "."}
	if r.WhyClient != "" {
		all = append(all, "The client of HTTP/3 is surge's own, which takes more of its core than the servers of theirs: "+r.WhyClient+".")
	}
	for _, c := range r.Contenders {
		name := strings.TrimSpace(c.Name + " " + c.Version)
		if c.Missing != "" {
			all = append(all, fmt.Sprintf("%s is not measured: %s.", name, c.Missing))
			continue
		}
		all = append(all, fmt.Sprintf("%s: %s.", name, c.About))
	}
	return append(all, "All speak TLS 1.3 with an ECDSA P-256 certificate and X25519. Busy is the share of its core that the server used: one that waits "+
		"for its load pays a little for each wait.")
}

func (r *result) goalTable() report.Table {
	t := report.Table{Title: "Goals of the node, access log on", Head: []string{"", "", "measured", "met"}}
	for _, v := range r.Verdicts {
		word := "no"
		switch {
		case v.Open != "":
			word = "not judged"
		case v.Met:
			word = "yes"
		}
		t.Rows = append(t.Rows, []string{v.title, v.Goal, v.measured(), word})
	}
	return t
}

// table shows a row: a line for each contender.
func (r row) table() report.Table {
	t := report.Table{Title: r.Title + ", " + r.Unit, Head: []string{"", "median", "of the rounds", "x spillway", "busy", ""}}
	own := r.cell(spillway)
	for _, c := range r.Cells {
		if len(c.Rounds) == 0 {
			t.Rows = append(t.Rows, []string{c.Contender, "–", "", "", "", c.Skipped})
			continue
		}
		times := ""
		if own != nil && len(own.Rounds) > 0 {
			times = fmt.Sprintf("%.2f", ratio(c, own))
		}
		spread := digits(slices.Min(c.Rounds)) + "–" + digits(slices.Max(c.Rounds))
		t.Rows = append(t.Rows, []string{c.Contender, digits(c.Value), spread, times, fmt.Sprintf("%.0f %%", 100*c.Busy), ""})
	}
	return t
}
