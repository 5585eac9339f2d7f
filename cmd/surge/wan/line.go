package wan

import (
	"context"
	"sync"
	"time"
)

// lineBytes bounds what is under way in one direction of the relay. It is a bound
// for the memory of the process, far above what a test keeps in the air.
const lineBytes = 64 << 20

// A datagram is under way.
type datagram struct {
	due  time.Duration
	seq  uint64 // keeps the order of what is due at the same time
	flow *flow
	data []byte
}

// A line holds the datagrams of one direction, of all flows, until they are due:
// one goroutine and one timer, however many datagrams.
type line struct {
	epoch time.Time
	wake  chan struct{} // the first has changed

	mu    sync.Mutex
	heap  []datagram // by due, then seq
	seq   uint64
	bytes int
}

func newLine(epoch time.Time) *line {
	return &line{epoch: epoch, wake: make(chan struct{}, 1)}
}

// push puts a datagram on the line, which owns its data from then on. It reports
// false when the line is full.
func (l *line) push(d datagram) bool {
	l.mu.Lock()
	if l.bytes+len(d.data) > lineBytes {
		l.mu.Unlock()
		return false
	}
	l.bytes += len(d.data)
	l.seq++
	d.seq = l.seq
	l.heap = append(l.heap, d)
	first := l.up(len(l.heap)-1) == 0
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
	return true
}

// run delivers the datagrams when they are due, in order, until ctx is done.
func (l *line) run(ctx context.Context, deliver func(datagram)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var batch []datagram
	for {
		var wait time.Duration
		batch, wait = l.take(batch[:0])
		for i, d := range batch {
			deliver(d)
			batch[i] = datagram{}
		}
		if len(batch) > 0 {
			continue // time has passed
		}
		if wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
			return
		}
	}
}

// take moves what is due into batch, and returns how long to wait for the next;
// negative if there is none.
func (l *line) take(batch []datagram) ([]datagram, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Since(l.epoch)
	for len(l.heap) > 0 && l.heap[0].due <= now {
		batch = append(batch, l.pop())
	}
	if len(l.heap) == 0 {
		return batch, -1
	}
	return batch, l.heap[0].due - now
}

// The heap is written out: container/heap would allocate for each datagram.

func (l *line) less(i, j int) bool {
	a, b := &l.heap[i], &l.heap[j]
	return a.due < b.due || a.due == b.due && a.seq < b.seq
}

func (l *line) up(i int) int {
	for i > 0 {
		parent := (i - 1) / 2
		if !l.less(i, parent) {
			break
		}
		l.heap[i], l.heap[parent] = l.heap[parent], l.heap[i]
		i = parent
	}
	return i
}

func (l *line) pop() datagram {
	d := l.heap[0]
	last := len(l.heap) - 1
	l.heap[0] = l.heap[last]
	l.heap[last] = datagram{}
	l.heap = l.heap[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && l.less(child+1, child) {
			child++
		}
		if !l.less(child, i) {
			break
		}
		l.heap[i], l.heap[child] = l.heap[child], l.heap[i]
		i = child
	}
	l.bytes -= len(d.data)
	return d
}
