package disk

import "errors"

// An operation is something that the writer has to do, in the order in which it
// was asked for.
type operation struct {
	kind     act
	sequence uint64
	item     Item
	bytes    int64      // that it counts in the queue; 0 for one without a body
	was      entry      // of what is updated
	replaces bool       // something else was kept under the key, or is about to be
	soft     bool       // of a purge
	done     chan error // of reached
	finished bool       // the writer's alone, once it has the operation
}

type act uint8

const (
	putItem act = iota
	updateHead
	deleteKey
	purgeMarks
	removeEverything
	reached // tells who waits that all before it is written
)

var errClosed = errors.New("the disk tier is closed")

// enqueue gives an operation its sequence, lets it take effect in memory, and
// hands it to the writer. What comes before the disk was read waits for its
// sequence. mu must be held.
func (t *Tier) enqueue(o *operation) {
	switch t.phase {
	case opening:
		if o.kind == reached && t.trouble != nil {
			o.done <- t.trouble // nobody knows when, or whether, the disk will be read
			return
		}
		t.push(o)
	case broken: // nothing of what is on the disk will be used again
		if o.done != nil {
			o.done <- t.trouble
		}
	case on:
		if t.apply(o) {
			t.push(o)
		}
	}
}

// apply lets an operation take effect in memory. It reports whether there is
// anything to be written.
func (t *Tier) apply(o *operation) bool {
	t.sequence++
	o.sequence = t.sequence
	hash := o.item.Key.hash()
	switch o.kind {
	case putItem, updateHead, deleteKey:
		kept := t.index.remove(hash)
		_, coming := t.pending[hash]
		o.replaces = kept || coming
		if o.kind == deleteKey && !o.replaces {
			return false // it is dead on the disk as well
		}
		t.pending[hash] = o.sequence
	case purgeMarks:
		if !t.purges.add(o.item.Marks, o.sequence, o.soft) {
			t.push(&operation{kind: removeEverything, sequence: o.sequence})
			return false
		}
	}
	return true
}

// push appends to the queue. Deletes and purges are never refused: when there are
// too many, removing everything stands in for all of them.
func (t *Tier) push(o *operation) {
	if o.bytes == 0 && o.kind != reached {
		t.small += 1 + len(o.item.Marks)
		if t.small > mostSmall && o.kind != removeEverything {
			o = &operation{kind: removeEverything, sequence: o.sequence}
		}
	}
	if o.kind == removeEverything {
		t.empty()
		t.small++
	}
	t.queued += o.bytes
	t.queue = append(t.queue, o)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// empty forgets all objects and all that is to be written, but not who waits.
func (t *Tier) empty() {
	t.index.clear()
	t.purges.clear()
	clear(t.pending)
	kept := t.queue[:0:0]
	for _, o := range t.queue {
		if o.kind == reached {
			kept = append(kept, o)
			continue
		}
		t.settle(o)
	}
	t.queue = kept
	t.small = 0
}

// settle ends an operation. mu must be held.
func (t *Tier) settle(o *operation) {
	if o.finished {
		return
	}
	o.finished = true
	t.queued -= o.bytes
	if o.bytes == 0 && o.kind != reached {
		t.small = max(0, t.small-1-len(o.item.Marks))
	}
	o.item.release()
}

// take returns all that is to be written.
func (t *Tier) take() []*operation {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.queue
	t.queue = nil
	return taken
}
