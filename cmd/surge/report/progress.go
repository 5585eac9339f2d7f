package report

import (
	"cmp"
	"fmt"
	"strings"

	"spillway/cmd/surge/crowd"
)

// Progress is one line about a crowd that is under way. Rates are of the last full
// second, percentiles of the last five.
func Progress(s crowd.Snapshot) string {
	var b strings.Builder
	phase := cmp.Or(s.Phase, "leaving")
	fmt.Fprintf(&b, "%4.0fs/%.0fs  %-10s offered %5d/s  answered %5d/s  errors %4d/s  p50 %8s  p99 %8s",
		s.Elapsed.Seconds(), s.Length.Seconds(), phase, s.Last.Offered, s.Last.Answered, s.Last.Errors,
		millis(s.P50), millis(s.P99))
	for _, word := range byLayer(s.Last) {
		fmt.Fprintf(&b, "  %s %d", word, s.Last.Outcomes[word])
	}
	for _, class := range byCount(s.Last.ClientErrors) {
		fmt.Fprintf(&b, "  %s %d", class, s.Last.ClientErrors[class])
	}
	return b.String()
}
