package budget

import (
	"math"
	"time"
)

// A Charge is an amount that was set aside for one call. A nil *Charge is that of
// a call which nobody counts.
type Charge struct {
	budget *Budget
	amount float64
	client uint64

	// Guarded by the budget's lock.
	epoch   uint64 // of the table that the client was charged in
	settled bool
}

// Amount is what was set aside.
func (c *Charge) Amount() float64 {
	if c == nil {
		return 0
	}
	return c.amount
}

// Settle replaces the amount that was set aside by what the call did cost, in the
// period of now. A cost that is not a number counts as the whole amount. One that
// is more than was set aside is booked all the same, and may pass the limit:
// nothing is allowed then until the period ends. Only the first Settle of a charge
// counts.
func (c *Charge) Settle(now time.Time, actual float64) {
	if c == nil {
		return
	}
	if !(actual >= 0) || math.IsInf(actual, 1) {
		actual = c.amount
	}
	b := c.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.settled {
		return
	}
	c.settled = true
	// Else the cost would be booked in a period that is over, and be forgotten.
	b.advance(now)
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
