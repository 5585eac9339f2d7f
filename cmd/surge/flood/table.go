package flood

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// A row is what a trial came to: medians of the rounds.
type row struct {
	Profile profile `json:"profile"`
	Payload payload `json:"payload"`
	Rate    int     `json:"rate"` // asked for; 0 is as much as went
	Setting string  `json:"setting"`
	Sent    float64 `json:"sent_per_second"`
	// Loads are the shares of loads that came, of the classes that there were.
	Loads map[class]float64 `json:"loads"`
	// H2 is the share of those that came over HTTP/2.
	H2 float64 `json:"h2"`
	// P50 and P99 are of all loads, in milliseconds; one that failed took as long as
	// a visitor waits.
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	// Shares of the node's core: what its program used, what packets took before it,
	// and what was left. The visitors are the rest.
	Node    float64 `json:"node"`
	Softirq float64 `json:"softirq"`
	Idle    float64 `json:"idle"`
	// Memory is the most that the node held, in MiB, in any round.
	Memory float64 `json:"memory_mib"`
	// Counts are the node's own, and Levels when they changed and why, of the last round.
	Counts map[string]float64 `json:"counts"`
	Levels []string           `json:"levels,omitempty"`
	P99s   []float64          `json:"p99s_ms"` // of the rounds, sorted
	Errors map[string]int     `json:"errors,omitempty"`
}

func newRow(t trial, rounds []result) row {
	r := row{Profile: t.Profile, Payload: t.Payload, Rate: t.Rate, Setting: t.Setting.Name, Loads: map[class]float64{}, Errors: map[string]int{}}
	over := func(f func(result) float64) float64 {
		v := make([]float64, len(rounds))
		for i := range rounds {
			v[i] = f(rounds[i])
		}
		return median(v)
	}
	for _, c := range classes {
		if share := over(func(x result) float64 { return came(x.loads, c) }); !math.IsNaN(share) {
			r.Loads[c] = share
		}
	}
	r.Sent = over(func(x result) float64 { return x.sent.perSecond() })
	r.H2 = over(func(x result) float64 { return fellBack(x.loads) })
	r.P50 = over(func(x result) float64 { return quantile(x.loads, .5) })
	r.P99 = over(func(x result) float64 { return quantile(x.loads, .99) })
	r.Node = over(func(x result) float64 { return x.node })
	r.Softirq = over(func(x result) float64 { return x.softirq })
	r.Idle = over(func(x result) float64 { return x.idle })
	for _, x := range rounds {
		r.Memory = max(r.Memory, float64(x.memory)/(1<<20))
		r.P99s = append(r.P99s, quantile(x.loads, .99))
		r.Counts, r.Levels = x.counts, x.levels
		for _, l := range x.loads {
			if !l.OK {
				r.Errors[l.Error]++
			}
		}
	}
	slices.Sort(r.P99s)
	return r
}

// came returns the share of a class's loads that came, and no number if it had none.
func came(loads []load, of class) float64 {
	all, ok := 0., 0.
	for _, l := range loads {
		if l.Class == of {
			all++
			if l.OK {
				ok++
			}
		}
	}
	return ok / all
}

// fellBack returns the share of the loads that came, which came over HTTP/2.
func fellBack(loads []load) float64 {
	all, h2 := 0., 0.
	for _, l := range loads {
		if l.OK {
			all++
			if l.Proto == "h2" {
				h2++
			}
		}
	}
	return h2 / max(all, 1)
}

// quantile returns how long that share of the loads took at most, in milliseconds.
func quantile(loads []load, q float64) float64 {
	if len(loads) == 0 {
		return math.Inf(1)
	}
	times := make([]time.Duration, len(loads))
	for i, l := range loads {
		times[i] = l.Took
	}
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)].Seconds() * 1e3
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// line is a trial in a few words.
func (r row) line() string {
	var parts []string
	for _, c := range classes {
		if share, ok := r.Loads[c]; ok {
			parts = append(parts, fmt.Sprintf("%s %.1f%%", c, 100*share))
		}
	}
	return fmt.Sprintf("%s, p50 %.0f ms, p99 %.0f ms, node %.0f%%, softirq %.0f%%, left %.0f%%, %.0f MiB, sent %.0f/s",
		strings.Join(parts, ", "), r.P50, r.P99, 100*r.Node, 100*r.Softirq, 100*r.Idle, r.Memory, r.Sent)
}

// write prints a table for each profile and payload, or all as JSON.
func write(w io.Writer, rows []row, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(rows)
	}
	head := ""
	for _, r := range rows {
		if h := fmt.Sprintf("Profile %s, Initials are %s; medians", r.Profile, r.Payload); h != head {
			head = h
			fmt.Fprintf(w, "\n%s\n%8s  %-12s %9s %9s %7s %7s %6s %8s %8s %6s %8s %6s %7s   %s\n", h, "rate", "", "sent/s",
				"returning", "first", "block", "h2", "p50 ms", "p99 ms", "node", "softirq", "left", "MiB", "p99 of the rounds")
		}
		fmt.Fprintf(w, "%8s  %-12s %9.0f %9s %7s %7s %5.0f%% %8.1f %8.1f %5.0f%% %7.0f%% %5.0f%% %7.0f   %.0f\n", rateName(r.Rate), r.Setting, r.Sent,
			r.share(returning), r.share(first), r.share(inBlock), 100*r.H2, r.P50, r.P99, 100*r.Node, 100*r.Softirq, 100*r.Idle, r.Memory, r.P99s)
	}
	fmt.Fprintln(w, "\nWhat the node counted in the last round")
	for _, r := range rows {
		fmt.Fprintf(w, "%s, %s, %s/s, %s:", r.Profile, r.Payload, rateName(r.Rate), r.Setting)
		for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
			fmt.Fprintf(w, " %s %.0f;", name, r.Counts[name])
		}
		for _, l := range r.Levels {
			fmt.Fprintf(w, " after %s;", l)
		}
		fmt.Fprintln(w)
	}
	return nil
}

func (r row) share(c class) string {
	if v, ok := r.Loads[c]; ok {
		return fmt.Sprintf("%.1f%%", 100*v)
	}
	return "-"
}
