package origin

import (
	"syscall"
	"time"
)

// Stats is what the origin counted since it started. Requests add up:
// Arrived = Rejected + Completed + Canceled + Killed + InFlight, and
// Completed = Useful + Late + Abandoned.
type Stats struct {
	Slots int     `json:"slots"`
	Speed float64 `json:"speed"`
	Dead  bool    `json:"dead"`

	InFlight int `json:"in_flight"` // inside: waiting, served, or overrunning
	Queued   int `json:"queued"`    // of these, waiting for a slot
	Streams  int `json:"streams"`   // event streams open; they hold no slot

	Arrived   int `json:"arrived"`
	Started   int `json:"started"`   // were given a slot
	Rejected  int `json:"rejected"`  // 503: the backlog was full
	Completed int `json:"completed"` // worked to the end, for whoever was left
	Useful    int `json:"completed_in_time"`
	Late      int `json:"late"`      // took longer than the patience
	Abandoned int `json:"abandoned"` // the client had left before it was done
	Canceled  int `json:"canceled"`  // dropped when its client left
	Killed    int `json:"killed"`    // the origin died under it
	Refused   int `json:"refused"`   // connections closed while dead; not in Arrived
	Overruns  int `json:"overruns"`  // the work took longer than its service time

	BusySlotSeconds   float64 `json:"busy_slot_seconds"`
	CapacityPerSecond float64 `json:"capacity_per_second"` // requests; 0 while dead
	CPUSeconds        float64 `json:"cpu_seconds"`         // of the whole process

	PerSecond []Second `json:"per_second"`
}

// A Second is what happened in one second of the wall clock.
type Second struct {
	T               int64   `json:"t"` // Unix time
	Arrived         int     `json:"arrived"`
	Rejected        int     `json:"rejected"`
	Completed       int     `json:"completed"`
	Useful          int     `json:"useful"`
	BusySlotSeconds float64 `json:"busy_slot_seconds"`
	Capacity        float64 `json:"capacity"` // requests that could have been done
}

// Goodput is the useful completions against the capacity in the seconds from
// (inclusive) to (exclusive), in Unix time. It is 0 when there was no capacity.
func (s Stats) Goodput(from, to int64) float64 {
	useful, capacity := 0, 0.0
	for _, second := range s.PerSecond {
		if from <= second.T && second.T < to {
			useful += second.Useful
			capacity += second.Capacity
		}
	}
	if capacity == 0 {
		return 0
	}
	return float64(useful) / capacity
}

// keptSeconds bounds the history: a quarter of an hour is longer than any run
// that a person waits for.
const keptSeconds = 900

// A history keeps the last seconds. Times are seconds since epoch.
type history struct {
	epoch   int64 // Unix time
	seconds []Second
}

// at returns the record of the second that holds t. What lies before the kept
// seconds is counted in the oldest.
func (h *history) at(t float64) *Second {
	unix := h.epoch + int64(t)
	if len(h.seconds) == 0 {
		h.seconds = append(h.seconds, Second{T: unix})
	}
	for last := h.seconds[len(h.seconds)-1].T; last < unix; last++ {
		h.seconds = append(h.seconds, Second{T: last + 1})
	}
	if extra := len(h.seconds) - keptSeconds; extra > 0 {
		h.seconds = append(h.seconds[:0], h.seconds[extra:]...)
	}
	return &h.seconds[max(0, unix-h.seconds[0].T)]
}

// spread calls f for each second of the stretch, with the part that lies in it.
func (h *history) spread(from, to float64, f func(s *Second, part float64)) {
	from = max(from, to-keptSeconds)
	for from < to {
		end := min(to, float64(int64(from)+1))
		f(h.at(from), end-from)
		from = end
	}
}

// processCPU is the CPU time of the whole process, in seconds.
func processCPU() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}
