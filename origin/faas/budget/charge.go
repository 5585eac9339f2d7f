package budget

import (
	"math"
	"time"
)

// A Charge is an amount that was set aside for one call. The zero value is the
// charge of a call that nobody counts.
type Charge struct {
	budget *Budget // nil when settled
	amount float64
	client uint64
	epoch  uint64 // of the table that the client was charged in
}

// Amount is what was set aside.
func (c *Charge) Amount() float64 { return c.amount }

// Settle replaces the amount that was set aside by what the call did cost, be it
// less or more. A cost that is not a number counts as the whole amount. Only the
// first Settle of a charge counts.
func (c *Charge) Settle(actual float64) {
	b := c.budget
	if b == nil {
		return
	}
	c.budget = nil
	if !(actual >= 0) || math.IsInf(actual, 1) {
		actual = c.amount
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	b.atRisk -= c.amount
	if b.open == 0 {
		b.atRisk = 0 // drops what rounding left behind
	}
	b.hour.spent += actual
	b.day.spent += actual
	if c.epoch == b.clients.epoch {
		actual -= c.amount
	}
	b.clients.add(c.client, actual)
}

// A State is a snapshot for metrics and the status view, in US dollars.
type State struct {
	Name      string  `json:"name"`
	PerHour   float64 `json:"per_hour_usd"` // zero: no limit
	PerDay    float64 `json:"per_day_usd"`
	SpentHour float64 `json:"spent_hour_usd"`
	SpentDay  float64 `json:"spent_day_usd"`
	AtRisk    float64 `json:"at_risk_usd"` // set aside for calls in flight
	// Left is what may still be spent now. It means nothing without a limit.
	Left    float64 `json:"left_usd"`
	Limited bool    `json:"limited"`
	// Drained tells that the operator emptied the budget.
	Drained bool `json:"drained"`
}

// State returns a snapshot.
func (b *Budget) State(now time.Time) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	s := State{
		Name: b.name, PerHour: b.config.PerHour, PerDay: b.config.PerDay,
		SpentHour: b.hour.spent, SpentDay: b.day.spent, AtRisk: b.atRisk,
		Limited: b.config.PerHour > 0 || b.config.PerDay > 0,
		Drained: now.Before(b.drained),
	}
	if s.Limited && !s.Drained {
		s.Left = max(0, b.left())
	}
	return s
}
