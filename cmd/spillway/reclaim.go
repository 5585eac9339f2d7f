package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"
)

// A node that was busy holds what it does not need any more: garbage, since the
// collector is told to wait (gcPercent) and hardly ever runs when there is little to do;
// stacks that handshakes have grown, which only a collection shrinks; and free pages that
// the runtime keeps for a heap five times as large as what is live. Where processors are
// idle a collection costs nobody anything, so that the node then does at once what would
// come in minutes or never.
const (
	reclaimBeat = time.Second
	// quietBeats is how many beats in a row must be quiet, and quietShare what part of
	// the processors the node may use meanwhile.
	quietBeats = 2
	quietShare = 1. / 4
	// leastGain is what a collection must promise, in bytes and as a part of what is
	// held.
	leastGain     = 8 << 20
	leastGainPart = 1. / 8
	// restShare bounds what part of the time is spent on it.
	restShare = 1. / 50
)

// A holding is what the runtime holds for the process, in bytes.
type holding struct {
	objects int64 // in the heap, dead ones that were not swept yet among them
	live    int64 // what the last collection found alive
	free    int64 // pages of the heap without an object, which the kernel could have back
	stacks  int64
}

// A reclaimer decides when to collect. Its zero value has seen nothing yet.
type reclaimer struct {
	cores  int
	cpu    time.Duration // that the process had used at the last beat
	quiet  int           // beats in a row
	stacks int64         // after the last collection, or less
	rest   time.Duration // until the next
}

// due takes what the process has used of the processors so far, and what it holds, and
// reports whether to collect now. It is called once in each beat.
func (r *reclaimer) due(cpu time.Duration, h holding) bool {
	used := cpu - r.cpu
	r.cpu = cpu
	r.rest -= reclaimBeat
	r.stacks = min(r.stacks, h.stacks)
	if used > time.Duration(quietShare*float64(r.cores)*float64(reclaimBeat)) {
		r.quiet = 0
		return false
	}
	r.quiet++
	gain := max(h.objects-h.live, 0) + h.free + h.stacks - r.stacks
	return r.quiet >= quietBeats && r.rest <= 0 &&
		gain >= leastGain && float64(gain) >= leastGainPart*float64(h.objects+h.free+h.stacks)
}

// done notes a collection that took so long, and what is held after it.
func (r *reclaimer) done(took time.Duration, h holding) {
	r.rest = time.Duration(float64(took) / restShare)
	r.stacks = h.stacks
	r.quiet = 0
}

// reclaim gives memory back while the node has little to do, until ctx ends.
func reclaim(ctx context.Context) error {
	tick := time.NewTicker(reclaimBeat)
	defer tick.Stop()
	r := reclaimer{cores: runtime.GOMAXPROCS(0)}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r.due(usedCPU(), held()) {
			began := time.Now()
			debug.FreeOSMemory()
			r.done(time.Since(began), held())
		}
	}
}

// held reads what the runtime holds.
func held() holding {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(samples)
	bytes := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	return holding{objects: bytes(0), live: bytes(1), free: bytes(2), stacks: bytes(3)}
}

// usedCPU returns what the process has used of the processors.
func usedCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
