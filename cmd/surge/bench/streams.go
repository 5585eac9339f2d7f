package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// bar is what the edge may cost over the yardstick.
const bar = 1.25

// A row is one shape of load, measured on both servers.
type row struct {
	Shape  string    `json:"shape"`
	Edge   float64   `json:"edge_us"` // CPU per request, medians
	Bare   float64   `json:"bare_us"`
	Ratio  float64   `json:"ratio"`
	Ratios []float64 `json:"ratios"` // of each round, sorted
}

// measureStreams measures every shape in every round, the servers in turn.
func (f *field) measureStreams(ctx context.Context, o options, progress io.Writer) ([]row, error) {
	edge, yardstick := f.peer("spillway"), f.peer(bare)
	var rows []row
	for _, s := range shapes {
		var edgeCosts, bareCosts, ratios []float64
		for i := range o.rounds {
			// The order alternates, so that neither has the warmer machine.
			peers := []*peer{edge, yardstick}
			if i%2 == 1 {
				slices.Reverse(peers)
			}
			cost := map[*peer]float64{}
			for _, p := range peers {
				used, err := p.measure(ctx, s, o.each)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", p.Name, s.name, err)
				}
				cost[p] = used
			}
			edgeCosts, bareCosts = append(edgeCosts, cost[edge]), append(bareCosts, cost[yardstick])
			ratios = append(ratios, cost[edge]/cost[yardstick])
			fmt.Fprintf(progress, "%-12s round %d: edge %.1f us, bare %.1f us, ratio %.2f\n", s.name, i+1, cost[edge], cost[yardstick], cost[edge]/cost[yardstick])
		}
		slices.Sort(ratios)
		rows = append(rows, row{s.name, median(edgeCosts), median(bareCosts), median(ratios), ratios})
	}
	return rows, nil
}

// errNoAnswer says that a time was too short to measure anything in.
var errNoAnswer = errors.New("nothing was answered")

// measure loads the peer and returns its CPU time per request, in
// microseconds.
func (p *peer) measure(ctx context.Context, s shape, d time.Duration) (float64, error) {
	var answered int64
	used, err := p.usage(func() (err error) {
		answered, err = drive(ctx, s, p.address, fmt.Sprintf("/bytes/%d", hitBytes), d)
		return err
	})
	if err != nil {
		return 0, err
	}
	if answered == 0 {
		return 0, errNoAnswer
	}
	return float64(used.Microseconds()) / float64(answered), nil
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
