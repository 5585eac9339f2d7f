package edge

import (
	"context"
	"time"
)

// A hand-over leaves newcomers to a successor that has the same sockets, and
// takes leave of those who are here. Nobody is to notice: who is told to go is
// told so that no request is lost on the way, and who cannot be told stays. A
// shutdown has the same rules, and less patience with who does nothing.
const (
	// lateFlows is how long new QUIC connections are waited for. The first packet
	// after a Retry has the connection ID that the Retry gave, and is steered here;
	// so is the rest of a client hello of two datagrams. A Retry's token is good for
	// twice quicHandshakeTimeout.
	lateFlows = 10 * time.Second
	// crossing is how long requests may take from the visitor to the node: those
	// that were sent before he was told to go have come by then.
	crossing = 2 * time.Second
	// lull is how long an HTTP/3 visitor may ask for nothing before he is told to go; who
	// asks sooner is told before he has the answer. Chromium fails a request that it is
	// about to send when it hears GOAWAY, and one that waits for its answer is about to
	// send the fewest.
	lull = 100 * time.Millisecond
	// finishedPoll is how late a hand-over or a shutdown may notice that it is over.
	finishedPoll = 50 * time.Millisecond
)

// HandOver leaves newcomers to a successor and finishes what is here. The
// successor listens on duplicates of the stream sockets (Sockets.Files), and gets
// the new flows of QUIC. The listeners
//
//   - accept no more TCP connections, and serve those that were accepted, whose
//     handshakes and PROXY headers are still to come, with their first requests;
//   - close HTTP/1.1 connections with the next answer, or when they have been idle
//     for as long as ever; to close them earlier would lose requests on their way
//     (RFC 9112 section 9.6);
//   - tell HTTP/2 and HTTP/3 connections in two steps to go (RFC 9113 section 6.8,
//     RFC 9114 section 5.2), the new ones after their first request;
//   - wait 10 s for QUIC connections that still come here, and accept those that come
//     later, until everybody has left: classic BPF sends some here by mistake (see
//     byGeneration), and who is refused has an error;
//   - let downloads, tunnels and streams of messages last until ctx ends.
//
// HandOver returns when all connections have ended, or cuts them off when ctx
// ends, as Shutdown does, with the same errors. All is closed then, and Run
// returns. A Shutdown meanwhile ends it sooner.
func (l *Listeners) HandOver(ctx context.Context) error {
	l.mu.Lock()
	if l.leave.Err() == nil {
		l.part()
	}
	l.mu.Unlock()
	l.awaitFinished(ctx)
	return l.Shutdown(ctx)
}

// awaitFinished returns when nobody is left, or ctx ends.
func (l *Listeners) awaitFinished(ctx context.Context) {
	poll := time.NewTicker(finishedPoll)
	defer poll.Stop()
	for !l.finished() && ctx.Err() == nil {
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
}

// part begins a hand-over or a shutdown. To close a stream socket here leaves its queue
// to who else holds it, and what was accepted before goes its way.
func (l *Listeners) part() {
	l.left = time.Now()
	l.startLeave()
	if l.redirect != nil {
		l.socks.HTTP.Close()
	}
	if l.tcp != nil {
		l.socks.TCP.Close()
	}
	// Those that become known meanwhile are told by ServeHTTP, or by the sweep.
	for _, c := range l.conns.snapshot(nil) {
		if c.begun() {
			l.tell(c)
		}
	}
}

// leaving reports whether a hand-over or a shutdown has begun.
func (l *Listeners) leaving() bool { return l.leave.Err() != nil }

// late reports whether no QUIC connection is waited for any more.
func (l *Listeners) late() bool {
	return l.drain.Err() != nil || l.leaving() && time.Since(l.left) >= lateFlows
}

// finished reports whether nobody is left.
func (l *Listeners) finished() bool {
	if l.plain.Load() > 0 {
		return false
	}
	// What arrives is counted until it is among the connections.
	if l.tcp != nil && l.tcp.arriving.Load() > 0 {
		return false
	}
	if l.quic != nil && (!l.late() || l.quic.alive.Load() > 0) {
		return false
	}
	tcp, quic := l.conns.count()
	return tcp+quic == 0
}

// tell takes the first step of the leave with an HTTP/2 connection. One that had
// no request yet is not told: its visitor came for an answer. HTTP/3 connections
// are told by the goroutine that serves them, of HTTP/1.1 only an answer can tell.
func (l *Listeners) tell(c *connection) {
	frames := c.frames.Load()
	if frames == nil || !c.told.CompareAndSwap(0, max(1, int64(time.Since(l.conns.start)))) {
		return
	}
	l.loops.Go(frames.goAway)
}

// begun reports whether a request ever came.
func (c *connection) begun() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.starts > 0
}

// crossed reports whether an HTTP/2 connection was told to go so long ago that
// what its visitor sent before he knew has come.
func (c *connection) crossed(now time.Duration) bool {
	told := time.Duration(c.told.Load())
	return told > 0 && now-told >= crossing
}

// parts reports whether an answer is to be the last of its connection: over
// HTTP/1.1 the next one, over HTTP/2 that to a visitor who goes on although he was
// told to go. The server makes a GOAWAY of it that names the last request.
func (l *Listeners) parts(c *connection) bool {
	if !l.leaving() || c.quic != nil {
		return false
	}
	return !c.http2.Load() || c.crossed(time.Since(l.conns.start))
}
