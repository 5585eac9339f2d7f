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
	Enforce bool
	// Short tells that the node runs out of something that connections use.
	Short bool

	Connections, ConnectionsLimit int64
	HalfOpen, HalfOpenLimit       int64
	InFlight, InFlightLimit       int64

	// Handshakes by how they ended. Those begun and not ended are half open.
	Started, Completed, Failed uint64
	// Retries counts clients that were asked to prove their address.
	Retries uint64
	// Connections refused, by what the node lacked: room for connections, room
	// for handshakes, or patience with the source.
	RefusedFull, RefusedHalfOpen, RefusedSource uint64
	RefusedRequests                             uint64
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
