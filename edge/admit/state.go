package admit

import (
	"sync/atomic"
	"time"
)

// counts only ever grow.
type counts struct {
	started, completed, failed                  atomic.Uint64
	startedTCP                                  atomic.Uint64
	retries, bans                               atomic.Uint64
	refusedFull, refusedHalfOpen, refusedSource atomic.Uint64
	refusedDenied, refusedBudget, refusedClosed atomic.Uint64
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
	// for handshakes, or patience with the source. Then by rules, and by the limits
	// of levels where no kernel has them.
	RefusedFull     uint64 `json:"refused_full"`
	RefusedHalfOpen uint64 `json:"refused_half_open"`
	RefusedSource   uint64 `json:"refused_source"`
	RefusedDenied   uint64 `json:"refused_denied"`
	RefusedBudget   uint64 `json:"refused_budget"`
	RefusedClosed   uint64 `json:"refused_closed"`
	RefusedRequests uint64 `json:"refused_requests"`

	// Level is what is left of normal operation, and why; PinnedUntil is set while an
	// operator holds it.
	Level       Level     `json:"level"`
	Why         string    `json:"why,omitempty"`
	PinnedUntil time.Time `json:"pinned_until,omitzero"`
	Signals     Signals   `json:"signals"`
	// HandshakeCost is what one takes of a processor, as learned.
	HandshakeCost time.Duration `json:"handshake_cost_ns"`
	// Budgets of new connections per second, which hold from Shedding on.
	BudgetQUIC float64 `json:"budget_quic"`
	BudgetTCP  float64 `json:"budget_tcp"`

	// Mode is where packets are judged. Refused says why nowhere better, RefusedReason
	// in a word.
	Mode          Mode    `json:"mode"`
	Refused       string  `json:"refused,omitempty"`
	RefusedReason Refusal `json:"refused_reason"`
	// Heartbeat is how long ago the kernel was told the policy, in seconds; -1 where no
	// kernel judges.
	Heartbeat float64 `json:"heartbeat_seconds"`
	// Trial is how many seconds native mode has left to be confirmed in.
	Trial float64 `json:"trial_seconds,omitempty"`
	// Packets are what became of those that the kernel judged.
	Packets     []Count     `json:"packets,omitempty"`
	SamplesLost uint64      `json:"samples_lost"`
	Top         []TopSource `json:"top,omitempty"`
	Rules       int         `json:"rules"`
	// Bans are the rules that the node made by itself, so far.
	Bans uint64 `json:"bans"`
}

// topShown is how many sources a State names.
const topShown = 10

// State returns the present state.
func (c *Controller) State() State {
	n := &c.counts
	s := State{
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
		RefusedDenied:    n.refusedDenied.Load(),
		RefusedBudget:    n.refusedBudget.Load(),
		RefusedClosed:    n.refusedClosed.Load(),
		RefusedRequests:  n.refusedRequests.Load(),
		Bans:             n.bans.Load(),
		Rules:            len(c.Rules()),
		Heartbeat:        -1,
	}
	c.control.state(&s, c.now())
	return s
}

// state adds what the passes know.
func (k *control) state(s *State, now time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wall := time.Now()
	s.Level, s.Why = k.level(wall), k.why(wall)
	if wall.Before(k.pinned.until) {
		s.PinnedUntil = k.pinned.until
	}
	s.Signals, s.HandshakeCost = k.demand, k.senses.pace.cost
	s.BudgetQUIC, s.BudgetTCP = k.policy.QUIC.PerSecond, k.policy.TCP.PerSecond
	s.Mode, s.Refused, s.RefusedReason = k.mode, k.refused, k.reason
	s.Packets, s.SamplesLost = k.drops.counts, k.drops.lost
	if k.mode != UserSpace {
		s.Heartbeat = (now - k.beaten).Seconds()
	}
	if k.trial != nil {
		s.Trial = (k.trial.until - now).Seconds()
	}
	if k.kernel != nil {
		s.Top = k.kernel.Top(topShown)
	}
}
