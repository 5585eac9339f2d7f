// Package budget keeps what functions cost below what was allowed, in US
// dollars per hour, day and month of UTC.
//
// A call is charged before it is made, at the most it can cost, and settled when
// its true cost is known. So what was spent in a period plus what is still at
// risk never passes the limit, however many calls run at once. A cost belongs to
// the period in which it was settled. A share per client keeps one visitor from
// using up what is meant for all.
//
// What was spent outlives the process in a [Ledger]: money is written down, a
// block at a time, before any of it may be spent. After a crash the rest of the
// block counts as spent, so that the ledger may tell of a block too much, and
// never of too little.
//
// It fails closed: an amount that is not a number, negative, or more than what
// is left is refused. A clock that goes backwards gives nothing back, and one that
// comes back to a period finds there what was spent. A ledger that fails stops the
// spending or leaves it in memory, as the budget's Config says. The shares of
// clients are in memory: a restart gives each a new one, within the same budget.
package budget

import (
	"math"
	"sync"
	"time"

	"spillway/edge/outcome"
)

// A Budget is safe for concurrent use. A nil *Budget allows everything.
type Budget struct {
	name   string
	ledger *Ledger // nil: in memory

	mu      sync.Mutex
	config  Config
	periods [len(spans)]period
	clients *clients
	pace    pace
	// settled is what was spent in all, since the ledger began.
	settled float64
	// atRisk is the sum of the open charges, which count in every period.
	atRisk float64
	open   int
	block  block
}

// New returns a budget in memory of which nothing is spent.
func New(name string, c Config) *Budget { return newBudget(name, c, nil) }

func newBudget(name string, c Config, l *Ledger) *Budget {
	b := &Budget{name: name, config: c, clients: newClients(), ledger: l}
	if l == nil {
		b.block.booked = math.Inf(1)
	}
	return b
}

// Name is the name of the budget in the configuration.
func (b *Budget) Name() string { return b.name }

// Reserve sets amount aside for one call of a client, or says why it may not be
// spent. The charge must be settled when the call is over. The empty client is a
// client like any other. It may wait a moment for the ledger.
func (b *Budget) Reserve(now time.Time, client string, amount float64) (*Charge, outcome.Reason) {
	return b.ReserveWithin(now, client, amount, everything)
}

// everything is the share of a client whose bound is that of the Config alone.
const everything = 1

