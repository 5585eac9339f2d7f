package waiting

import (
	"math"
	"math/bits"
	"time"
)

// A line counts visitors by their time of arrival: a Fenwick tree over slots of
// a tenth of a second, in which counting those before a time and finding the
// n-th take eighteen steps. It covers a little more than the life of a ticket,
// in a mebibyte.
type line struct {
	base int64   // the time of slot 0
	tree []int32 // tree[i] counts the slots i-(i&-i) to i-1
	all  int
}

const (
	slotTime = int64(100 * time.Millisecond / time.Microsecond)
	slots    = 1 << 18
)

// reset empties the line and lets it begin at base.
func (l *line) reset(base int64) {
	l.base, l.all = base, 0
	if l.tree == nil {
		l.tree = make([]int32, slots+1)
		return
	}
	clear(l.tree)
}

// holds reports whether the line covers a time.
func (l *line) holds(at int64) bool { return at >= l.base && at < l.base+slots*slotTime }

// add counts n visitors, or takes -n away. The line must hold the time.
func (l *line) add(at int64, n int32) {
	l.all += int(n)
	for i := int((at-l.base)/slotTime) + 1; i <= slots; i += i & -i {
		l.tree[i] += n
	}
}

// before returns how many arrived before a time. Within a slot they count as
// spread evenly.
func (l *line) before(at int64) int {
	if l.all == 0 || at <= l.base {
		return 0
	}
	if !l.holds(at) {
		return l.all
	}
	slot := int((at - l.base) / slotTime)
	below := l.sum(slot)
	within := l.sum(slot+1) - below
	return below + int(int64(within)*((at-l.base)%slotTime)/slotTime)
}

// sum counts the slots before one.
func (l *line) sum(slot int) (n int) {
	for i := slot; i > 0; i -= i & -i {
		n += int(l.tree[i])
	}
	return n
}

// find returns the end of the slot in which the n-th visitor arrived, or the end
// of time if there are not so many.
func (l *line) find(n int) int64 {
	if n > l.all {
		return math.MaxInt64
	}
	slot := 0
	for step := 1 << (bits.Len(slots) - 1); step > 0; step >>= 1 {
		if next := slot + step; next <= slots && int(l.tree[next]) < n {
			slot, n = next, n-int(l.tree[next])
		}
	}
	return l.base + int64(slot+1)*slotTime
}
