package process

import (
	"bytes"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// counters are what a pool did since it was made.
type counters struct {
	coldStarts, invocations, errors, timeouts, throttled, crashes atomic.Uint64

	cpu atomic.Int64 // nanoseconds of the processes that have ended
}

// FunctionStats is what one function did since the host started.
type FunctionStats struct {
	Instances   int     `json:"instances"`
	Busy        int     `json:"busy"`
	ColdStarts  uint64  `json:"cold_starts"`
	Invocations uint64  `json:"invocations"`
	Errors      uint64  `json:"errors"`   // of the function, timeouts included
	Timeouts    uint64  `json:"timeouts"` // killed at the timeout
	Throttled   uint64  `json:"throttled"`
	Crashes     uint64  `json:"crashes"`     // exits that nobody asked for
	CPUSeconds  float64 `json:"cpu_seconds"` // of all its processes, without theirs
}

func (p *pool) snapshot() FunctionStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	cpu := time.Duration(p.stats.cpu.Load())
	for i := range p.all {
		cpu += processCPU(i.cmd.Process.Pid)
	}
	return FunctionStats{
		Instances: len(p.all), Busy: len(p.slots),
		ColdStarts: p.stats.coldStarts.Load(), Invocations: p.stats.invocations.Load(),
		Errors: p.stats.errors.Load(), Timeouts: p.stats.timeouts.Load(),
		Throttled: p.stats.throttled.Load(), Crashes: p.stats.crashes.Load(),
		CPUSeconds: cpu.Seconds(),
	}
}

// processCPU is the CPU time of a living process, or zero if it cannot be told.
func processCPU(pid int) time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// proc_pid_stat(5): the name is in parentheses and may hold anything; utime and
	// stime are the 12th and 13th field after it, in hundredths of a second.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}
