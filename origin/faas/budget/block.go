package budget

import (
	"math"
	"time"
)

// A block is the money that was reserved in the ledger ahead of its use.
type block struct {
	// booked is how much the ledger knows as spent, open charges included. No more
	// may be handed out.
	booked float64
	// ahead is by how much the last block exceeded what was asked for; taken is when.
	ahead float64
	taken time.Time
	// asked is the sum that callers wait for until ready is closed.
	asked float64
	ready chan struct{}

	wanted  bool // the ledger was asked for a block
	changed bool // by the operator, so that it is to be written whatever it says
	used    bool // since the last tick
	idle    int  // ticks without use
}

// How blocks grow and shrink: one that lasted less than quick was too small, so
// that there are few writes a second in the largest crowd. In the end a block is
// between a thousandth and a twentieth of the tightest limit, since that is what a
// crash costs. Not knobs.
const (
	quick     = 250 * time.Millisecond
	slow      = 2 * time.Second
	patience  = 250 * time.Millisecond // of a caller that waits for a block
	idleTicks = 10                     // seconds after which what is reserved is given back
)

// covers reports whether the ledger knows of the amount already.
func (b *Budget) covers(amount float64) bool { return b.settled+b.atRisk+amount <= b.block.booked }

// stopped reports whether the state of the ledger forbids to spend: another process
// has it, or it failed and the configuration says so.
func (b *Budget) stopped() bool {
	if b.ledger == nil {
		return false
	}
	t := b.ledger.trouble.Load()
	return t != nil && (t.taken || b.config.OnLedgerError == "stop")
}

// awaitBlock waits for a block, without the lock, and reports whether to look
// again. False means that the ledger has failed and money is spent in memory: refuse
// has said no before if it may not.
func (b *Budget) awaitBlock(amount float64) (again bool) {
	if b.ledger.trouble.Load() != nil {
		return false
	}
	k := &b.block
	k.asked += amount
	if k.ready == nil {
		k.ready = make(chan struct{})
	}
	ready := k.ready
	b.want()
	b.mu.Unlock()
	defer b.mu.Lock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ready:
	case <-timer.C:
		b.ledger.late()
	}
	return true
}

// lookAhead asks for the next block before the present one is used up, so that
// callers seldom wait, unless all is booked that there is, and that was spent beyond it.
func (b *Budget) lookAhead() {
	const rounding = 1e-9
	if b.ledger != nil && !b.covers(b.block.ahead/2) && !b.covers(max(0, b.left()-rounding)) {
		b.want()
	}
}

func (b *Budget) want() {
	if !b.block.wanted {
		b.block.wanted = true
		b.ledger.rouse()
	}
}

// propose returns what is to be written of the budget, or false if there is
// nothing. With settle nothing is reserved ahead.
func (b *Budget) propose(now time.Time, settle bool) (account, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.block
	if !k.wanted && !k.changed && !settle {
		return account{}, false
	}
	b.advance(now)
	due := b.settled + b.atRisk
	booked := max(k.booked, due)
	switch {
	case settle:
		booked = due
	case k.wanted:
		k.fit(now, b.config.least())
		booked = max(booked, due+min(k.asked+k.ahead, max(0, b.left())))
	}
	k.asked, k.wanted = 0, false
	if booked == k.booked && !k.changed {
		b.release() // nothing is left of what was asked for
		return account{}, false
	}
	k.changed = false
	// What is given back may not be handed out while it is on its way.
	k.booked = min(k.booked, booked)
	return account{Name: b.name, Settled: b.settled, Booked: booked, Periods: clonePeriods(b.periods)}, true
}

// fit makes the next block larger than one that was used up quickly, and smaller
// than one that lasted.
func (k *block) fit(now time.Time, limit float64) {
	switch lasted := now.Sub(k.taken); {
	case lasted < quick:
		k.ahead *= 2
	case lasted > slow:
		k.ahead /= 2
	}
	k.ahead = min(max(k.ahead, limit/1000), limit/20)
}

// least is the tightest limit.
func (c *Config) least() float64 {
	least := math.Inf(1)
	for _, s := range spans {
		if limit := c.limit(s); limit > 0 {
			least = min(least, limit)
		}
	}
	if math.IsInf(least, 1) {
		return 1 // without a limit nothing is lost by a block, whatever its size
	}
	return least
}

// written tells that the proposal is in the ledger, or why not, and lets those go
// on who wait for it.
func (b *Budget) written(now time.Time, booked float64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.block
	if err == nil {
		k.booked, k.taken = booked, now
	} else {
		k.wanted = true
	}
	b.release()
}

// release lets those look again who wait for a block.
func (b *Budget) release() {
	if b.block.ready != nil {
		close(b.block.ready)
		b.block.ready = nil
	}
}

// restore begins with what the ledger says. What was spent before that, in memory,
// counts as well.
func (b *Budget) restore(now time.Time, a account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := b.settled
	b.periods = clonePeriods(a.Periods)
	// The block may have been spent in the present period, though it was taken in
	// one before.
	b.settled = a.Settled
	b.advance(now)
	b.settled = a.Booked + mine
	b.block.booked = a.Booked
}

// rest counts the ticks without use, and reports whether what is reserved should
// be given back.
func (b *Budget) rest() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &b.block
	if k.idle++; k.used {
		k.idle = 0
	}
	k.used = false
	return k.idle >= idleTicks && k.booked > b.settled+b.atRisk && !math.IsInf(k.booked, 1)
}
