package edge

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"spillway/edge/admit"
)

// Deadlines reset on progress. A deadline set on a connection or stream is a
// point in time: a slow visitor who makes progress would run into it, and on
// HTTP/2 so would a handler that neither reads nor writes for a while. So each
// blocking read and write is marked instead, and one sweep through all
// connections cuts those that have been in the same one for too long. A mark
// costs two atomic additions, and no clock is read.
//
// Marks end with the handler, but HTTP/2 and HTTP/3 send the last of a response
// after it, when the visitor's flow control lets them. That is left to the
// protocols' own deadlines: on HTTP/3 one is set when the handler returns, on
// HTTP/2 that would cost a message to the connection's goroutine, so that
// net/http sets one for each request (finishTimeout) and the sweep moves it on
// while the handler runs.

// sweeps per timeout: what is cut is cut at most an eighth late.
const sweepsPerTimeout = 8

// minRate is what a visitor must take on average, of all that the connection has
// for it: how its streams share that is decided by priorities (RFC 9218) and by
// the network. One Write of a whole body would not show that it stands still, so
// that it is cut into what minRate moves within the stall timeout.
const minRate = 8 << 10 // bytes per second

// starved is how many stall timeouts one response, or one body that is sent, may
// stand still while its connection moves. With the default that is long enough
// for the last of a hundred pictures of 1 MiB that come one after the other over
// 1 Mbit/s. What bounds who holds a hundred open with what a single one pays for
// is this.
const starved = 40

// finishTimeout bounds what follows the handler's return to between one and two
// stall timeouts.
func finishTimeout(c TimeoutsConfig) time.Duration { return 2 * c.Stall }

// A mark tells whether something that may block has come to an end.
type mark struct {
	// count is odd while the operation lasts.
	count atomic.Uint32
	// What the last sweep saw, and since when.
	seen  uint32
	since time.Duration
}

func (m *mark) begin() { m.count.Add(1) }
func (m *mark) end()   { m.count.Add(1) }

// lasted returns for how long one and the same operation has lasted.
func (m *mark) lasted(now time.Duration) time.Duration {
	n := m.count.Load()
	if n&1 == 0 || n != m.seen {
		m.seen, m.since = n, now
	}
	return now - m.since
}

// stuck reports whether one and the same operation has lasted for the limit.
func (m *mark) stuck(now, limit time.Duration) bool { return m.lasted(now) >= limit }

// going reports whether an operation lasts.
func (m *mark) going() bool { return m.count.Load()&1 == 1 }

// A connection is one visitor's connection, whatever the protocol.
type connection struct {
	handshake *admit.Handshake
	// quic is nil for TCP, tcp is nil for QUIC.
	quic   *quic.Conn
	tcp    net.Conn
	window atomic.Int64 // of QUIC
	served atomic.Bool  // the handshake is complete
	// prioritizes: the visitor said over HTTP/3 what is urgent (see hear).
	prioritizes atomic.Bool
	open        atomic.Int64 // streams of HTTP/3 that have goroutines

	// Of QUIC: quic once more, for who may come before it is set, its HTTP/3 side, once
	// there is one, and how many streams flowed to it only.
	accepted atomic.Pointer[quic.Conn]
	h3       atomic.Pointer[http3.RawServerConn]
	unis     atomic.Uint32

	// Of TCP: what moves, and how the connection is to end.
	writes  mark
	in, out atomic.Int64
	http2   atomic.Bool
	// hijacked: the server has forgotten the connection.
	hijacked atomic.Bool
	farewell atomic.Pointer[http2.ConnectionError]
	// Of HTTP/2: where its frames are written, and when its visitor was told of a
	// hand-over, since the start.
	frames atomic.Pointer[frameConn]
	told   atomic.Int64

	mu     sync.Mutex
	guards *guard
	starts uint64
	churn  churn
	bodies int64 // bytes of requests that have ended

	// carries is how many visitors' worth of excess is borne: one, or what comes
	// through a trusted proxy.
	carries int64

	// What the sweeps remember, and the place among all connections.
	ready bool // the handshake was complete
	seen  uint64
	busy  time.Duration
	pace  pace
	noise noise
	index int
}

type connectionKey struct{}

func connectionOf(ctx context.Context) *connection {
	c, _ := ctx.Value(connectionKey{}).(*connection)
	return c
}

// enter registers a request whose header is complete.
func (c *connection) enter(g *guard) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starts++
	g.next = c.guards
	if g.next != nil {
		g.next.prev = g
	}
	c.guards = g
}

// leave ends it. The sweep touches the response writer only under the lock, and
// so never after the handler returned. The visitor may have given the request
// up; leave reports whether it has done so once too often.
func (c *connection) leave(g *guard, givenUp bool) (excess bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.prev != nil {
		g.prev.next = g.next
	} else {
		c.guards = g.next
	}
	if g.next != nil {
		g.next.prev = g.prev
	}
	c.churn.left++
	c.bodies += g.body.got.Load()
	c.noise.unread += g.unreadBody()
	return c.churn.note(givenUp)
}

