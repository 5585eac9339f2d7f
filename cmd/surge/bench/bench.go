// Package bench measures what the edge costs over the library that it stands
// on: the CPU time per request of a hit and per new visitor, beside http3.Server
// alone, in one interleaved run.
//
// The servers are processes of their own with the same GOGC and one core, and
// answer the same fields and body. Only ratios of one run mean something: the
// machine's noise hits both.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// hitBytes is the body of a hit.
const hitBytes = 1024

// bar is what the edge may cost over the yardstick.
const bar = 1.25

type options struct {
	rounds int
	each   time.Duration
	strict bool
	json   bool
}

// Command is `surge bench`.
func Command() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the edge's CPU per request beside quic-go alone",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage = true
			rows, err := run(cmd.Context(), o, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := write(cmd.OutOrStdout(), rows, o.json); err != nil {
				return err
			}
			return o.judge(rows)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.rounds, "rounds", 5, "rounds of each measurement; medians are reported")
	f.DurationVar(&o.each, "each", 3*time.Second, "length of one measurement")
	f.BoolVar(&o.strict, "strict", false, fmt.Sprintf("exit 1 when a ratio is above %.2f", bar))
	f.BoolVar(&o.json, "json", false, "write JSON")
	return cmd
}

// A row is one shape of load, measured on both servers.
type row struct {
	Shape  string    `json:"shape"`
	Edge   float64   `json:"edge_us"` // CPU per request, medians
	Bare   float64   `json:"bare_us"`
	Ratio  float64   `json:"ratio"`
	Ratios []float64 `json:"ratios"` // of each round, sorted
}

// run measures every shape in every round, the servers in turn.
func run(ctx context.Context, o options, progress io.Writer) ([]row, error) {
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

func write(w io.Writer, rows []row, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(rows)
	}
	fmt.Fprintf(w, "CPU per request of a hit of %d bytes over HTTP/3, medians\n", hitBytes)
	fmt.Fprintf(w, "%-12s %10s %10s %8s   %s\n", "", "edge us", "bare us", "ratio", "ratios of the rounds")
	for _, r := range rows {
		fmt.Fprintf(w, "%-12s %10.1f %10.1f %8.2f   %.2f\n", r.Shape, r.Edge, r.Bare, r.Ratio, r.Ratios)
	}
	return nil
}

func (o options) judge(rows []row) error {
	for _, r := range rows {
		if o.strict && r.Ratio > bar {
			return fmt.Errorf("%s: the edge costs %.2f times the yardstick, more than %.2f", r.Shape, r.Ratio, bar)
		}
	}
	return nil
}
