package faas

import (
	"math"
	"sync/atomic"
)

// A Tally adds up what calls did cost for the one who asked for them, such as a
// route. The zero value is ready; a nil *Tally counts nothing. It is safe for
// concurrent use.
type Tally struct {
	calls           atomic.Uint64
	cost, avoidable dollars
}

// dollars is a sum of money that many may add to.
type dollars struct{ bits atomic.Uint64 }

func (d *dollars) add(usd float64) {
	for {
		was := d.bits.Load()
		if d.bits.CompareAndSwap(was, math.Float64bits(math.Float64frombits(was)+usd)) {
			return
		}
	}
}

func (d *dollars) load() float64 { return math.Float64frombits(d.bits.Load()) }

// add counts a call that has ended, last of all: who sees the call sees what it did
// cost.
func (t *Tally) add(usd float64, avoidable bool) {
	if t == nil {
		return
	}
	t.cost.add(usd)
	if avoidable {
		t.avoidable.add(usd)
	}
	t.calls.Add(1)
}

// Calls is how many calls have ended.
func (t *Tally) Calls() uint64 { return t.calls.Load() }

// Cost is what they did cost, in US dollars.
func (t *Tally) Cost() float64 { return t.cost.load() }

// Avoidable is what those of them did cost whose Request said so, in US dollars.
func (t *Tally) Avoidable() float64 { return t.avoidable.load() }
