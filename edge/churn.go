package edge

import (
	"net/netip"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// A request that its visitor gives up at once costs the node nearly as much as
// one that is answered, and it makes room for the next: a connection could drive
// thousands a second that never count as many in flight (CVE-2023-44487, and
// CVE-2025-8671 where the visitor makes the node do the resetting). What carries
// no request costs too, and neither HTTP/2 nor HTTP/3 limits it: PING, SETTINGS,
// PRIORITY_UPDATE, empty DATA, headers that make no request. So each connection
// has two accounts, of requests given up and of bytes that were none of a
// request. One that overdraws either is closed, and its source blamed for it.
//
// Both are far above what browsers do: one that scrolls through a page of
// pictures gives up some sixty at once, and takes others meanwhile. A
// connection that breaks gives up all that is in flight on it, which limits.streams
// bounds. That of a trusted proxy carries many visitors.
const (
	// churnCost is what a request that was given up adds, in time that pays it
	// off: 20 a second pass for ever. An answer that was taken pays for another.
	churnCost = 50 * time.Millisecond
	// leastChurn is how many may be given up at once, or twice limits.streams.
	leastChurn = 200
	// noiseRate passes for ever, in bytes per second, and noiseDepth at once: more
	// than a connection's windows hold of bodies that nobody has read yet.
	noiseRate  = 64 << 10
	noiseDepth = 4 << 20
	// excessBlame is how many unfinished handshakes an excess counts for: four of
	// them in ten seconds, and the source is refused while the node is short.
	excessBlame = 500
	// churnWork is what the node did in vain for one, as an unfinished handshake is:
	// a source that leaves more than 200 a second, on however many connections, comes
	// to be refused while the node is short.
	churnWork = 5 * time.Millisecond
	// proxyCarries is how many visitors' accounts a trusted proxy's connection has:
	// 2,000 requests given up at once by default, and 200 a second for ever. Its
	// source is never blamed, for that would refuse everybody behind the proxy.
	proxyCarries = 10
)

// grant sets what a connection may owe, by whose it is now. After a PROXY header
// with an address it is the visitor's.
func (l *Listeners) grant(c *connection) {
	c.carries = 1
	now := l.rules.Load()
	if peer := c.peer(); within(peer, now.trusted) || within(peer, now.proxies) {
		c.carries = proxyCarries
	}
	c.churn.depth = time.Duration(c.carries) * churnDepth(l.c.Limits.Streams)
}

// churnDepth is what one visitor may owe of requests given up.
func churnDepth(streams int) time.Duration {
	return time.Duration(max(leastChurn, 2*streams)) * churnCost
}

// peer is the address at the other end.
func (c *connection) peer() netip.Addr {
	if c.quic != nil {
		return plainAddr(addrPort(c.quic.RemoteAddr()).Addr())
	}
	return plainAddr(addrPort(c.tcp.RemoteAddr()).Addr())
}

// blame charges the source for harm that was done, unless it is a proxy whose
// address stands for everybody behind it.
func (c *connection) blame(connections int) {
	if c.carries == 1 {
		c.handshake.Blame(connections)
	}
}

// charge charges the source for work that was done in vain, with the same exception.
func (c *connection) charge(work time.Duration) {
	if c.carries == 1 {
		c.handshake.Cost(work)
	}
}

// A churn is a connection's account of requests given up, under its lock.
type churn struct {
	owed, depth time.Duration
	// streams counts what came over HTTP/3 and ended, left the requests among them.
	// headless is how many were found to have brought none.
	streams, left, headless uint64
	over                    bool
}

// note books a request that has ended, and reports whether it is the one that
// overdraws the account.
func (u *churn) note(givenUp bool) (excess bool) {
	if !givenUp {
		u.owed = max(u.owed-churnCost, 0)
		return false
	}
	u.owed += churnCost
	excess = u.owed > u.depth && !u.over
	u.over = u.over || excess
	return excess
}

// forgive pays debts off as time passes.
func (u *churn) forgive(tick time.Duration) { u.owed = max(u.owed-tick, 0) }

// streamEnded books a stream of HTTP/3. One without a request (reset before its
// header was complete, or with a header that makes none) counts as given up.
func (c *connection) streamEnded() (headless, excess bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.churn
	u.streams++
	// Requests are booked before their streams, so that the difference is never
	// more than there are.
	if u.streams-min(u.left, u.streams) <= u.headless {
		return false, false
	}
	u.headless++
	return true, u.note(true)
}

// giveUp books something else that brought no request.
func (c *connection) giveUp() (excess bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.churn.note(true)
}

// A noise is a connection's account of bytes that were none of a request, kept
// by the sweep.
type noise struct {
	owed int64
	// What was known at the last sweep, and for how long nothing had come.
	in, explained int64
	silent        time.Duration
	// unread is what may be under way of bodies whose readers have gone, under the
	// lock.
	unread int64
}

// unreadBody is what may be under way of a body whose reader has gone.
func (g *guard) unreadBody() int64 {
	if g.body.from == nil || g.body.done.Load() {
		return 0
	}
	return maxStreamWindow
}

// noisy books what came since the last sweep, and reports whether the account is
// overdrawn.
func (c *connection) noisy(tick time.Duration, headerBytes int64) (excess bool) {
	in, out := c.traffic()
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &c.noise
	// A body in small pieces is mostly framing, and an answer is acknowledged.
	explained := 4*(c.received()+n.unread) + out/8 + int64(c.starts)*headerBytes
	came := in - n.in - (explained - n.explained)
	n.silent += tick
	if in != n.in {
		n.silent = 0
	}
	n.in, n.explained = in, explained
	n.owed = max(n.owed+came-c.carries*int64(tick.Seconds()*noiseRate), 0)
	if n.owed <= c.carries*noiseDepth || c.churn.over || c.hijacked.Load() {
		return false
	}
	c.churn.over = true
	return true
}

// excess closes a connection that overdrew an account.
func (l *Listeners) excess(c *connection) {
	l.conns.excesses.Add(1)
	c.blame(excessBlame)
	if c.quic != nil {
		dismiss(c.quic, http3.ErrCodeExcessiveLoad, "too much for nothing")
		return
	}
	c.goAway(http2.ErrCodeEnhanceYourCalm)
}
