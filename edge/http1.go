package edge

import (
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// HTTP/1.1 is net/http's, but for hits. While its server waits for a request it waits in
// the Read of a hitConn, which reads requests, answers those that are hits, and returns
// the first one that is none. As long as a visitor asks for hits, net/http sees somebody
// who is silent.
//
// A hitConn must know where requests begin, or it would take a part of one for another.
// It does by what it lets net/http have: a request to its last byte, and nothing of the
// next one before that is answered. Where it cannot tell the end of a request it passes
// on all that comes, and for good. Nothing is ever taken for the beginning of a request
// because it looks like one.

// A hitConn is what net/http has of a connection over HTTP/1.1. Its reads must not
// overlap; net/http sees to that.
type hitConn struct {
	*tls.Conn
	l      *Listeners
	c      *connection
	state  tls.ConnectionState
	remote string

	held []byte // read, and kept back from net/http
	// asked: net/http has a request, and has not answered it. body is what it has yet
	// to be given of it. opaque: where requests begin is not known any more. Of a
	// connection that it will close net/http may begin a read while it lifts the last
	// deadline.
	asked, opaque atomic.Bool
	body          atomic.Int64
	known         bool // a request came
	// posted: the last request that net/http had is a POST, behind which it would take
	// an empty line too many. It must see what follows, so that it does not later.
	posted bool
	// until is the read deadline that was set here, if any. slow: it is for a head of
	// which a part has come.
	until time.Time
	slow  bool
}

func newHitConn(l *Listeners, c *connection, conn *tls.Conn) *hitConn {
	return &hitConn{Conn: conn, l: l, c: c, state: conn.ConnectionState(), remote: conn.RemoteAddr().String()}
}

// Read implements net.Conn.
func (h *hitConn) Read(p []byte) (int, error) {
	switch {
	case h.opaque.Load():
		return h.take(p)
	case h.body.Load() > 0:
		n, err := h.take(p[:min(int64(len(p)), h.body.Load())])
		h.body.Add(-int64(n))
		return n, err
	case h.asked.Load():
		return 0, h.watch(p)
	}
	return h.next(p)
}

// take reads what was kept back, or else what comes.
func (h *hitConn) take(p []byte) (int, error) {
	if len(h.held) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.held)
	if h.held = h.held[n:]; len(h.held) == 0 {
		h.held = nil
	}
	return n, nil
}

// watch returns when the visitor leaves, or sends the next request before this one is
// answered. net/http reads meanwhile to see the one, and stops to look when the other
// comes, whose byte it would keep; so none is given to it.
func (h *hitConn) watch(p []byte) error {
	if len(h.held) > 0 {
		return nil
	}
	n, err := h.Conn.Read(p)
	h.held = append(h.held, p[:n]...)
	return err
}

// next answers hits until there is a request that is none, and gives that one to
// net/http. It works in p, which a reader may use as it likes.
func (h *hitConn) next(p []byte) (int, error) {
	h.until, h.slow = time.Time{}, false
	for have, judged := 0, 0; ; {
		n, failure := h.take(p[have:])
		have += n
		used, size, found, err := h.answer(p[:have], judged)
		if err != nil {
			return 0, io.EOF // an answer is not to be had any more, not even a refusal
		}
		have = copy(p, p[used:have])
		switch {
		case found == whole:
			return h.ask(p[:have], size, failure)
		case h.known && have < leastRequest && failure != nil:
			return 0, failure
		case found == unclear && (have >= leastRequest || !h.known), have == len(p), failure != nil:
			h.await(used > 0, have > 0) // net/http may think that this is the first head of all
			h.opaque.Store(true)
			return have, failure
		}
		h.await(used > 0, have > 0)
		if judged = 0; found == partial {
			judged = size
		}
	}
}

// leastRequest is how many bytes net/http waits for behind a request before it takes
// them for another one, and how many it may be left alone with.
const leastRequest = 4

// ask gives net/http the request at the beginning of b, and keeps the rest back.
func (h *hitConn) ask(b []byte, size int, failure error) (int, error) {
	h.asked.Store(true)
	h.known = true
	if size < len(b) {
		h.held = slices.Concat(b[size:], h.held)
		failure = nil // comes again
	}
	return size, failure
}

// await sets the deadline of the next read, as net/http would. What it has set stands
// until the first answer, and for the first head of all.
func (h *hitConn) await(answered, begun bool) {
	now, timeouts := time.Now(), &h.l.c.Timeouts
	switch {
	case begun && h.known && (answered || !h.slow):
		h.until, h.slow = now.Add(timeouts.Header), true
	case !begun && answered && (h.slow || h.until.Before(now.Add(timeouts.Idle))):
		// A deadline costs as much as a lookup. One that is longer by an eighth than it
		// must be lasts for many requests.
		h.until, h.slow = now.Add(timeouts.Idle+timeouts.Idle/8), false
	default:
		return
	}
	h.Conn.SetReadDeadline(h.until)
}

// SetReadDeadline implements net.Conn. net/http gives a head its time when it sees the
// beginning, which may have come long before.
func (h *hitConn) SetReadDeadline(t time.Time) error {
	if h.opaque.Load() && h.slow {
		if t.IsZero() {
			h.slow = false
		} else if t.After(h.until) {
			t = h.until
		}
	}
	return h.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn. Each request has one, and net/http lifts it when
// the answer has been written.
func (h *hitConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() && h.asked.Load() && h.c.unguarded() {
		if h.body.Load() > 0 {
			h.opaque.Store(true) // it should have closed the connection
		}
		h.asked.Store(false)
	}
	return h.Conn.SetWriteDeadline(t)
}

// hit looks up what a head asks for.
func (h *hitConn) hit(head *head) *exchange {
	// The last answer of a hand-over says that it is the last.
	if head.altered || h.posted || h.l.leaving() {
		return nil
	}
	r := &head.request
	r.RemoteAddr, r.TLS = h.remote, &h.state
	return h.l.hits.hit(r)
}

// answer answers the hits at the beginning of b, which are used bytes. What it has found
// behind them is a head of the given size, or if that is partial, so many bytes that need
// not be judged again. Those at the beginning of b need not either.
func (h *hitConn) answer(b []byte, judged int) (used, size int, found reading, err error) {
	h.l.handlers.Add(1)
	defer h.l.handlers.Add(-1)
	a := answersPool.Get().(*answers)
	defer a.free()
	for {
		head := a.head()
		found, judged = head.parse(b[used:], judged), 0
		if size = head.size; found != whole {
			break
		}
		x := h.hit(head)
		if x == nil {
			h.body.Store(head.body)
			h.posted = head.request.Method == http.MethodPost
			break
		}
		h.known = true
		used += head.size
		if a.add(x, h.l) {
			if err = a.send(h); err != nil {
				return used, 0, found, err
			}
		}
	}
	a.head().forget() // of no hit
	return used, size, found, a.send(h)
}
