package edge

import (
	"context"
	"fmt"
	"sync"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
)

// newRawServerConn is http3.Server.NewRawServerConn, which keeps to itself the
// control stream that GOAWAY has to be written to.
//
//go:linkname newRawServerConn github.com/quic-go/quic-go/http3.(*Server).newRawServerConn
func newRawServerConn(*http3.Server, *quic.Conn) (*http3.RawServerConn, *quic.SendStream, error)

// serve answers a connection's requests until it has ended, and its handlers
// too. It does what http3.Server does, and knows of each stream: how long its
// header may take, and whether it ever brought a request.
func (q *quicServer) serve(c *connection) error {
	h3, control, err := newRawServerConn(q.server, c.quic)
	if err != nil {
		// RFC 9114 section 6.2 has visitors let the node open it. No sweep would find the
		// connection of one who does not.
		c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeGeneralProtocolError), "no room for a control stream")
		return fmt.Errorf("open the control stream: %w", err)
	}
	var streams sync.WaitGroup
	defer streams.Wait()
	c.h3.Store(h3)
	hits := q.hitsOf(c, &streams)

	// The visitor is told to go in two steps (RFC 9114 section 5.2): after the first
	// he opens no more streams, and those on their way are answered; after the second
	// what he opens is not. A connection without a request is not told: its visitor
	// came for an answer. Neither word waits for his window: it is only copied.
	var next quic.StreamID
	wait, lulled, told, closed := q.l.leave, false, false, false
	stop := func() {}
	defer func() { stop() }()
	within := func(d time.Duration) {
		stop()
		wait, stop = context.WithTimeout(q.l.patience, d)
	}
	tell := func() {
		told = true
		control.Write(goAway(lastStream))
		within(crossing)
	}
	for {
		if next < early {
			q.takeUni(c) // they come with the first requests, or before
		}
		str, err := c.quic.AcceptStream(wait)
		if err == nil && !told && q.l.leaving() {
			tell() // and then answer: see lull
		}
		switch {
		case err == nil && closed:
			reject(str)
		case err == nil && q.sheds(c):
			next = str.StreamID() + 4
			reject(str)
		case err == nil:
			next = str.StreamID() + 4
			if hits != nil && hits.answer(str) {
				break
			}
			c.open.Add(1)
			if hits != nil {
				hits.spare()
			}
			streams.Go(func() { q.request(c, h3, str) })
		case c.quic.Context().Err() != nil:
			return context.Cause(c.quic.Context())
		case q.l.patience.Err() != nil:
			return c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		case told:
			closed, wait = true, q.l.patience
			control.Write(goAway(next))
		case next == 0:
			wait = q.l.patience
		case lulled:
			tell()
		default:
			lulled = true
			within(lull)
		}
	}
}

// reject tells the visitor that nothing was done for a request, and that it may be sent
// again (RFC 9114 section 4.1.1).
func reject(str *quic.Stream) {
	str.ReleaseStreamCredit()
	str.CancelRead(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
	str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestRejected))
}

// leastStreams is what a visitor may have in flight on one connection whatever the node's
// trouble: with it a page loads on, one part after the other. Not a knob.
const leastStreams = 8

// sheds reports whether a new stream is rejected before it is read: when the node is
// overwhelmed, and the connection has its share in flight. A header costs the most of what
// can still be saved then, and what is rejected unread may be asked for again.
func (q *quicServer) sheds(c *connection) bool {
	if c.open.Load() < leastStreams*c.carries || !q.l.admit.Overwhelmed() {
		return false
	}
	q.l.conns.shedStreams.Add(1)
	return true
}

// request handles one stream. Its deadline is for the header, and lifted when
// that is complete (see Listeners.ServeHTTP).
func (q *quicServer) request(c *connection, h3 *http3.RawServerConn, str *quic.Stream) {
	defer c.open.Add(-1)
	begun := time.Now()
	str.SetReadDeadline(begun.Add(q.l.c.Timeouts.Header))
	h3.HandleRequestStream(str)
	if q.streamEnded(c) && time.Since(begun) >= q.l.c.Timeouts.Header {
		q.l.conns.stalls.Add(1)
	}
}

// streamEnded books a stream, and closes the connection if that overdraws its account. It
// reports whether one brought no request: this one, or one that ended at the same time.
func (q *quicServer) streamEnded(c *connection) (headless bool) {
	headless, excess := c.streamEnded()
	if excess {
		q.l.excess(c)
	}
	return headless
}

// takeUni handles the streams that flow to the node only, as far as they have come. It
// does not wait, so that no goroutine stands by for streams that hardly ever come: the
// loop of requests looks for them, and so does every sweep. Three are of use, and
// browsers add some to keep servers tolerant; who opens them without end is up to
// something. It may be called concurrently.
func (q *quicServer) takeUni(c *connection) {
	h3 := c.h3.Load()
	for h3 != nil {
		str, err := c.quic.AcceptUniStream(canceled)
		if err != nil {
			return
		}
		go h3.HandleUnidirectionalStream(str)
		if c.unis.Add(1) > quicUniStreams && c.giveUp() {
			q.l.excess(c)
		}
	}
}

// early is the ID of the request from which on streams that flow to the node only are
// left to the sweep.
const early quic.StreamID = 4 * 8

// canceled is the context of who does not wait.
var canceled = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// lastStream is the greatest ID of a request (RFC 9114 section 5.2).
const lastStream quic.StreamID = 1<<62 - 4

// goAway returns the frame that tells which streams are not answered any more
// (RFC 9114 section 5.2).
func goAway(first quic.StreamID) []byte {
	const frameGoAway = 0x7
	b := quicvarint.Append([]byte{frameGoAway}, uint64(quicvarint.Len(uint64(first))))
	return quicvarint.Append(b, uint64(first))
}
