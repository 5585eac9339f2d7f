package main

import (
	"math"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"spillway/cmd/spillway/doctor"
)

// keepMemory puts back what a test tells the collector.
func keepMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}

func TestMemoryOfTheMachine(t *testing.T) {
	keepMemory(t)
	t.Setenv("GOGC", "") // puts back what a developer has
	t.Setenv("GOMEMLIMIT", "")
	given := tuneMemory()
	if s := memoryNow(given); s.GC != gcPercent || s.Limit != int64(memoryShare*float64(given)) || s.GCBy != "" || s.LimitBy != "" {
		t.Errorf("tuned: %+v", s)
	}
	before := memoryNow(given).Limit
	leaveToCache(1 << 20)
	if got := memoryNow(given).Limit; got != before-1<<20 {
		t.Errorf("beside a cache of 1 MiB the heap has %d of %d", got, before)
	}
	leaveToCache(1 << 62)
	if got := memoryNow(given).Limit; got != int64(heapLeast*float64(before-1<<20)) {
		t.Errorf("beside a cache without end the heap has %d of %d", got, before)
	}
}

func TestMemoryOfTheEnvironment(t *testing.T) {
	keepMemory(t)
	t.Setenv("GOGC", "50") // the runtime has read it by itself when a program begins
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(1 << 30)
	given := tuneMemory()
	leaveToCache(1 << 20)
	s := memoryNow(given)
	if s.GC != 50 || s.Limit != 1<<30 || s.GCBy != "GOGC" || s.LimitBy != "GOMEMLIMIT" {
		t.Errorf("tuned over the environment: %+v", s)
	}
	if os.Getenv("GOGC") != "50" {
		t.Error("the environment was changed, and a successor gets it")
	}
}

func TestMemoryIsTold(t *testing.T) {
	f := func(s memoryState, verdict doctor.Verdict, want string) {
		t.Helper()
		if got := remembers(s); got.Verdict != verdict || got.Result != want || (verdict == doctor.OK) != (got.Remedy == "") {
			t.Errorf("got %+v, want %s: %s", got, verdict, want)
		}
	}
	f(memoryState{Given: 4 << 30, Limit: 3 << 30, GC: 400}, doctor.OK, "heap up to 3 GiB of 4 GiB, collected after growing by 400 %")
	f(memoryState{Given: 4 << 30, Limit: 1 << 30, GC: -1, GCBy: "GOGC", LimitBy: "GOMEMLIMIT"}, doctor.OK,
		"heap up to 1 GiB (GOMEMLIMIT) of 4 GiB, not collected by growth (GOGC)")
	f(memoryState{Given: 4 << 30, Limit: 5 << 30, GC: 100, LimitBy: "GOMEMLIMIT"}, doctor.Warn,
		"heap up to 5 GiB (GOMEMLIMIT) of 4 GiB, collected after growing by 100 %")
	f(memoryState{Given: 4 << 30, Limit: math.MaxInt64, GC: 100, LimitBy: "GOMEMLIMIT"}, doctor.Warn,
		"heap up to any size (GOMEMLIMIT) of 4 GiB, collected after growing by 100 %")
	f(memoryState{}, doctor.OK, "not told: the node runs an older version than this command")
	var b strings.Builder
	state := nodeState{Memory: memoryState{Given: 4 << 30, Limit: 3 << 30, GC: 400}}
	if err := state.write(&b); err != nil || !strings.Contains(b.String(), "heap up to 3 GiB of 4 GiB") {
		t.Errorf("status: %v\n%s", err, &b)
	}
}
