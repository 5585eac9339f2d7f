package waiting

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestLine compares the line with a list.
func TestLine(t *testing.T) {
	const base = 1_790_000_000_000_000
	rapid.Check(t, func(t *rapid.T) {
		var l line
		l.reset(base)
		var all []int64
		at := rapid.Int64Range(base, base+slots*slotTime-1)
		for range rapid.IntRange(0, 60).Draw(t, "visitors") {
			v := at.Draw(t, "arrival")
			if len(all) > 0 && rapid.Bool().Draw(t, "together") {
				v = all[len(all)-1]
			}
			l.add(v, 1)
			all = append(all, v)
		}
		for range rapid.IntRange(0, len(all)).Draw(t, "leave") {
			l.add(all[0], -1)
			all = all[1:]
		}
		slices.Sort(all)
		slot := func(v int64) int64 { return (v - base) / slotTime }
		when := at.Draw(t, "when")
		least := len(slices.DeleteFunc(slices.Clone(all), func(v int64) bool { return slot(v) >= slot(when) }))
		most := len(slices.DeleteFunc(slices.Clone(all), func(v int64) bool { return slot(v) > slot(when) }))
		if got := l.before(when); got < least || got > most {
			t.Fatalf("%d before, want %d to %d", got, least, most)
		}
		n := rapid.IntRange(1, 60).Draw(t, "n")
		want := int64(math.MaxInt64)
		if n <= len(all) {
			want = base + (slot(all[n-1])+1)*slotTime
		}
		if got := l.find(n); got != want {
			t.Fatalf("number %d arrived before %d, want %d", n, got, want)
		}
		if l.before(base-1) != 0 || l.before(math.MaxInt64) != len(all) {
			t.Fatal("what the line does not hold counts")
		}
	})
}
