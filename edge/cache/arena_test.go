package cache

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// auditMemory walks through an arena, and returns how many bytes of it are free,
// taken, and taken by what is in no queue.
func auditMemory(t interface{ Fatalf(string, ...any) }, a *arena) (free, taken, apart int64) {
	listed := map[uint32]bool{}
	for c, i := range a.free {
		if (i != 0) != (a.occupied[c/64]>>(c%64)&1 == 1) {
			t.Fatalf("arena: class %d with first slot %d is said to be the other", c, i)
		}
		for ; i != 0; i = a.slots[i].next {
			if class(a.slots[i].length) != c {
				t.Fatalf("arena: %d units in class %d", a.slots[i].length, c)
			}
			listed[i] = true
		}
	}
	needed := make([]bool, len(a.resident))
	var end, below uint32
	for i := uint32(1); i != 0; i = a.slots[i].above {
		s := &a.slots[i]
		if s.start != end || s.below != below || s.length == 0 {
			t.Fatalf("arena: slot %d from %d, %d units, above %d; not above %d at %d", i, s.start, s.length, s.below, below, end)
		}
		if isFree := s.state == 0; isFree != listed[i] || isFree && below != 0 && a.slots[below].state == 0 {
			t.Fatalf("arena: slot %d, free %t, listed %t, is above %d", i, isFree, listed[i], below)
		}
		delete(listed, i)
		end, below = s.start+s.length, i
		if s.state == 0 {
			free += int64(s.length) * unit
			if s.pins.Load() != 0 {
				t.Fatalf("arena: slot %d is free, and has %#x pins", i, s.pins.Load())
			}
			continue
		}
		taken += s.size()
		if s.state == reserved {
			apart += s.size()
		}
		first, last := a.pages(s.start, s.length)
		for p := first; p < last; p++ {
			needed[p] = true
		}
	}
	if int64(end)*unit != int64(len(a.data)) || len(listed) > 0 {
		t.Fatalf("arena: ends at %d of %d, %d slots lost", end, len(a.data)/unit, len(listed))
	}
	var held int64
	for p := range needed {
		if a.resident[p] {
			held += a.page
		}
		if needed[p] && !a.resident[p] || a.resident[p] && int64(p) >= a.top {
			t.Fatalf("arena: page %d: needed %t, resident %t", p, needed[p], a.resident[p])
		}
	}
	if held != a.held {
		t.Fatalf("arena: %d bytes resident, says %d", held, a.held)
	}
	return free, taken, apart
}

// What is in use keeps its bytes, whatever happens beside it, and the limit holds.
func TestArenaKeepsWhatIsInUse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(16<<10, 1<<20).Draw(t, "limit")
		a, _ := newArena(limit, 1)
		a.onFree = poison
		inUse := map[uint32][]byte{}
		fill := byte(0)
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				n := uint32(rapid.IntRange(1, 1000).Draw(t, "units"))
				i := a.find(n)
				if i == 0 {
					t.Skip("no stretch")
				}
				if over := a.taken() + a.cost(i, n) - limit; over > 0 {
					before := a.taken()
					if given := a.shed(over, i, n); a.taken() != before-given {
						t.Fatalf("gave %d, and holds %d instead of %d", given, a.taken(), before)
					}
					if a.taken()+a.cost(i, n) > limit {
						if len(inUse) == 0 && int64(n)*unit <= limit-int64(a.made)*slotSize-2*a.page {
							t.Fatal("no room where nothing is in use")
						}
						t.Skip("full")
					}
				}
				a.take(i, n)
				fill++
				b := a.bytes(i, int64(n)*unit)
				copy(b, bytes.Repeat([]byte{fill}, len(b)))
				inUse[i] = bytes.Clone(b)
			},
			"release": func(t *rapid.T) {
				for i := range inUse {
					a.release(i)
					delete(inUse, i)
					return
				}
			},
			"shed": func(t *rapid.T) { a.shed(rapid.Int64Range(1, limit).Draw(t, "bytes"), 0, 0) },
			"": func(t *rapid.T) {
				auditMemory(t, &a)
				if a.taken() > limit {
					t.Fatalf("%d bytes of %d", a.taken(), limit)
				}
				for i, want := range inUse {
					if !bytes.Equal(a.bytes(i, int64(len(want))), want) {
						t.Fatalf("slot %d has changed", i)
					}
				}
			},
		})
	})
}

// All lengths of a class are below those of the next.
func TestClassesAreInOrder(t *testing.T) {
	last := 0
	for n := uint32(1); n < 1<<20; n++ {
		c := class(n)
		if c != last && c < last || c >= classes {
			t.Fatalf("%d units are in class %d, after %d", n, c, last)
		}
		last = c
	}
	if c := class(1<<32 - 1); c != classes-1 {
		t.Errorf("the longest are in class %d", c)
	}
}

// Pages that are given back are not in memory any more.
func TestShedPagesAreGone(t *testing.T) {
	a, _ := newArena(1<<20, 1)
	i := a.find(1000)
	a.take(i, 1000)
	b := a.bytes(i, 1000*unit)
	for j := range b {
		b[j] = 1
	}
	a.release(i)
	if given := a.shed(1<<20, 0, 0); given != roundUp(1000*unit, a.page) || a.held != 0 {
		t.Errorf("gave %d, holds %d", given, a.held)
	}
	if bytes.IndexByte(b, 1) >= 0 {
		t.Error("the pages are still there")
	}
	runtime.KeepAlive(&a) // else they are unmapped while they are looked at
}

// Where address space is limited the rest of the process needs it, too.
func TestLimitedAddressSpace(t *testing.T) {
	const limit = 1 << 20
	for _, resource := range [...]int{unix.RLIMIT_AS, unix.RLIMIT_DATA} {
		var was unix.Rlimit
		if err := unix.Getrlimit(resource, &was); err != nil || was.Cur != unix.RLIM_INFINITY {
			t.Skipf("limit %d is %+v already: %v", resource, was, err)
		}
		finite := was
		finite.Cur = 1 << 62 // of no effect
		if err := unix.Setrlimit(resource, &finite); err != nil {
			t.Fatal(err)
		}
		a, _ := newArena(limit, 1)
		if err := unix.Setrlimit(resource, &was); err != nil {
			t.Fatal(err)
		}
		if n := int64(len(a.data)); n > limit+a.page {
			t.Errorf("with limit %d: %d bytes for %d", resource, n, limit)
		}
	}
}

// heapOnly makes arenas on the heap, where the race detector sees them.
func heapOnly(t *testing.T) {
	was := mapMemory
	mapMemory = func(int) ([]byte, error) { return nil, errors.New("no address space") }
	t.Cleanup(func() { mapMemory = was })
}

// poison overwrites memory that nobody may read any more.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}
