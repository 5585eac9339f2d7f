package budget

import (
	"fmt"
	"time"
)

// HandOver writes down what is to be written and lets another process have the
// ledger, which opens it with AwaitLedger. What was reserved here stays reserved:
// calls go on within it and nothing is spent beyond, and GiveBack tells the other
// what it comes to. A process that ends without a word leaves the rest counted as
// spent, as a crash does. Nothing but Open takes the ledger back: what this process
// knows of it is old from now on.
//
// A ledger in memory is not handed over: as after a restart, the other begins with
// nothing spent.
func (l *Ledger) HandOver() error {
	err := l.flush(time.Now(), nil)
	l.leave(&trouble{err: fmt.Errorf("it was handed over: %w", errTaken), taken: true, handed: true})
	return err
}

// GiveBack returns by how much more or, below zero, less than it had reserved each
// budget has spent since it was handed over, and counts from there on. What may still
// be needed is given back at the end only.
func (l *Ledger) GiveBack(now time.Time, end bool) map[string]float64 {
	if l.disk == nil {
		return nil
	}
	corrections := map[string]float64{}
	for _, b := range l.all() {
		if c := b.giveBack(now, end); c != 0 {
			corrections[b.name] = c
		}
	}
	return corrections
}

func (b *Budget) giveBack(now time.Time, end bool) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	due := b.settled + b.atRisk
	correction := due - b.block.booked
	if correction < 0 && !end {
		return 0
	}
	b.block.booked = due
	return correction
}

// turn leaves what a budget that was handed over had reserved in the hour that is
// over, where the ledger has it. What calls in flight will cost belongs to the new
// hour: the next GiveBack tells of all of it. It is called with the lock.
func (b *Budget) turn() {
	if t := b.ledger.trouble.Load(); t != nil && t.handed {
		b.block.booked = min(b.block.booked, b.settled)
	}
}

// Correct books what GiveBack of the process before told at a time. Less than was
// reserved is believed in the hour that it was told in, in which it was reserved: in
// the next it would allow more than the limit.
func (l *Ledger) Correct(now, told time.Time, corrections map[string]float64) {
	same := hour.start(now).Equal(hour.start(told))
	for _, b := range l.all() {
		if c := corrections[b.name]; c > 0 || c < 0 && same {
			b.correct(now, c)
		}
	}
	l.rouse()
}

func (b *Budget) correct(now time.Time, correction float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.advance(now)
	// Nobody gives back what another hour has spent.
	b.settled += max(correction, -b.spent(hour))
	b.block.changed = true
}

// count adds what another process has booked that had the ledger meanwhile.
func (b *Budget) count(amount float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled += amount
	b.block.booked += amount
}
