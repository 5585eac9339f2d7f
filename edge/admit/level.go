package admit

import (
	"fmt"
	"time"
)

// Signals are what the node sees of its own load. The zero Signals are of a node at
// rest.
type Signals struct {
	// HandshakeCPU is what the handshakes that were asked for take of all processors,
	// those among them that were dropped or refused; 1 is all.
	HandshakeCPU float64 `json:"handshake_cpu"`
	// Delay is how long work that is ready waits for a processor: nine of ten times
	// less.
	Delay time.Duration `json:"delay_ns"`
	// HalfOpen, Connections and Memory are parts of what the node may hold.
	HalfOpen    float64 `json:"half_open"`
	Connections float64 `json:"connections"`
	Memory      float64 `json:"memory"`
	// Spent tells that origins are saturated and functions can take nothing. Origins
	// alone are no signal: the cache and functions serve on.
	Spent bool `json:"spent"`
}

// A threshold is the least of a signal for each level above Normal. Zero is never.
type threshold [Closed + 1]float64

// The thresholds. They are no knobs. What handshakes take is bounded by budgets from
// Shedding on, so that it never closes the node.
var (
	cpuLevels         = threshold{Guarded: .375, Shedding: .7} // the first is 500 handshakes of .75 ms, as handshakes_per_core
	delayLevels       = threshold{Guarded: .020, Shedding: .100, Closed: .500}
	halfOpenLevels    = threshold{Guarded: 1, Shedding: 2, Closed: 3.5}
	connectionsLevels = threshold{Guarded: .75, Shedding: .9}
	memoryLevels      = threshold{Guarded: .88, Shedding: .93, Closed: .97}
)

func (t threshold) level(signal float64) Level {
	for l := Closed; l > Normal; l-- {
		if t[l] > 0 && signal >= t[l] {
			return l
		}
	}
	return Normal
}

// Demand returns the level that the signals ask for, and the signal that asks for
// most; of several the first.
func (s Signals) Demand() (Level, string) {
	level, why := Normal, ""
	ask := func(l Level, format string, value any) {
		if l > level {
			level, why = l, fmt.Sprintf(format, value)
		}
	}
	ask(cpuLevels.level(s.HandshakeCPU), "handshakes ask for %.0f %% of the processors", 100*s.HandshakeCPU)
	ask(delayLevels.level(s.Delay.Seconds()), "work waits %v for a processor", s.Delay.Round(time.Millisecond))
	ask(halfOpenLevels.level(s.HalfOpen), "half-open handshakes are %.0f %% of their limit", 100*s.HalfOpen)
	ask(connectionsLevels.level(s.Connections), "connections are %.0f %% of their limit", 100*s.Connections)
	ask(memoryLevels.level(s.Memory), "%.0f %% of the memory is taken", 100*s.Memory)
	if s.Spent {
		ask(Shedding, "origins are saturated and functions %s", "spent")
	}
	return level, why
}

// hold is how long less must do before the level falls, and between one fall and the
// next. It is longer than a burst of retransmissions, which come after 1 and 2 s.
const hold = 5 * time.Second

// A stair is the level in force. It rises at once, and falls one step at a time.
type stair struct {
	level Level
	why   string
	asked time.Duration // when the level was last asked for, or last fell
}

// step follows what is asked for now.
func (s stair) step(demand Level, why string, now time.Duration) stair {
	switch {
	case demand >= s.level:
		return stair{demand, why, now}
	case now-s.asked < hold:
		return s
	}
	s.level, s.asked = s.level-1, now
	if s.level == demand {
		s.why = why
	}
	return s
}
