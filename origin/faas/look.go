package faas

import (
	"math"
	"time"

	"spillway/edge/outcome"
)

// A Look is how a function stands for one call of a client, to be shown.
type Look struct {
	Name string `json:"name"`
	// Reason says why it may not be called now; empty means that it may.
	Reason outcome.Reason `json:"reason,omitempty"`
	// Breaker is closed, open or half-open.
	Breaker        string `json:"breaker"`
	InFlight       int    `json:"in_flight"`
	MaxConcurrency int    `json:"max_concurrency"`
	Ready          int    `json:"ready"`
	Starting       int    `json:"starting"`
	MayStart       int    `json:"may_start"` // -1 is no bound
	// Shared is what is left at what the function shares with origins; nil is that
	// it shares nothing.
	Shared *SharedState `json:"shared,omitempty"`
	// Worst is what a call costs at most, in US dollars.
	Worst float64 `json:"worst_case_usd"`
	// Budget pays; it is empty where calls cost nothing that is counted. The amounts
	// are nil where there is no bound.
	Budget     string   `json:"budget,omitempty"`
	Left       *float64 `json:"left_usd,omitempty"`
	ClientLeft *float64 `json:"client_left_usd,omitempty"`
}

// Look returns how the function stands for a call of that client now, and changes
// nothing.
func (f *Function) Look(client string) Look {
	now, s := time.Now(), f.State()
	l := Look{
		Name: f.name, Reason: f.Ready(client), Breaker: s.Breaker, InFlight: s.InFlight, MaxConcurrency: s.MaxConcurrency,
		Ready: s.Ready, Starting: s.Starting, MayStart: s.MayStart, Worst: f.worst,
	}
	if f.shared != nil {
		state := f.shared.State()
		l.Shared = &state
	}
	if f.budget != nil {
		l.Budget = f.budget.Name()
		l.Left, l.ClientLeft = bounded(f.budget.Left(now)), bounded(f.budget.ClientLeft(now, client))
	}
	return l
}

// bounded is an amount, or nil if there is no bound.
func bounded(amount float64) *float64 {
	if math.IsInf(amount, 1) {
		return nil
	}
	return &amount
}
