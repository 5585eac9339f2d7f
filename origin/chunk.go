package origin

import (
	"sync"
	"sync/atomic"
)

// chunkSize is the unit in which responses are read ahead: large enough for
// most small responses to fit into one, small enough that a trickle does not
// tie up much.
const chunkSize = 32 << 10

// A chunk holds a piece of a body: bytes up to read were taken, those up to
// filled can be.
type chunk struct {
	next         *chunk
	read, filled int
	buf          [chunkSize]byte
}

// A chunkList is a queue of chunks.
type chunkList struct {
	first, last *chunk
	n           int
}

func (l *chunkList) push(c *chunk) {
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
	l.n++
}

func (l *chunkList) pop() {
	c := l.first
	if l.first = c.next; l.first == nil {
		l.last = nil
	}
	c.next = nil
	l.n--
}

// buffers bounds the chunks of all responses of an origin.
type buffers struct {
	total atomic.Int64 // bytes
	used  atomic.Int64
	pool  sync.Pool
}

// get returns an empty chunk, or nil when total is used up.
func (b *buffers) get() *chunk {
	if !b.take() {
		return nil
	}
	c, _ := b.pool.Get().(*chunk)
	if c == nil {
		c = new(chunk)
	}
	c.read, c.filled = 0, 0
	return c
}

// take counts a chunk as used if there is memory for it.
func (b *buffers) take() bool {
	for {
		used := b.used.Load()
		if used+chunkSize > b.total.Load() {
			return false
		}
		if b.used.CompareAndSwap(used, used+chunkSize) {
			return true
		}
	}
}

func (b *buffers) put(c *chunk) {
	b.pool.Put(c)
	b.used.Add(-chunkSize)
}
