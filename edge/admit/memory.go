package admit

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// perConnection is what an idle HTTP/3 connection holds with the collector as the node
// sets it, measured (BenchmarkIdleHTTP3 of cmd/spillway); HTTP/2 and HTTP/1.1 need half
// of it.
const perConnection = 96 << 10

// connectionsFor returns how many connections fit into half of the memory. The
// other half belongs to the cache and to bodies.
func connectionsFor(bytes int64) int64 {
	return max(bytes/2/perConnection, 1000)
}

// Memory returns how many bytes the process may use: the least of what the
// machine has, its control group allows, and the runtime is told.
func Memory() int64 { return min(Given(), debug.SetMemoryLimit(-1)) }

// Given is the least of what the machine has and its control group allows, whatever the
// runtime is told.
func Given() int64 {
	least := int64(1 << 30) // where nothing can be read, a small machine
	if m, ok := machineMemory(); ok {
		least = m
	}
	for _, file := range []string{
		"/sys/fs/cgroup/memory.max",
		"/sys/fs/cgroup/memory/memory.limit_in_bytes",
	} {
		if b, err := os.ReadFile(file); err == nil {
			least = min(least, cgroupLimit(string(b)))
		}
	}
	return least
}

// cgroupLimit reads the limit of a control group: a number of bytes, or the
// word max.
func cgroupLimit(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}

func machineMemory() (int64, bool) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	return memTotal(string(b))
}

// memTotal reads the line "MemTotal: 4028440 kB" of /proc/meminfo.
func memTotal(meminfo string) (int64, bool) {
	for line := range strings.Lines(meminfo) {
		value, ok := strings.CutPrefix(line, "MemTotal:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		return kib << 10, err == nil && kib > 0
	}
	return 0, false
}
