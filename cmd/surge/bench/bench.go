// Package bench measures what the edge costs: the CPU time per request of a hit and
// per new visitor beside http3.Server alone, the CPU time per hit in each protocol
// beside the libraries alone, nginx and Varnish, and what a crowd on a cold key meets
// at each of the caches.
//
// The servers are processes of their own with one core, and answer the same body in
// turn, round by round. Only ratios of one run mean something: the machine's noise
// hits all. Peers that are not installed are left out, and the report says so. What
// cannot be measured is an error, never a figure.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// hitBytes is the body of a hit.
const hitBytes = 1024

// bar is what the edge may cost over the yardstick.
const bar = 1.25

type options struct {
	parts  []string
	rounds int
	each   time.Duration
	strict bool
	json   bool
}

// The parts of the benchmark, in the order in which they are played.
const (
	partStreams  = "streams"
	partHits     = "hits"
	partCollapse = "collapse"
)

var parts = []string{partStreams, partHits, partCollapse}

// Command is `surge bench`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the edge's CPU per request beside quic-go alone and other caches, and how crowds collapse",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			cmd.SilenceUsage = true
			r, err := run(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := r.write(cmd.OutOrStdout(), o.json); err != nil {
				return err
			}
			return o.judge(r.Streams)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.parts, "part", parts, "what to measure: "+strings.Join(parts, ", "))
	f.IntVar(&o.rounds, "rounds", 5, "rounds of each measurement; medians are reported")
	f.DurationVar(&o.each, "each", 3*time.Second, "length of one measurement")
	f.BoolVar(&o.strict, "strict", false, fmt.Sprintf("exit 1 when a ratio of the part %s is above %.2f", partStreams, bar))
	f.BoolVar(&o.json, "json", false, "write JSON")
	return cmd
}

func (o options) check() error {
	for _, p := range o.parts {
		if !slices.Contains(parts, p) {
			return fmt.Errorf("part %q: must be one of %s", p, strings.Join(parts, ", "))
		}
	}
	if o.rounds < 1 {
		return fmt.Errorf("rounds: must be at least 1")
	}
	return nil
}

// A report is what the parts came to. A part that was not asked for is empty.
type report struct {
	Streams  []row      `json:"streams,omitempty"`
	Hits     []hit      `json:"hits,omitempty"`
	Collapse []collapse `json:"collapse,omitempty"`
	Peers    []*peer    `json:"peers,omitempty"`
	Skipped  []string   `json:"skipped,omitempty"` // which peers, and why
}

// run measures the parts that are asked for.
func run(ctx context.Context, o options, progress io.Writer) (report, error) {
	var r report
	var err error
	if slices.Contains(o.parts, partStreams) {
		if r.Streams, err = measureStreams(ctx, o, progress); err != nil {
			return r, err
		}
	}
	if !slices.Contains(o.parts, partHits) && !slices.Contains(o.parts, partCollapse) {
		return r, nil
	}
	f, err := newField(ctx)
	if err != nil {
		return r, err
	}
	defer f.stop()
	r.Peers, r.Skipped = f.peers, f.skipped
	if slices.Contains(o.parts, partHits) {
		if r.Hits, err = f.measureHits(ctx, o, progress); err != nil {
			return r, err
		}
	}
	if slices.Contains(o.parts, partCollapse) {
		r.Collapse, err = f.measureCollapse(ctx, o, progress)
	}
	return r, err
}

// A row is one shape of load, measured on both servers.
type row struct {
	Shape  string    `json:"shape"`
	Edge   float64   `json:"edge_us"` // CPU per request, medians
	Bare   float64   `json:"bare_us"`
	Ratio  float64   `json:"ratio"`
	Ratios []float64 `json:"ratios"` // of each round, sorted
}

// measureStreams measures every shape in every round, the servers in turn.
func measureStreams(ctx context.Context, o options, progress io.Writer) ([]row, error) {
	dir, err := os.MkdirTemp("", "surge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	edge, bare, stop, err := startServers(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer stop()
	var rows []row
	for _, s := range shapes {
		var edgeCosts, bareCosts, ratios []float64
		for i := range o.rounds {
			// The order alternates, so that neither server has the warmer machine.
			servers := []*server{edge, bare}
			if i%2 == 1 {
				slices.Reverse(servers)
			}
			cost := map[*server]float64{}
			for _, srv := range servers {
				if cost[srv], err = srv.measure(ctx, s, o.each); err != nil {
					return nil, fmt.Errorf("%s, %s: %w", srv.name, s.name, err)
				}
			}
			edgeCosts, bareCosts = append(edgeCosts, cost[edge]), append(bareCosts, cost[bare])
			ratios = append(ratios, cost[edge]/cost[bare])
			fmt.Fprintf(progress, "%-12s round %d: edge %.1f us, bare %.1f us, ratio %.2f\n", s.name, i+1, cost[edge], cost[bare], cost[edge]/cost[bare])
		}
		slices.Sort(ratios)
		rows = append(rows, row{s.name, median(edgeCosts), median(bareCosts), median(ratios), ratios})
	}
	return rows, nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func (r report) write(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	for _, write := range []func(io.Writer){r.writeStreams, r.writeHits, r.writeCollapse} {
		write(w)
	}
	for _, p := range r.Peers {
		if p.Version != "" {
			fmt.Fprintf(w, "%s is %s\n", p.Name, p.Version)
		}
	}
	for _, s := range r.Skipped {
		fmt.Fprintln(w, "skipped:", s)
	}
	return nil
}

func (r report) writeStreams(w io.Writer) {
	if len(r.Streams) == 0 {
		return
	}
	fmt.Fprintf(w, "CPU per request of a hit of %d bytes over HTTP/3, medians\n", hitBytes)
	fmt.Fprintf(w, "%-12s %10s %10s %8s   %s\n", "", "edge us", "bare us", "ratio", "ratios of the rounds")
	for _, r := range r.Streams {
		fmt.Fprintf(w, "%-12s %10.1f %10.1f %8.2f   %.2f\n", r.Shape, r.Edge, r.Bare, r.Ratio, r.Ratios)
	}
}

func (o options) judge(rows []row) error {
	for _, r := range rows {
		if o.strict && r.Ratio > bar {
			return fmt.Errorf("%s: the edge costs %.2f times the yardstick, more than %.2f", r.Shape, r.Ratio, bar)
		}
	}
	return nil
}
