package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A registry holds all connections, for the sweep.
type registry struct {
	start time.Time

	mu  sync.Mutex
	all []*connection

	headerTimeouts, idleTimeouts, stalls atomic.Uint64
}

func (r *registry) add(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.busy = time.Since(r.start)
	c.index = len(r.all)
	r.all = append(r.all, c)
}

func (r *registry) remove(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.all) - 1
	r.all[c.index] = r.all[last]
	r.all[c.index].index = c.index
	r.all[last] = nil
	r.all = r.all[:last]
}

// snapshot appends all connections to buf, so that a sweep does not keep new
// ones waiting.
func (r *registry) snapshot(buf []*connection) []*connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(buf, r.all...)
}

func (r *registry) count() (tcp, quic int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		if c.quic == nil {
			tcp++
		} else {
			quic++
		}
	}
	return tcp, quic
}

// sweep looks at every connection several times per timeout, until life ends.
func (l *Listeners) sweep() {
	t := l.c.Timeouts
	every := min(t.Header, t.Idle, l.rules.Load().stall) / sweepsPerTimeout
	tick := time.NewTicker(min(max(every, time.Millisecond), time.Second))
	defer tick.Stop()
	draining := time.Duration(-1)
	var buf []*connection
	for {
		select {
		case <-l.life.Done():
			return
		case <-tick.C:
		}
		now := time.Since(l.conns.start)
		if draining < 0 && l.drain.Err() != nil {
			draining = now
		}
		buf = l.conns.snapshot(buf[:0])
		for _, c := range buf {
			if c.quic != nil {
				l.sweepQUIC(c, now, draining)
			} else {
				l.sweepTCP(c, now)
			}
		}
		clear(buf) // a connection that ends must not wait for the next sweep
	}
}

// sweepTCP cuts requests that are stuck, and the connection when it does not
// take what is written. Headers and idleness are the business of net/http.
func (l *Listeners) sweepTCP(c *connection, now time.Duration) {
	stall := l.rules.Load().stall
	cuts, _, _ := c.sweep(now, stall, finishTimeout(l.c.Timeouts))
	if c.writes.stuck(now, stall) {
		c.close()
		cuts++
	}
	l.conns.stalls.Add(uint64(cuts))
}

// What a draining HTTP/3 connection is left after GOAWAY: visitors close it
// themselves once they have their answers, and must have them first.
const (
	drainGrace = time.Second
	drainQuiet = 5 * time.Second
)

// sweepQUIC cuts requests that are stuck, and connections on which nothing
// comes: http3.Server knows no header timeout, and its idle timeout neither sees
// a stream on which half a header came nor minds PINGs.
func (l *Listeners) sweepQUIC(c *connection, now, draining time.Duration) {
	cuts, idle, age := c.sweep(now, l.rules.Load().stall, 0)
	l.conns.stalls.Add(uint64(cuts))
	switch {
	case !idle:
	case c.fresh() && age >= l.c.Timeouts.Header:
		l.conns.headerTimeouts.Add(1)
		dismiss(c.quic, "no request")
	case age >= l.c.Timeouts.Idle:
		l.conns.idleTimeouts.Add(1)
		dismiss(c.quic, "idle")
	case draining >= 0 && now-draining >= drainGrace && (c.fresh() || age >= drainQuiet):
		dismiss(c.quic, "going away")
	}
}

// dismiss closes a connection without blame. It may block until the close was
// sent, so that it has its own goroutine.
func dismiss(c *quic.Conn, why string) {
	go c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), why)
}

// ListenState is what the listeners hold and have done, for metrics and status.
type ListenState struct {
	TCP, QUIC int // connections
	// Closed because no request came, or none any more (HTTP/3; the other
	// protocols' server does not tell).
	HeaderTimeouts, IdleTimeouts uint64
	// Stalls counts requests and connections cut for want of progress.
	Stalls uint64
	// UploadWindow is how many bytes beyond the initial windows visitors may
	// have under way to the node over HTTP/3.
	UploadWindow int64
}

// State returns the present state.
func (l *Listeners) State() ListenState {
	s := ListenState{
		HeaderTimeouts: l.conns.headerTimeouts.Load(),
		IdleTimeouts:   l.conns.idleTimeouts.Load(),
		Stalls:         l.conns.stalls.Load(),
	}
	s.TCP, s.QUIC = l.conns.count()
	if l.quic != nil {
		s.UploadWindow = l.quic.windows.Load()
	}
	return s
}
