// Package budget keeps what functions cost below what was allowed, in US
// dollars per hour and per day, in periods of UTC.
//
// A call is charged before it is made, at the most it can cost, and settled when
// its true cost is known. So what was spent in a period plus what is still at
// risk never passes the limit, however many calls run at once. A cost belongs to
// the period in which it was settled. A share per client keeps one visitor from
// using up what is meant for all.
//
// It fails closed: an amount that is not a number, negative, or more than what
// is left is refused. A clock that goes backwards gives nothing back; one that
// was far ahead and is set right keeps what was spent in the current period. The
// ledger is in memory: a restart forgets what was spent.
package budget

import (
	"math"
	"sync"
	"time"

	"spillway/edge/outcome"
)

// A Budget is safe for concurrent use. A nil *Budget allows everything.
type Budget struct {
	name string

	mu      sync.Mutex
	config  Config
	hour    period
	day     period
	clients *clients
	// atRisk is the sum of the open charges, which count in every period.
	atRisk float64
	open   int
	// drained is when the period ends that the operator emptied.
	drained time.Time
}

// A period is an hour or a day and what was settled in it.
type period struct {
	length time.Duration
	start  time.Time
	spent  float64
}

// advance moves the period to now. Backwards it moves only from a start that is
// far ahead, where a clock that was wrong has left it, and forgets nothing: else
// what was spent would stay spent until that time comes.
func (p *period) advance(now time.Time) {
	// Truncate counts from the zero time, which is midnight UTC.
	switch start := now.Truncate(p.length); {
	case start.After(p.start):
		p.start, p.spent = start, 0
	case farAhead(p.start, now, p.length):
		p.start = start
	}
}

// farAhead reports whether a time cannot have come from a clock that is only
// corrected a little.
func farAhead(t, now time.Time, length time.Duration) bool { return t.Sub(now) > length }

// New returns a budget of which nothing is spent.
func New(name string, c Config) *Budget {
	return &Budget{
		name:    name,
		config:  c,
		hour:    period{length: time.Hour},
		day:     period{length: 24 * time.Hour},
		clients: newClients(),
	}
}

// Name is the name of the budget in the configuration.
func (b *Budget) Name() string { return b.name }

// Reserve sets amount aside for one call of a client, or says why it may not be
// spent. The charge must be settled when the call is over. The empty client is a
// client like any other.
func (b *Budget) Reserve(now time.Time, client string, amount float64) (*Charge, outcome.Reason) {
	if b == nil {
		return nil, outcome.None
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	hash := b.clients.hash(client)
	if why := b.refuse(now, hash, amount); why != outcome.None {
		return nil, why
	}
	b.atRisk += amount
	b.open++
	b.clients.add(hash, amount)
	return &Charge{budget: b, amount: amount, client: hash, epoch: b.clients.epoch}, outcome.None
}

// Check says what Reserve would answer, and sets nothing aside.
func (b *Budget) Check(now time.Time, client string, amount float64) outcome.Reason {
	if b == nil {
		return outcome.None
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refuse(now, b.clients.hash(client), amount)
}

// refuse moves the periods to now and says why amount may not be spent.
func (b *Budget) refuse(now time.Time, client uint64, amount float64) outcome.Reason {
	b.advance(now)
	switch {
	case now.Before(b.drained):
		return outcome.BudgetSpent
	case math.IsNaN(amount), amount < 0, amount > b.left():
		return outcome.BudgetSpent
	case b.clients.spent(client)+amount > b.config.share():
		return outcome.ClientShareSpent
	}
	return outcome.None
}

// advance moves all periods to now.
func (b *Budget) advance(now time.Time) {
	b.hour.advance(now)
	b.day.advance(now)
	base := b.config.base()
	b.clients.advance(now, base)
	if farAhead(b.drained, now, base) {
		b.drained = now.Truncate(base).Add(base)
	}
}

// left is what neither period has spent or at risk; infinite without a limit.
func (b *Budget) left() float64 {
	left := math.Inf(1)
	if b.config.PerHour > 0 {
		left = b.config.PerHour - b.hour.spent - b.atRisk
	}
	if b.config.PerDay > 0 {
		left = min(left, b.config.PerDay-b.day.spent-b.atRisk)
	}
	return left
}

// Left is what a call may cost now, at most. It is infinite for a budget without
// limits.
func (b *Budget) Left(now time.Time) float64 {
	if b == nil {
		return math.Inf(1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	if now.Before(b.drained) {
		return 0
	}
	return max(0, b.left())
}

// Empty leaves nothing, not even a call that is free, until the current period
// ends or Reset is called.
func (b *Budget) Empty(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drained = now.Truncate(b.config.base()).Add(b.config.base())
}

// Reset forgets what was spent; charges that are open stay at risk.
func (b *Budget) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drained = time.Time{}
	b.hour.spent, b.day.spent = 0, 0
	b.clients.clear()
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

// base is the length of the period that a client's share is taken of.
func (c Config) base() time.Duration {
	if c.PerHour == 0 && c.PerDay > 0 {
		return 24 * time.Hour
	}
	return time.Hour
}

// share is what one client may spend in a base period; infinite without a bound.
func (c Config) share() float64 {
	limit := c.PerHour
	if limit == 0 {
		limit = c.PerDay
	}
	if c.PerClient == 0 || limit == 0 {
		return math.Inf(1)
	}
	return c.PerClient * limit
}

// Largest is the most that a single call may ever cost under these limits.
func (c Config) Largest() float64 {
	largest := c.share()
	if c.PerHour > 0 {
		largest = min(largest, c.PerHour)
	}
	if c.PerDay > 0 {
		largest = min(largest, c.PerDay)
	}
	return largest
}