// answered books a request that was answered without a guard of its own.
func (c *connection) answered() { c.ended(false) }

// ended books a request that ended without a guard of its own, and reports what leave
// does.
func (c *connection) ended(givenUp bool) (excess bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starts++
	c.churn.left++
	return c.churn.note(givenUp)
}

// unguarded reports whether no request is being handled.
func (c *connection) unguarded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guards == nil
}

// resting reports whether no request has come since the last sweep, and none is handled.
func (c *connection) resting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guards == nil && c.starts == c.seen
}

// A sight is what one sweep has in hand for all connections.
type sight struct {
	now time.Duration
	// tick is how long ago the last sweep was, as far as that counts: what the node
	// itself slept is nobody's fault.
	tick  time.Duration
	stall time.Duration
	// finish is the finishTimeout of TCP connections.
	finish time.Duration
}

// sweep cuts the requests that are stuck, and returns whether the connection
// has none, and for how long that has been so.
func (c *connection) sweep(s sight) (cuts int, idle bool, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.churn.forgive(time.Duration(c.carries) * s.tick)
	if c.guards != nil || c.starts != c.seen || !c.ready {
		// Idleness begins when the first request can come, not with the handshake.
		c.ready = c.served.Load()
		c.seen, c.busy = c.starts, s.now
	}
	c.keepPace()
	for g := c.guards; g != nil; g = g.next {
		if g.hijacked {
			continue
		}
		cuts += g.cut(s)
		if c.quic == nil {
			g.prolong(s.now, s.finish)
		}
	}
	return cuts, c.guards == nil, s.now - c.busy
}

// received is how much was read of all bodies, under the lock.
func (c *connection) received() int64 {
	n := c.bodies
	for g := c.guards; g != nil; g = g.next {
		n += g.body.got.Load()
	}
	return n
}

// traffic is how many bytes came and left, with all framing.
func (c *connection) traffic() (in, out int64) {
	if c.quic != nil {
		stats := c.quic.ConnectionStats()
		return int64(stats.BytesReceived), int64(stats.BytesSent)
	}
	return c.in.Load(), c.out.Load()
}

// A pace is how fast a connection moves, whatever its streams: each of many that
// share a slow one is slower than any least rate.
type pace struct {
	// sent and taken are how much waiting is paid for by the bytes of bodies that
	// came since the last sweep, and by all that left. Acknowledgements count as
	// taken, which is too little to matter to honest visitors and bounded for others
	// (starved).
	sent, taken time.Duration
	// full tells that a body is there which the node does not read: it may fill the
	// window that all bodies of the connection share, so that the others' silence
	// is no fault of the visitor.
	full bool
	// What was known at the last sweep.
	received, out int64
}

// keepPace looks at what moved since the last sweep.
func (c *connection) keepPace() {
	p := &c.pace
	received := c.received()
	_, out := c.traffic()
	p.sent, p.taken = atRate(received-p.received, leastUpload), atRate(out-p.out, minRate)
	p.received, p.out = received, out
	p.full = false
	for g := c.guards; g != nil; g = g.next {
		p.full = p.full || g.body.waits()
	}
}

// atRate is how long so many bytes take at a rate in bytes per second.
func atRate(bytes, rate int64) time.Duration {
	return time.Duration(bytes) * (time.Second / time.Duration(rate))
}

// fresh reports whether no request ever came.
func (c *connection) fresh() bool { return c.seen == 0 }

// A guard watches one request: it is the handler's ResponseWriter and its
// request's Body, and marks what may block.
type guard struct {
	http.ResponseWriter
	l    *Listeners
	conn *connection
	body upload
	// step is the most that goes out in one marked write. Zero marks none: on
	// HTTP/1.1 the writes of the connection itself are marked.
	step    int
	writes  mark
	pending bool // part of the response may wait for the handler's return
	parted  bool // see part

	// By the sweep, or under its lock.
	patience  time.Duration // see patient
	owed      time.Duration // see untaken
	prolonged time.Duration
	hijacked  bool

	prev, next *guard
}

// past is a deadline that ends what blocks now.
var past = time.Unix(1, 0)

// patient lets a request last whose two ends talk as they like, such as a tunnel
// or a stream of messages: nothing is asked of it but that a read or a write of
// it moves once in the given time. It does nothing for a writer that is not from
// the listeners, such as those of plain HTTP.
func patient(w http.ResponseWriter, idle time.Duration) {
	for w != nil {
		if g, ok := w.(*guard); ok {
			g.conn.mu.Lock()
			defer g.conn.mu.Unlock()
			g.patience = idle
			return
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return
		}
		w = inner.Unwrap()
	}
}

