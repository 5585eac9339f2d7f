package main

import (
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"

	"spillway/cmd/spillway/doctor"
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
// does. It returns how many bytes the process may use, as far as the machine and
// its control group say.
func tuneMemory() int64 {
	given := admit.Given()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(memoryShare * float64(given)))
	}
	return given
}

// memoryState says what the collector was told, and by whom.
type memoryState struct {
	// Given is what the process may use, Limit the runtime's soft limit, in bytes.
	Given int64 `json:"given_bytes"`
	Limit int64 `json:"limit_bytes"`
	// GC is by how many percent of what is live the heap grows between collections;
	// negative is without end.
	GC int64 `json:"gc_percent"`
	// The variables of the environment that set them, or empty.
	LimitBy string `json:"limit_by,omitempty"`
	GCBy    string `json:"gc_by,omitempty"`
}

// memoryNow asks the runtime.
func memoryNow(given int64) memoryState {
	samples := []metrics.Sample{{Name: "/gc/gomemlimit:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(samples)
	s := memoryState{Given: given, Limit: int64(samples[0].Value.Uint64()), GC: int64(samples[1].Value.Uint64())}
	for name, by := range map[string]*string{"GOMEMLIMIT": &s.LimitBy, "GOGC": &s.GCBy} {
		if os.Getenv(name) != "" {
			*by = name
		}
	}
	return s
}

// String is the line of spillway status.
func (s memoryState) String() string {
	if s == (memoryState{}) {
		return "not told: the node runs an older version than this command"
	}
	by := func(variable string) string {
		if variable == "" {
			return ""
		}
		return " (" + variable + ")"
	}
	limit := "any size"
	if s.Limit < math.MaxInt64 {
		limit = sizeText(s.Limit)
	}
	growth := "not collected by growth"
	if s.GC >= 0 {
		growth = fmt.Sprintf("collected after growing by %d %%", s.GC)
	}
	return fmt.Sprintf("heap up to %s%s of %s, %s%s", limit, by(s.LimitBy), sizeText(s.Given), growth, by(s.GCBy))
}

// remembers is what the doctor says of it.
func remembers(s memoryState) doctor.Finding {
	f := doctor.Finding{What: "memory", Verdict: doctor.OK, Result: s.String()}
	if s.Limit > s.Given {
		f.Verdict, f.Remedy = doctor.Warn, "lower GOMEMLIMIT, or leave it out: the kernel ends the node before the collector works harder"
	}
	return f
}
