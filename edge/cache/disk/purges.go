package disk

import "sync"

// purges remember of each purged mark when that was. An object is dead when one
// of its marks was purged after it was put in; that is found when it is asked for
// or moved, so that a purge takes the same time however many objects it hits.
//
// A purge is remembered as long as its record is in the log. When that is
// evicted, so were all objects before it, and of those that were moved behind it
// none had the mark.
type purges struct {
	mu    sync.RWMutex
	table map[uint64]purged
}

// purged is what is known of a mark: the sequences of the newest purges of both
// kinds, and of the newest one that is in the log, with its segment.
type purged struct {
	hard, soft uint64
	written    uint64
	segment    uint32
}

// maxPurges bounds the marks that are remembered. With one more the tier is
// emptied, which purges them too.
const maxPurges = 1 << 20

// add notes a purge. It reports whether there was room.
func (p *purges) add(marks []uint64, sequence uint64, soft bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, mark := range marks {
		was := p.table[mark]
		if soft {
			was.soft = max(was.soft, sequence)
		} else {
			was.hard = max(was.hard, sequence)
		}
		p.table[mark] = was
	}
	return len(p.table) <= maxPurges
}

// wrote notes that the record of a purge is in the segment, and appends to listed
// the marks that the segment did not have yet.
func (p *purges) wrote(marks []uint64, sequence uint64, segment uint32, listed []uint64) []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, mark := range marks {
		was, ok := p.table[mark]
		if !ok { // forgotten: the tier was emptied meanwhile
			continue
		}
		if was.segment != segment {
			listed = append(listed, mark)
		}
		was.written, was.segment = sequence, segment
		p.table[mark] = was
	}
	return listed
}

// evict forgets what was purged last in the segment.
func (p *purges) evict(marks []uint64, segment uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, mark := range marks {
		if was := p.table[mark]; was.segment == segment && was.written >= max(was.hard, was.soft) {
			delete(p.table, mark)
		}
	}
}

func (p *purges) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.table = map[uint64]purged{}
}

func (p *purges) len() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.table)
}

// judge says what purges have made of an object.
func (p *purges) judge(h *header, m meta) (dead, soft bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	soft = h.soft
	if len(p.table) == 0 {
		return false, soft
	}
	for i := range h.marks {
		was := p.table[m.mark(i)]
		dead = dead || was.hard > h.sequence
		soft = soft || was.soft > h.sequence
	}
	return dead, soft
}
