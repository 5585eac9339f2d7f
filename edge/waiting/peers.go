package waiting

import "math"

// peers are what visitors brought of the rooms of other nodes with the same key.
// The room calls nobody who arrived much later than those whom the slowest of
// them calls: so a visitor overtakes nobody by being at another node.
type peers struct {
	all map[uint32]peer
	// bound is the latest arrival that may be called.
	bound int64
}

// A peer is the latest hint of another node, and when the room heard of it.
type peer struct {
	hint
	heard int64
}

// age is how long ago the hint was true, even if its node's clock is ahead.
func (p *peer) age(now int64) int64 { return now - min(p.at, p.heard) }

const (
	// peerLead is how far the room may be ahead of the slowest.
	peerLead = 3 * second / 4
	// peerLife is how long a hint counts. Front visitors come every few seconds;
	// nodes that nobody comes from any more hold nobody up.
	peerLife = 30 * second
	// mostPeers bounds the nodes that are known.
	mostPeers = 64
)

// note takes what a ticket tells of another node.
func (p *peers) note(h hint, own uint32, now int64) {
	if h.at == 0 || h.node == own || now-h.at > peerLife || h.at-now > clockAhead.Microseconds() {
		return
	}
	if p.all == nil {
		p.all = map[uint32]peer{}
	}
	old, known := p.all[h.node]
	if known && old.at >= h.at || !known && len(p.all) >= mostPeers {
		return
	}
	p.all[h.node] = peer{h, now}
}

// step sets the bound.
func (p *peers) step(now int64) {
	p.bound = math.MaxInt64
	for node, other := range p.all {
		age := other.age(now)
		if age > peerLife {
			delete(p.all, node)
			continue
		}
		// It went on meanwhile, as far as one can tell.
		there := other.cursor + int64(float64(other.speed)*float64(max(0, age)))
		p.bound = min(p.bound, there+peerLead)
	}
}

// A front is how far the room itself is, for the hints that it gives.
type front struct {
	cursor  int64
	at      int64
	moved   int64 // when somebody was let in last, or the room opened
	speed   float64
	started bool
}

// frontMemory is over how long the speed is taken, in microseconds.
const frontMemory = 3 * second

// move notes where the cursor is.
func (f *front) move(cursor int64, admitted bool, now int64) {
	if admitted {
		f.moved = now
	}
	if passed := now - f.at; f.started && passed > 0 {
		weight := -math.Expm1(-float64(passed) / float64(frontMemory))
		f.speed += weight * (float64(cursor-f.cursor)/float64(passed) - f.speed)
	}
	f.cursor, f.at, f.started = cursor, now, true
}

// hint is what others should know: nothing, unless the room lets people in.
func (f *front) hint(node uint32, now int64) hint {
	if !f.started || now-f.moved > peerLife {
		return hint{}
	}
	return hint{node: node, at: f.at, cursor: f.cursor, speed: float32(max(0, f.speed))}
}
