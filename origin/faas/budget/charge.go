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
	b.settled += actual
	b.pace.add(now, actual)
	b.lookAhead()
	if c.epoch == b.clients.epoch {
		actual -= c.amount
	}
	b.clients.add(c.client, actual)
}
