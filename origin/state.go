package origin

import (
	"time"

	"spillway/origin/limit"
	"spillway/origin/scale"
)

// A State is what the metrics and the status page show of an origin.
type State struct {
	Name    string        `json:"name"`
	Up      bool          `json:"up"`
	Servers []ServerState `json:"servers"`
	Limit   limit.State   `json:"limit"`
	// Scale is how much of the origin should be there.
	Scale scale.State `json:"scale"`

	// ReadAhead is how many bytes of memory hold responses now.
	ReadAhead int64 `json:"read_ahead"`
	// OK, Dropped and Canceled count what the limiter was told at the end of a
	// permit.
	OK       uint64 `json:"ok"`
	Dropped  uint64 `json:"dropped"`
	Canceled uint64 `json:"canceled"`
	// Retried counts requests that were sent a second time, to another server or to
	// the same.
	Retried uint64 `json:"retried"`
	// RetriesRefused counts those that the retry budget did not allow.
	RetriesRefused uint64 `json:"retries_refused"`
	// ResolveFailures counts look-ups of servers' names that failed.
	ResolveFailures uint64 `json:"resolve_failures"`
	// Truncated counts responses that did not come whole, Stalled those of them
	// that were given up because no byte came in time.
	Truncated uint64 `json:"truncated"`
	Stalled   uint64 `json:"stalled"`
	// Outgrown counts responses that were larger than their read-ahead and whose
	// visitor was slower than the origin.
	Outgrown uint64 `json:"outgrown"`
	// Crowded counts exchanges that found no long-lived place.
	Crowded uint64 `json:"crowded"`
}

// A ServerState is the state of one server of the pool.
type ServerState struct {
	URL string `json:"url"`
	// Up means that it takes requests. Breaker is closed, open, or trying while
	// one request finds out; Probe is ok or failing. Draining means that an
	// operator wants it to get no requests.
	Up       bool   `json:"up"`
	Breaker  string `json:"breaker"`
	Probe    string `json:"probe"`
	Draining bool   `json:"draining"`
	InFlight int64  `json:"in_flight"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
	// RetryIn is how long an open breaker stays open.
	RetryIn time.Duration `json:"retry_in_ns"`
}

// State returns the state of the origin. The numbers are read one after the
// other while work goes on.
func (o *Origin) State() State {
	s := State{
		Name: o.name, Up: o.Up(), Limit: o.limiter.State(), Scale: o.scale.State(),
		ReadAhead: o.buffers.used.Load(),
		OK:        o.counts.results[limit.OK].Load(),
		Dropped:   o.counts.results[limit.Drop].Load(),
		Canceled:  o.counts.results[limit.Cancel].Load(),
		Retried:   o.counts.retried.Load(),

		RetriesRefused: o.counts.refused.Load(), ResolveFailures: o.names.failures.Load(),

		Truncated: o.counts.truncated.Load(),
		Stalled:   o.counts.stalled.Load(),
		Outgrown:  o.counts.outgrown.Load(),
		Crowded:   o.counts.crowded.Load(),
	}
	now := o.pool.now()
	for _, server := range o.pool.all() {
		s.Servers = append(s.Servers, server.state(now))
	}
	return s
}

func (s *server) state(now time.Duration) ServerState {
	st := ServerState{
		URL: s.address.text, Breaker: "closed", Probe: "ok", Draining: s.draining.Load(),
		InFlight: s.inFlight.Load(), Requests: s.requests.Load(), Failures: s.failures.Load(),
	}
	switch at := s.trialAt.Load(); {
	case at == 0:
	case s.trying.Load():
		st.Breaker = "trying"
	default:
		st.Breaker, st.RetryIn = "open", max(0, time.Duration(at)-now)
	}
	if s.sick.Load() {
		st.Probe = "failing"
	}
	st.Up = st.Breaker == "closed" && st.Probe == "ok"
	return st
}
