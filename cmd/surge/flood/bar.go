package flood

import (
	"fmt"
	"io"
	"slices"
)

// Bars, for all of admission. Where an address is forged, its owner shares the
// chances of the flood.
var bars = map[class]float64{returning: .99, first: .95, inBlock: .90}

const (
	barRate   = 20_000 // packets a second, up to which bars are set
	barP99    = 2      // times that of the reference
	barMemory = 512    // MiB more than the reference: unfinished handshakes are bounded
)

// missed says which bars the rows miss.
func missed(rows []row) []string {
	var all []string
	judged := 0
	for _, r := range rows {
		if r.Setting != "full" || r.Rate == 0 || r.Rate > barRate {
			continue
		}
		judged++
		say := func(format string, args ...any) {
			all = append(all, fmt.Sprintf("%s, %s, %d/s: ", r.Profile, r.Payload, r.Rate)+fmt.Sprintf(format, args...))
		}
		for _, c := range classes {
			bar := bars[c]
			if r.Profile == shared {
				bar = bars[inBlock]
			}
			if share, ok := r.Loads[c]; ok && share < bar {
				say("%.1f %% of the %s loads came, not %.0f %%", 100*share, c, 100*bar)
			}
		}
		beside := slices.IndexFunc(rows, func(o row) bool {
			return o.Setting == reference && o.Profile == r.Profile && o.Payload == r.Payload && o.Rate == r.Rate
		})
		if beside < 0 {
			say("the p99 of a %s was not measured", reference)
			continue
		}
		if limit := barP99 * rows[beside].P99; r.P99 > limit {
			say("p99 is %.0f ms, more than %.0f ms", r.P99, limit)
		}
		if limit := rows[beside].Memory + barMemory; r.Memory > limit {
			say("the node held %.0f MiB, more than %.0f MiB", r.Memory, limit)
		}
	}
	if judged == 0 {
		all = append(all, "nothing was measured that a bar is set for")
	}
	return all
}

// judge says which bars were missed, and fails for it if it is to be strict.
func (o options) judge(rows []row, w io.Writer) error {
	all := missed(rows)
	for _, m := range all {
		fmt.Fprintln(w, "missed:", m)
	}
	if o.strict && len(all) > 0 {
		return fmt.Errorf("%d bars are missed", len(all))
	}
	return nil
}