// ReserveWithin is [Budget.Reserve] for a client that is to stay within a share of
// the shortest bounded period's amount, and within that of every client. A share in
// which two such calls have no place is as much as these two.
func (b *Budget) ReserveWithin(now time.Time, client string, amount, share float64) (*Charge, outcome.Reason) {
	if b == nil {
		return nil, outcome.None
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	hash := b.clients.hash(client)
	for {
		if why := b.refuse(now, hash, amount, share); why != outcome.None {
			return nil, why
		}
		if b.covers(amount) || !b.awaitBlock(amount) {
			break
		}
	}
	b.atRisk += amount
	b.open++
	b.clients.add(hash, amount)
	b.block.used = true
	b.lookAhead()
	return &Charge{budget: b, amount: amount, client: hash, epoch: b.clients.epoch}, outcome.None
}

// Check says what Reserve would answer, and sets nothing aside.
func (b *Budget) Check(now time.Time, client string, amount float64) outcome.Reason {
	return b.CheckWithin(now, client, amount, everything)
}

// CheckWithin says what ReserveWithin would answer, and sets nothing aside.
func (b *Budget) CheckWithin(now time.Time, client string, amount, share float64) outcome.Reason {
	if b == nil {
		return outcome.None
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refuse(now, b.clients.hash(client), amount, share)
}

// refuse moves the periods to now and says why amount may not be spent.
func (b *Budget) refuse(now time.Time, client uint64, amount, share float64) outcome.Reason {
	b.advance(now)
	switch {
	case !b.covers(amount) && b.stopped():
		return outcome.LedgerFailed
	case b.emptied():
		return outcome.BudgetSpent
	case math.IsNaN(amount), amount < 0, amount > b.left():
		return outcome.BudgetSpent
	case b.clients.spent(client)+amount > min(b.config.share(), b.config.part(share, amount)):
		return outcome.ClientShareSpent
	}
	return outcome.None
}

// advance moves all periods to now. As long as the hour is the same, so are the
// day and the month.
func (b *Budget) advance(now time.Time) {
	if p := b.periods[hour]; len(p) > 0 {
		if since := now.Sub(p.present().Start); since >= 0 && since < time.Hour {
			return
		}
	}
	for _, s := range spans {
		if b.periods[s].advance(s, now, b.settled) && s == b.config.base() {
			b.clients.clear()
		}
	}
	if b.ledger != nil {
		b.turn()
		b.block.changed = true // that the clock was here must outlive a crash
		b.ledger.rouse()
	}
}

// spent is what was settled in the present period.
func (b *Budget) spent(s span) float64 { return b.settled - b.periods[s].present().Before }

// left is what no period has spent or at risk; infinite without a limit.
func (b *Budget) left() float64 {
	left := math.Inf(1)
	for _, s := range spans {
		if limit := b.config.limit(s); limit > 0 {
			left = min(left, limit+b.periods[s].present().Added-b.spent(s)-b.atRisk)
		}
	}
	return left
}

func (b *Budget) emptied() bool { return b.periods[b.config.base()].present().Emptied }

// Left is what a call may cost now, at most. It is infinite for a budget without
// limits.
func (b *Budget) Left(now time.Time) float64 {
	if b == nil {
		return math.Inf(1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	if b.emptied() {
		return 0
	}
	return max(0, b.left())
}

// ClientLeft is what a call of a client may cost now, at most, by the client's own
// share. It is infinite without one.
func (b *Budget) ClientLeft(now time.Time, client string) float64 {
	if b == nil {
		return math.Inf(1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	return max(0, b.config.share()-b.clients.spent(b.clients.hash(client)))
}

// Empty leaves nothing, not even a call that is free, until the shortest period
// with a bound ends or Reset is called. The error of Empty, Add and Reset says why
// a restart would forget it; it is done all the same.
func (b *Budget) Empty(now time.Time) error {
	return b.change(now, func() { b.periods[b.config.base()].present().Emptied = true })
}

// Add allows so much beyond the limits until the present hour, day and month end.
func (b *Budget) Add(now time.Time, amount float64) error {
	return b.change(now, func() {
		for _, s := range spans {
			b.periods[s].present().Added += amount
		}
	})
}

// Reset forgets what was spent in the present hour, day and month, and what was
// added to them; charges that are open stay at risk.
func (b *Budget) Reset(now time.Time) error {
	return b.change(now, func() {
		for _, s := range spans {
			b.periods[s] = period{{Start: b.periods[s].present().Start, Before: b.settled}}
		}
		b.clients.clear()
	})
}

// change makes a change and waits until it is in the ledger.
func (b *Budget) change(now time.Time, do func()) error {
	b.mu.Lock()
	b.advance(now)
	do()
	b.mu.Unlock()
	if b.ledger == nil {
		return nil
	}
	return b.ledger.keep(b)
}

// Spend books what was spent without having been asked for, such as what a
// platform takes for instances that it keeps ready. It may pass the limit: nothing
// is allowed then until the period ends.
func (b *Budget) Spend(now time.Time, amount float64) {
	if b == nil || !(amount > 0) || math.IsInf(amount, 1) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	b.settled += amount
	b.pace.add(now, amount)
	b.lookAhead()
}

// SetConfig changes the limits and keeps what was spent.
func (b *Budget) SetConfig(c Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config = c
}

// Config returns the limits.
func (b *Budget) Config() Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.config
}

// share is what one client may spend in a base period; infinite without a bound.
func (c *Config) share() float64 {
	limit := c.limit(c.base())
	if c.PerClient == 0 || limit == 0 {
		return math.Inf(1)
	}
	return c.PerClient * limit
}

// part is what a client may spend in a base period that is to stay within a share of
// it; infinite for everything, or without a bound.
func (c *Config) part(share, amount float64) float64 {
	limit := c.limit(c.base())
	if share >= everything || limit == 0 {
		return math.Inf(1)
	}
	return max(share*limit, 2*amount)
}

// Largest is the most that a single call may ever cost under these limits.
func (c Config) Largest() float64 {
	largest := c.share()
	for _, s := range spans {
		if limit := c.limit(s); limit > 0 {
			largest = min(largest, limit)
		}
	}
	return largest
}
