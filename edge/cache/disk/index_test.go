package disk

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPackedEntries come out as they went in, at all of their limits.
func TestPackedEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := entry{
			place: place{
				segment: rapid.Uint32Range(0, lastOrdinal).Draw(t, "segment"),
				offset:  rapid.Uint32Range(0, largestSegment/alignment-1).Draw(t, "offset") * alignment,
			},
			length: readLength(rapid.Int64Range(1, wholeBytes+1).Draw(t, "length")),
			hits:   rapid.Uint8Range(0, maxHits).Draw(t, "hits"),
			split:  rapid.Bool().Draw(t, "split"),
		}
		if got := e.pack().entry(); got != e {
			t.Fatalf("%+v came out as %+v", e, got)
		}
	})
}
