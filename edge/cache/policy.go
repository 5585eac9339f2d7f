package cache

import "sync/atomic"

// A policy decides what to evict: S3-FIFO (Yang et al., SOSP 2023), weighted by
// bytes. New entries enter a small queue; those that are asked for again while
// they are in it move to the main queue, the others leave and are remembered as
// ghosts; a ghost that comes back enters the main queue at once. So a scan of
// things asked for once, the bulk of any crowd's traffic, passes through a tenth
// of the memory only. A hit writes one counter and takes no lock.
type policy struct {
	quota int64
	small queue
	main  queue
	ghost ghost
}

// smallShare is the part of the quota that the small queue may hold, as in the
// paper. Not a knob.
const smallShare = 10

func newPolicy(memory int64) policy {
	g := newGhost(memory)
	return policy{quota: max(0, memory-g.size()), ghost: g}
}

// A slot is an entry's place in the policy and in the index.
type slot struct {
	entry *Entry
	owner *resource
	bytes int64
	chain uint32 // of its keys in the inverted index

	queue      *queue // nil: not in a queue
	prev, next *slot
	frequency  atomic.Int32 // of hits, up to maxFrequency
	proven     bool         // it replaces a slot of the main queue
}

const maxFrequency = 3

// touch counts a hit. A lost update among concurrent hits is no loss.
func (s *slot) touch() {
	if f := s.frequency.Load(); f < maxFrequency {
		s.frequency.CompareAndSwap(f, f+1)
	}
}

// inherit takes over what the policy knows about the slot that this one
// replaces.
func (s *slot) inherit(old *slot) {
	s.proven = s.proven || old.proven
	s.frequency.Store(max(s.frequency.Load(), old.frequency.Load()))
}

// add lets a slot in.
func (p *policy) add(s *slot, hash uint64) {
	if s.proven || p.ghost.take(hash) {
		s.proven = true
		p.main.push(s)
		return
	}
	p.small.push(s)
}

func (p *policy) unlink(s *slot) { s.queue.remove(s) }

// evict takes the slot out that is worth least. There must be one. It ends: each
// step takes a slot out, moves one to the main queue, or lowers a frequency that
// no hit can raise while the shard is locked.
func (p *policy) evict() *slot {
	for {
		if p.small.tail != nil && (p.small.bytes > p.quota/smallShare || p.main.tail == nil) {
			s := p.small.tail
			p.small.remove(s)
			if s.frequency.Load() <= 1 {
				p.ghost.add(s.owner.target.hash)
				return s
			}
			s.frequency.Store(0)
			s.proven = true
			p.main.push(s)
			continue
		}
		s := p.main.tail
		p.main.remove(s)
		f := s.frequency.Load()
		if f == 0 {
			return s
		}
		s.frequency.Store(f - 1)
		p.main.push(s)
	}
}

// A queue is a FIFO of slots; slots can be taken out of its middle.
type queue struct {
	head, tail *slot
	bytes      int64
}

func (q *queue) push(s *slot) {
	s.queue, s.prev, s.next = q, nil, q.head
	if q.head != nil {
		q.head.prev = s
	} else {
		q.tail = s
	}
	q.head = s
	q.bytes += s.bytes
}

func (q *queue) remove(s *slot) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		q.head = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		q.tail = s.prev
	}
	q.bytes -= s.bytes
	s.queue, s.prev, s.next = nil, nil, nil
}

// A ghost table remembers the hashes of what the small queue let go. It is of
// fixed size and without pointers: sets of eight fingerprints, each a FIFO.
type ghost struct {
	sets [][ghostWays]uint32
}

const (
	ghostWays = 8
	// bytesPerGhost is the size of the entries that the table is made for. With
	// smaller ones it remembers a part of what it could.
	bytesPerGhost = 4 << 10
)

func newGhost(memory int64) ghost {
	n := 1
	for int64(n)*ghostWays*bytesPerGhost < memory {
		n *= 2
	}
	return ghost{make([][ghostWays]uint32, n)}
}

func (g *ghost) size() int64 { return int64(len(g.sets)) * ghostWays * 4 }

func (g *ghost) set(hash uint64) (*[ghostWays]uint32, uint32) {
	return &g.sets[hash&uint64(len(g.sets)-1)], uint32(hash>>24) | 1 // never zero, the empty place
}

func (g *ghost) add(hash uint64) {
	set, fingerprint := g.set(hash)
	copy(set[1:], set[:])
	set[0] = fingerprint
}

// take reports whether the hash is remembered, and forgets it.
func (g *ghost) take(hash uint64) bool {
	set, fingerprint := g.set(hash)
	for i, f := range set {
		if f == fingerprint {
			copy(set[i:], set[i+1:])
			set[ghostWays-1] = 0
			return true
		}
	}
	return false
}

func (g *ghost) clear() { clear(g.sets) }
