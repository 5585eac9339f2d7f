package demo

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"spillway/cmd/surge/crowd"
)

// A Summary is what the demo came to. Its fields are those of the JSON line.
type Summary struct {
	Offered  int64            `json:"offered"`  // requests scheduled
	Answered int64            `json:"answered"` // complete 2xx or 3xx within 5 s
	Errors   int64            `json:"errors"`   // offered less answered
	Outcomes map[string]int64 `json:"outcomes"`
	// ClientErrors are the errors that carried no outcome.
	ClientErrors map[string]int64 `json:"client_errors"`
	// OriginGoodputRatio is the origin's completions that the visitor had not
	// given up, against its capacity, over the overloaded seconds.
	OriginGoodputRatio float64 `json:"origin_goodput_ratio"`
	P50                float64 `json:"p50_ms"`
	P99                float64 `json:"p99_ms"`
	P999               float64 `json:"p999_ms"`
	FunctionCostUSD    float64 `json:"function_cost_usd"`
	PricedAs           string  `json:"priced_as"`
	OriginLimit        int     `json:"origin_limit"`
	Protocol           string  `json:"protocol"`
	// CPUIsolated says whether the parts had cores of their own.
	CPUIsolated bool               `json:"cpu_isolated"`
	CPUSeconds  map[string]float64 `json:"cpu_seconds"`
	// BusiestSecond is the largest share of the machine's CPU time in use over a
	// whole second.
	BusiestSecond float64 `json:"busiest_second"`
	Warning       string  `json:"warning,omitempty"`
}

// saturated is the share of CPU time above which the machine, not the edge,
// sets the figures.
const saturated = 0.97

// summarise reads the result of the crowd and the frames of the watcher.
func (w *watcher) summarise(r crowd.Result, began time.Time, phases []crowd.Phase) Summary {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := w.frames[len(w.frames)-1]
	s := Summary{
		Offered: r.Offered, Answered: r.Answered, Errors: r.Errors,
		Outcomes: r.Outcomes, ClientErrors: r.ClientErrors,
		P50: r.P50, P99: r.P99, P999: r.P999, Protocol: r.Protocol,
		FunctionCostUSD: last.edge.Functions["local"].CostUSD, PricedAs: "aws-lambda, list price, data out included",
		OriginLimit: last.edge.Origins["app"].Limit.Limit,
		CPUIsolated: w.stage.isolated, CPUSeconds: last.cpu,
	}
	from, to := overloaded(began, phases)
	s.OriginGoodputRatio = math.Round(last.origin.Goodput(from, to)*1000) / 1000
	for i := 1; i < len(w.frames); i++ {
		s.BusiestSecond = max(s.BusiestSecond, (w.frames[i].busy+w.frames[i-1].busy)/2)
	}
	if s.BusiestSecond > saturated {
		s.Warning = "the machine was saturated: latencies and errors are also its own"
	}
	return s
}

// overloaded returns the whole seconds, in Unix time, in which more arrived
// than the origin can serve. The phases only rise.
func overloaded(began time.Time, phases []crowd.Phase) (from, to int64) {
	at := began
	for _, p := range phases {
		if p.From > capacity {
			break
		}
		at = at.Add(p.Length)
	}
	return at.Unix() + 1, began.Add(crowd.Length(phases)).Unix()
}

// print writes the summary for a person.
func (s Summary) print(w io.Writer, report string) {
	fmt.Fprintf(w, "\n%d requests offered, %d answered within 5 s, %d errors (%.2f %%)\n",
		s.Offered, s.Answered, s.Errors, 100*float64(s.Errors)/float64(max(s.Offered, 1)))
	for _, word := range slices.Sorted(maps.Keys(s.Outcomes)) {
		fmt.Fprintf(w, "  %-12s %7d\n", word, s.Outcomes[word])
	}
	for _, class := range slices.Sorted(maps.Keys(s.ClientErrors)) {
		fmt.Fprintf(w, "  %-12s %7d  (seen by the client only)\n", class, s.ClientErrors[class])
	}
	fmt.Fprintf(w, "latency     p50 %.0f ms, p99 %.0f ms, p99.9 %.0f ms\n", s.P50, s.P99, s.P999)
	fmt.Fprintf(w, "origin      %.1f %% of its capacity was of use to visitors while overloaded; learned limit %d\n",
		s.OriginGoodputRatio*100, s.OriginLimit)
	fmt.Fprintf(w, "functions   $%.4f (%s)\n", s.FunctionCostUSD, s.PricedAs)
	fmt.Fprintf(w, "CPU seconds edge %.1f, origin %.1f, functions %.1f, crowd %.1f; parts on cores of their own: %v\n",
		s.CPUSeconds["edge"], s.CPUSeconds["origin"], s.CPUSeconds["functions"], s.CPUSeconds["crowd"], s.CPUIsolated)
	if s.Warning != "" {
		fmt.Fprintf(w, "warning     %s\n", s.Warning)
	}
	fmt.Fprintf(w, "report      %s\n", report)
}
