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
