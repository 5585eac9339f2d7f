package main

import (
	"os"
	"runtime/debug"

	"spillway/edge/admit"
)

// gcPercent lets the heap grow to five times what is live before it is
// collected. A hit over HTTP/3 costs a fifth less CPU than at the default of
// 100, for some megabytes more.
const gcPercent = 400

// memoryShare of what the process may use is the runtime's soft limit: near it
// the collector works harder, so that a large heap is never the reason why the
// kernel ends the node.
const memoryShare = 0.75

// heapLeast is the part of that limit which the cache never takes from the heap,
// however large it is said to be.
const heapLeast = 0.25

// leaveToCache lowers the runtime's limit by what the cache holds outside of the
// heap, which the runtime does not see, unless the environment sets the limit.
// It comes after admission has counted how many connections fit into all of it.
func leaveToCache(bytes int64) {
	if os.Getenv("GOMEMLIMIT") == "" {
		limit := debug.SetMemoryLimit(-1)
		debug.SetMemoryLimit(max(limit-bytes, int64(heapLeast*float64(limit))))
	}
}

// tuneMemory sets the garbage collector for a node, unless the environment
// does.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(memoryShare * float64(admit.Memory())))
	}
}
