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
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// hitBytes is the body of a hit.
const hitBytes = 1024

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
func run(ctx context.Context, o options, progress io.Writer) (r report, err error) {
	f, err := newField(ctx)
	if err != nil {
		return r, err
	}
	defer f.stop()
	r.Peers, r.Skipped = f.peers, f.skipped
	if slices.Contains(o.parts, partStreams) {
		if r.Streams, err = f.measureStreams(ctx, o, progress); err != nil {
			return r, err
		}
	}
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
