package admit

import "sync/atomic"

// counts only ever grow.
type counts struct {
	started, completed, failed                  atomic.Uint64
	retries                                     atomic.Uint64
	refusedFull, refusedHalfOpen, refusedSource atomic.Uint64
	refusedRequests                             atomic.Uint64
}

// State is what a Controller has seen and where it stands, for metrics and
// status. With enforcement off the verdicts are those that would have been.
type State struct {
	Enforce bool `json:"enforce"`
	// Short tells that the node runs out of something that connections use.
	Short bool `json:"short"`

	Connections      int64 `json:"connections"`
	ConnectionsLimit int64 `json:"connections_limit"`
	HalfOpen         int64 `json:"half_open"`
	HalfOpenLimit    int64 `json:"half_open_limit"`
	InFlight         int64 `json:"in_flight"`
	InFlightLimit    int64 `json:"in_flight_limit"`

	// Handshakes by how they ended. Those begun and not ended are half open.
	Started   uint64 `json:"started"`
	Completed uint64 `json:"completed"`
	Failed    uint64 `json:"failed"`
	// Retries counts clients that were asked to prove their address.
	Retries uint64 `json:"retries"`
	// Connections refused, by what the node lacked: room for connections, room
	// for handshakes, or patience with the source.
	RefusedFull     uint64 `json:"refused_full"`
	RefusedHalfOpen uint64 `json:"refused_half_open"`
	RefusedSource   uint64 `json:"refused_source"`
	RefusedRequests uint64 `json:"refused_requests"`
}

// State returns the present state.
func (c *Controller) State() State {
	n := &c.counts
	return State{
		Enforce:          c.enforce,
		Short:            c.short(c.now()),
		Connections:      c.conns.Load(),
		ConnectionsLimit: c.maxConns,
		HalfOpen:         c.half.Load(),
		HalfOpenLimit:    c.maxHalf,
		InFlight:         c.flight.total.Load(),
		InFlightLimit:    c.maxFlight,
		Started:          n.started.Load(),
		Completed:        n.completed.Load(),
		Failed:           n.failed.Load(),
		Retries:          n.retries.Load(),
		RefusedFull:      n.refusedFull.Load(),
		RefusedHalfOpen:  n.refusedHalfOpen.Load(),
		RefusedSource:    n.refusedSource.Load(),
		RefusedRequests:  n.refusedRequests.Load(),
	}
}
