package program

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// OnCPU returns the time that the threads of a process and of its children were on a
// core, to the nanosecond, as the scheduler counts it. Threads and children that have
// ended are not in it: it is for servers that keep theirs.
func OnCPU(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(threads) == 0 {
		return 0, fmt.Errorf("process %d is gone, or its kernel keeps no account of time (CONFIG_SCHED_INFO)", pid)
	}
	var all time.Duration
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if err != nil { // it has just ended
			continue
		}
		used, err := parseSchedstat(b)
		if err != nil {
			return 0, fmt.Errorf("read the time of process %d: %w", pid, err)
		}
		all += used
	}
	for _, child := range children(pid) {
		if more, err := OnCPU(child); err == nil { // else it has just ended
			all += more
		}
	}
	return all, nil
}

// parseSchedstat reads the time on a core, which is the first of three numbers: the
// others are the time spent waiting for one, and how often it had one
// (Documentation/scheduler/sched-stats.rst).
func parseSchedstat(b []byte) (time.Duration, error) {
	fields := bytes.Fields(b)
	if len(fields) != 3 {
		return 0, fmt.Errorf("%q is not of three numbers", b)
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	return time.Duration(n), err
}

// Resident returns the bytes of memory that a process and its children have, what
// they share counted for each.
func Resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	all, err := parseResident(string(b))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	for _, child := range children(pid) {
		if more, err := Resident(child); err == nil {
			all += more
		}
	}
	return all, nil
}

func parseResident(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("the kernel does not tell")
}
