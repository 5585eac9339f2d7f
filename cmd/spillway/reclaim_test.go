package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestReclaimer goes through the beats of a node of two cores.
func TestReclaimer(t *testing.T) {
	const mib = 1 << 20
	r, cpu := reclaimer{cores: 2}, time.Duration(0)
	f := func(what string, used time.Duration, h holding, want bool) {
		t.Helper()
		cpu += used
		if got := r.due(cpu, h); got != want {
			t.Errorf("%s: due %v, want %v", what, got, want)
		}
	}
	full := holding{objects: 200 * mib, live: 50 * mib, stacks: 20 * mib}
	clean := holding{objects: 50 * mib, live: 50 * mib, stacks: 16 * mib}
	f("busy", time.Second, full, false)
	f("quiet for a moment", 100*time.Millisecond, full, false)
	f("busy again", 501*time.Millisecond, full, false)
	f("quiet", 500*time.Millisecond, full, false)
	f("quiet for long enough", 0, full, true)
	r.done(40*time.Millisecond, clean)
	f("just collected", 0, full, false)
	f("2 s for 40 ms", 0, full, true)
	r.done(time.Millisecond, clean)
	f("nothing to gain", 0, clean, false)
	f("nothing to gain", 0, clean, false)
	less := clean
	less.objects += 7 * mib
	f("hardly anything to gain", 0, less, false)
	large := holding{objects: 1000 * mib, live: 900 * mib, stacks: 16 * mib}
	f("little of much", 0, large, false)
	stacks := clean
	stacks.stacks += 20 * mib
	f("stacks have grown", 0, stacks, true)
	free := clean
	free.free = 20 * mib
	f("free pages", 0, free, true)
	f("what is older than the last collection", 0, holding{objects: 10 * mib, live: 50 * mib, stacks: 16 * mib}, false)
}

// TestReclaimGivesBack asks that what is held is what due compares: a collection leaves
// nothing to gain.
func TestReclaimGivesBack(t *testing.T) {
	heap := make([]byte, 64<<20)
	for i := 0; i < len(heap); i += 4096 {
		heap[i] = 1
	}
	before := held()
	if before.objects < 64<<20 || before.stacks <= 0 {
		t.Errorf("held %+v with 64 MiB in use", before)
	}
	runtime.KeepAlive(heap) // else it may be collected before
	heap = nil
	debug.FreeOSMemory()
	if h := held(); h.objects > before.objects-32<<20 || h.free > 32<<20 || h.live <= 0 {
		t.Errorf("held %+v, before the collection %+v", h, before)
	}
}