// cut ends the operations that are stuck. The handler sees
// os.ErrDeadlineExceeded.
func (g *guard) cut(s sight) (cuts int) {
	if g.unread(s) {
		http.NewResponseController(g.ResponseWriter).SetReadDeadline(past)
		cuts++
	}
	if g.untaken(s) {
		http.NewResponseController(g.ResponseWriter).SetWriteDeadline(past)
		cuts++
	}
	return cuts
}

// unread reports whether the visitor sends too little.
func (g *guard) unread(s sight) bool {
	if g.patience > 0 {
		return g.body.reads.stuck(s.now, g.patience)
	}
	return g.body.behind(s, &g.conn.pace)
}

// untaken reports whether the visitor takes too little. As with uploads, waiting
// runs into debt, and whatever the connection takes pays it off.
func (g *guard) untaken(s sight) bool {
	if g.patience > 0 {
		return g.writes.stuck(s.now, g.patience)
	}
	lasted := g.writes.lasted(s.now)
	waiting := g.writes.going() || g.step == 0 && g.conn.writes.going()
	if waiting {
		g.owed += s.tick
	}
	g.owed = max(g.owed-g.conn.pace.taken, 0)
	return waiting && (g.owed >= s.stall || lasted >= starved*s.stall)
}

// prolong moves the deadline on that the server gave the request. Only requests
// that outlast half of it ever pay for that.
func (g *guard) prolong(now, finish time.Duration) {
	if g.prolonged == 0 {
		g.prolonged = now // the first sight; net/http set the deadline just before
	}
	if now-g.prolonged >= finish/2 {
		g.prolonged = now
		http.NewResponseController(g.ResponseWriter).SetWriteDeadline(time.Now().Add(finish))
	}
}

// buffered is the size below which HTTP/3 keeps a write back until the handler
// returns.
const buffered = 4 << 10

// part makes the answer the last one of its connection if a hand-over wants it so
// (RFC 9112 section 9.6). It is called before the header is written.
func (g *guard) part() {
	if g.parted {
		return
	}
	g.parted = true
	if g.l.parts(g.conn) {
		g.Header()["Connection"] = []string{"close"}
	}
}

// WriteHeader implements http.ResponseWriter. A final header waits for the body; an
// interim one is sent, and may block, at once.
func (g *guard) WriteHeader(status int) {
	if status >= 200 {
		g.part()
		g.ResponseWriter.WriteHeader(status)
		return
	}
	g.writes.begin()
	defer g.writes.end()
	g.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (g *guard) Write(p []byte) (int, error) {
	g.part()
	if g.step == 0 {
		return g.ResponseWriter.Write(p)
	}
	g.pending = len(p) < buffered
	for n := 0; ; {
		part := p[n:min(len(p), n+g.step)]
		g.writes.begin()
		m, err := g.ResponseWriter.Write(part)
		g.writes.end()
		n += m
		if err != nil || n >= len(p) || m < len(part) {
			return n, err
		}
	}
}

// FlushError implements what http.ResponseController looks for.
func (g *guard) FlushError() error {
	g.part()
	g.writes.begin()
	defer g.writes.end()
	g.pending = false
	return http.NewResponseController(g.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (g *guard) Flush() { _ = g.FlushError() }

// Hijack implements http.Hijacker. The deadlines of a connection that was taken
// over are the business of who took it; only its writes go on being marked.
func (g *guard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	g.conn.mu.Lock()
	defer g.conn.mu.Unlock()
	conn, buf, err := http.NewResponseController(g.ResponseWriter).Hijack()
	g.hijacked = err == nil
	g.conn.hijacked.Store(g.hijacked)
	return conn, buf, err
}

// Unwrap lets http.ResponseController reach the protocol's own writer.
func (g *guard) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// end bounds what the protocol does after the handler has returned: HTTP/3
// sends what it had kept back, HTTP/1.1 reads the rest of a body.
func (g *guard) end(stall time.Duration) {
	switch {
	case g.hijacked:
	case g.conn.quic != nil && g.pending:
		http.NewResponseController(g.ResponseWriter).SetWriteDeadline(time.Now().Add(stall))
	case g.step == 0 && g.body.from != nil && !g.body.done.Load():
		http.NewResponseController(g.ResponseWriter).SetReadDeadline(time.Now().Add(stall))
	}
}

// Early reports whether a request came as early data that may be a replay: the
// handshake was not complete when its header was read (RFC 8470).
func Early(r *http.Request) bool {
	return r.TLS != nil && !r.TLS.HandshakeComplete
}

var errNoConnection = errors.New("early data outside of the listeners")

// awaitHandshake waits until a request cannot be a replay any more. The request
// is not Early from then on.
func awaitHandshake(r *http.Request) error {
	if !Early(r) {
		return nil
	}
	c := connectionOf(r.Context())
	if c == nil || c.quic == nil {
		return errNoConnection
	}
	select {
	case <-c.quic.HandshakeComplete():
		r.TLS.HandshakeComplete = true // r.TLS is a copy made for the request
		return nil
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
}
