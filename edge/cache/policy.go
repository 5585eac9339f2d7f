package cache

// A policy decides what to evict: S3-FIFO (Yang et al., SOSP 2023), weighted by
// bytes. New entries enter a small queue; those that are asked for again while
// they are in it move to the main queue, the others leave and are remembered as
// ghosts; a ghost that comes back enters the main queue at once. So a scan of
// things asked for once, the bulk of any crowd's traffic, passes through a tenth
// of the memory only. A hit writes one counter and takes no lock.
type policy struct {
	nodes []slot // the arena's
	quota int64
	small queue
	main  queue
	ghost ghost
}

// smallShare is the part of the quota that the small queue may hold, as in the
// paper. Not a knob.
const smallShare = 10

const maxFrequency = 3

// touch counts a hit, and reports whether it was the first. A lost update among
// concurrent hits is no loss.
func (s *slot) touch() (first bool) {
	f := s.frequency.Load()
	return f < maxFrequency && s.frequency.CompareAndSwap(f, f+1) && f == 0
}

// inherit takes over what the policy knows about the slot that this one
// replaces.
func (s *slot) inherit(old *slot) {
	s.proven = s.proven || old.proven
	s.frequency.Store(max(s.frequency.Load(), old.frequency.Load()))
}

// add lets a slot in.
func (p *policy) add(i uint32) {
	s := &p.nodes[i]
	s.proven = s.proven || p.ghost.take(s.hash)
	if s.proven {
		p.push(&p.main, i)
	} else {
		p.push(&p.small, i)
	}
}

// maxPassed is how many records that are being sent one eviction passes over.
// Where there are more, what comes is not worth the search, and is not stored.
const maxPassed = 64

// evict takes the slot out that is worth least, or none. A record that is being
// sent is worth something, and its memory would not come free. It ends: each
// step takes a slot out, passes over one, moves one to the main queue, or lowers
// a frequency that no hit can raise while the shard is locked.
func (p *policy) evict() uint32 {
	for passed := 0; passed < maxPassed; {
		small := p.small.tail != 0 && (p.small.bytes > p.quota/smallShare || p.main.tail == 0)
		i := p.main.tail
		if small {
			i = p.small.tail
		}
		if i == 0 {
			return 0
		}
		s := &p.nodes[i]
		p.unlink(i)
		f := s.frequency.Load()
		switch {
		case s.pins.Load() != 0:
			passed++
		case small && f <= 1:
			p.ghost.add(s.hash)
			return i
		case small:
			s.frequency.Store(0)
		case f == 0:
			return i
		default:
			s.frequency.Store(f - 1)
		}
		s.proven = true
		p.push(&p.main, i)
	}
	return 0
}

// A queue is a FIFO of slots; slots can be taken out of its middle.
type queue struct {
	head, tail uint32
	bytes      int64
}

func (p *policy) push(q *queue, i uint32) {
	s := &p.nodes[i]
	s.state = inMain
	if q == &p.small {
		s.state = inSmall
	}
	s.prev, s.next = 0, q.head
	if q.head != 0 {
		p.nodes[q.head].prev = i
	} else {
		q.tail = i
	}
	q.head = i
	q.bytes += s.size()
}

// unlink takes a slot out of its queue.
func (p *policy) unlink(i uint32) {
	s, q := &p.nodes[i], &p.main
	if s.state == inSmall {
		q = &p.small
	}
	if s.prev != 0 {
		p.nodes[s.prev].next = s.next
	} else {
		q.head = s.next
	}
	if s.next != 0 {
		p.nodes[s.next].prev = s.prev
	} else {
		q.tail = s.prev
	}
	q.bytes -= s.size()
	s.state, s.prev, s.next = reserved, 0, 0
}
