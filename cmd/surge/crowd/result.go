package crowd

import (
	"time"
)

// Counts say how offered requests ended. Offered = Answered + Errors, and the
// outcomes and client errors together add up to Offered as well: every request is
// in exactly one of them.
type Counts struct {
	Offered  int64 `json:"offered"`  // requests scheduled
	Answered int64 `json:"answered"` // complete 2xx or 3xx while the visitor was patient
	Errors   int64 `json:"errors"`   // the rest

	// Outcomes counts complete answers by the node's word for them, errors such
	// as shed included.
	Outcomes map[string]int64 `json:"outcomes"`

	// ClientErrors counts what the client itself had to name.
	ClientErrors map[string]int64 `json:"client_errors"`
}

// Latency is that of the answered requests, from the intended time of the
// visitor's arrival to the last byte. Queueing in this program counts.
type Latency struct {
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
}

// A Result is what became of a crowd.
type Result struct {
	Counts
	Latency

	Protocol           string  `json:"protocol"`
	Visitors           int64   `json:"visitors"`
	RequestsPerVisitor int     `json:"requests_per_visitor"`
	Seconds            float64 `json:"seconds"` // from the first intended time to the last answer
	Bytes              int64   `json:"bytes"`   // of bodies read

	// Reasons counts complete answers as "word; reason".
	Reasons map[string]int64 `json:"reasons"`

	// OutcomeLatency is the latency of the answered requests by their word.
	OutcomeLatency map[string]Latency `json:"outcome_latency"`

	Phases    []PhaseResult  `json:"phases"`
	PerSecond []SecondResult `json:"per_second"`
	Held      *HeldResult    `json:"held,omitempty"`

	// What the generator itself took. A lag near the latencies reported means that
	// this machine was too busy for the numbers to mean much.
	CPUSeconds          float64 `json:"cpu_seconds"`
	CPUMicrosPerVisitor float64 `json:"cpu_us_per_visitor"`
	LagP99              float64 `json:"generator_lag_ms_p99"`

	Parameters  Parameters  `json:"parameters"`
	Environment Environment `json:"environment"`
}

// A PhaseResult is what became of the requests scheduled in one phase.
type PhaseResult struct {
	Name    string  `json:"name"`
	From    float64 `json:"from_per_second"` // visitors per second
	To      float64 `json:"to_per_second"`
	Start   float64 `json:"start_s"`
	Seconds float64 `json:"seconds"`
	Counts
	Latency
}

// A SecondResult is what became of the requests scheduled in one second.
type SecondResult struct {
	T int `json:"t"`
	Counts
	Latency
}

// A HeldResult says how the event streams fared.
type HeldResult struct {
	Asked     int              `json:"asked"`
	Opened    int              `json:"opened"`      // answered 200
	OpenAtEnd int              `json:"open_at_end"` // still open when the crowd had gone
	Bytes     int64            `json:"bytes"`
	Errors    map[string]int64 `json:"errors"`
}

// Parameters repeat the Config, so that a report can be read, and a run repeated,
// without the command line.
type Parameters struct {
	URLs        []string `json:"urls"`
	Connect     string   `json:"connect,omitempty"`
	Connections string   `json:"connections"`
	Addresses   Profile  `json:"addresses"`
	Capacity    float64  `json:"capacity_per_second,omitempty"`
	TimeoutS    float64  `json:"timeout_s"`
	MaxInFlight int      `json:"max_in_flight"`
	Seed        uint64   `json:"seed"`
	Resume      bool     `json:"resume"`
	SlowShare   float64  `json:"slow_share,omitempty"`
	SlowRate    int64    `json:"slow_bytes_per_second,omitempty"`
}

// A Snapshot is a look at a crowd while it runs.
type Snapshot struct {
	Counts          // so far; Offered is ahead by what is under way
	Latency         // of the last five seconds, by the time of the answer
	Last     Counts // of the last full second: started in it, ended in it
	Elapsed  time.Duration
	Length   time.Duration
	Phase    string  // empty when the last visitors are leaving
	Rate     float64 // visitors per second intended now
	InFlight int     // visitors present
}

func parameters(c Config) Parameters {
	return Parameters{
		URLs: c.URLs, Connect: c.Connect, Connections: c.Connections, Addresses: c.Addresses,
		Capacity: c.Capacity, TimeoutS: c.Timeout.Seconds(), MaxInFlight: c.MaxInFlight,
		Seed: c.Seed, Resume: c.Resume, SlowShare: c.SlowShare, SlowRate: c.SlowRate,
	}
}

func latency(h *histogram) Latency {
	return Latency{P50: ms(h.quantile(.5)), P99: ms(h.quantile(.99)), P999: ms(h.quantile(.999))}
}

// ms rounds to a microsecond: the buckets are coarser than that.
func ms(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
