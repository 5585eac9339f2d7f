package edge

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	_ "unsafe" // for go:linkname

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
)

// parsePriority is what http3 makes of a Priority field.
//
//go:linkname parsePriority github.com/quic-go/quic-go/http3.parsePriority
func parsePriority(value string) (urgency int8, incremental bool)

const (
	// glanceBytes is the most of a request that is looked at.
	glanceBytes = 2 << 10
	// glanceWait is how long the next stream waits for a request whose first byte has
	// come and whose end has not: what one datagram brings is there after far less.
	glanceWait = 500 * time.Microsecond
	// leastGlance is what it falls to on a connection whose requests come in parts.
	leastGlance = glanceWait / 32
	// mostSent is the largest body that is sent here. A larger one is seldom asked for,
	// and takes so long that the visitor may come to want it sooner or later than others:
	// PRIORITY_UPDATE (RFC 9218 section 7) moves what http3 sends.
	mostSent = 256 << 10
	// atOnce is what a stream takes without waiting for the visitor's window.
	atOnce = 1452
)

// A glance is what one look at a stream needs. It is used again.
type glance struct {
	request3
	in  [glanceBytes]byte
	out []byte
}

var glances = sync.Pool{New: func() any { return new(glance) }}

// mostKept bounds the buffer of a glance that is kept for the next.
const mostKept = 16 << 10

func (g *glance) release() {
	if cap(g.out) > mostKept {
		g.out = nil
	}
	glances.Put(g)
}

// A hits3 answers the hits among the requests of one HTTP/3 connection. It looks at a
// stream without taking anything from it; what is no hit http3 finds untouched.
type hits3 struct {
	q *quicServer
	c *connection
	// sends counts the answers that wait for the visitor.
	sends *sync.WaitGroup
	// Of the connection, as http3 has it with each request.
	tls    *tls.ConnectionState
	addr   net.Addr
	remote string
	// wait is for how long a glance may last.
	wait time.Duration
	// last is the stream whose credit the visitor gets with the next answer.
	last *quic.Stream
}

// hitsOf returns what answers a connection's hits, or nil.
func (q *quicServer) hitsOf(c *connection, sends *sync.WaitGroup) *hits3 {
	if q.l.hits == nil || q.l.c.HTTP3.FastPath == "off" {
		return nil
	}
	return &hits3{q: q, c: c, sends: sends, wait: glanceWait}
}

// answer answers the request of a stream if it is a hit, and has come with its end. It
// runs in the goroutine that accepts streams, so that what came in one datagram is
// answered in one.
func (h *hits3) answer(str *quic.Stream) (done bool) {
	var x *exchange // of a hit, while it is here
	defer h.survive(str, &x, &done)
	str.SetReadDeadline(time.Now().Add(h.wait))
	g := glances.Get().(*glance)
	n, err := str.Peek(g.in[:])
	if err != io.EOF {
		// An upload or a tunnel; the next ones may be, too.
		h.wait = max(h.wait/2, leastGlance)
		g.release()
		return false
	}
	h.wait = glanceWait
	if !g.parse(g.in[:n], int(h.q.l.c.Limits.HeaderBytes)) {
		g.release()
		return false
	}
	r := &g.request
	said := h.c.hear(r.Header)
	r.TLS, r.RemoteAddr = h.state(), h.remoteAddr()
	if x = h.q.l.hits.hitWithin(r, mostSent); x == nil {
		g.release()
		return false
	}
	h.prioritize(str, said)
	consume(str, g.in[:])
	body := x.body()
	g.frame(x, len(body))
	if len(g.out)+len(body) > atOnce {
		h.c.open.Add(1)
		h.spare()
		hit := take(&x)
		h.sends.Go(func() { h.send(str, hit, g, body) })
		return true
	}
	h.release(str)
	g.out = append(g.out, body...)
	n, err = str.Write(g.out) // all or nothing, for so little is only copied
	end(str, err)
	take(&x).finish(min(n, len(body)), err)
	g.release()
	h.ended(h.c.ended(err != nil), err != nil)
	return true
}

// frame makes the HEADERS frame of an answer, and the head of its DATA frame.
func (g *glance) frame(x *exchange, body int) {
	const headers, data, head = 0x1, 0x0, 1 + 4 // a length of four bytes (RFC 9000 section 16)
	b := append(g.out[:0], headers, 0, 0, 0, 0)
	b = x.appendHead(b, protoHTTP3, nil, appendSection)
	binary.BigEndian.PutUint32(b[1:], 2<<30|uint32(len(b)-head))
	if body > 0 {
		b = quicvarint.Append(append(b, data), uint64(body))
	}
	g.out = b
}

// take takes an exchange from where survive would end it.
func take(from **exchange) *exchange {
	x := *from
	*from = nil
	return x
}

// send sends an answer that waits for the visitor to take it, as ServeHTTP does.
func (h *hits3) send(str *quic.Stream, x *exchange, g *glance, body []byte) {
	l, c := h.q.l, h.c
	l.handlers.Add(1)
	defer l.handlers.Add(-1)
	defer c.open.Add(-1)
	defer h.survive(str, &x, new(bool))
	w := &guard{ResponseWriter: streamWriter{str}, l: l, conn: c, step: l.rules.Load().step, parted: true}
	c.enter(w)
	gone := false
	defer func() { h.ended(c.leave(w, gone), gone) }()
	_, err := w.Write(g.out)
	n := 0
	if err == nil {
		n, err = w.Write(body)
	}
	gone = str.Context().Err() != nil
	end(str, err)
	str.ReleaseStreamCredit()
	take(&x).finish(n, err)
	g.release()
}

// ended draws the consequences of a request that was booked, and books its stream.
func (h *hits3) ended(excess, givenUp bool) {
	if excess {
		h.q.l.excess(h.c)
	}
	if givenUp {
		h.c.charge(churnWork)
	}
	h.q.streamEnded(h.c)
}

// end ends a stream after its answer, or after what there is of it.
func end(str *quic.Stream, err error) {
	if err == nil {
		str.Close()
		return
	}
	str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
}

// survive ends a stream whose answer panicked, and no other, as http3 does, and logs it as
// http3 does. It is deferred, and ends the exchange that it finds.
func (h *hits3) survive(str *quic.Stream, x **exchange, done *bool) {
	p := recover()
	if p == nil {
		return
	}
	h.q.server.Logger.Error("http3: panic serving", "arg", p, "trace", string(debug.Stack()))
	str.ReleaseStreamCredit()
	str.CancelRead(quic.StreamErrorCode(http3.ErrCodeInternalError))
	str.CancelWrite(quic.StreamErrorCode(http3.ErrCodeInternalError))
	*done = true
	if *x != nil {
		defer h.survive(str, x, done) // that may panic, too
		take(x).abandon()
	}
}

// consume reads a stream to its end, which has come.
func consume(str *quic.Stream, buf []byte) {
	str.SetReadDeadline(time.Time{})
	for {
		if _, err := str.Read(buf); err != nil {
			return
		}
	}
}

// release gives the visitor the credit of the stream before this one: the frame that says
// so goes with the answer, and costs no datagram of its own.
func (h *hits3) release(str *quic.Stream) {
	if h.last != nil {
		h.last.ReleaseStreamCredit()
	}
	h.last = str
	h.spare()
}

// spare gives the last credit, too, where the visitor has no other: all else that he may
// open at once goes on, and for how long nobody knows.
func (h *hits3) spare() {
	if h.last != nil && h.c.open.Load()+1 >= int64(h.q.l.c.Limits.Streams) {
		h.last.ReleaseStreamCredit()
		h.last = nil
	}
}

// prioritize schedules an answer as http3 does.
func (h *hits3) prioritize(str *quic.Stream, said []string) {
	if len(said) == 0 {
		str.SetPriority(usualUrgency, !h.c.prioritizes.Load())
		return
	}
	str.SetPriority(parsePriority(strings.Join(said, ",")))
}

// hear returns what the visitor says of a request's priority over HTTP/3, and notes that he
// does: then he means the default where he says nothing (RFC 9218 section 4), while the
// answers of others take turns. http3 has a memory of its own, which knows nothing of hits,
// and of PRIORITY_UPDATE besides. It can neither be asked nor told.
func (c *connection) hear(header http.Header) (said []string) {
	if said = header["Priority"]; len(said) > 0 && !c.prioritizes.Load() {
		c.prioritizes.Store(true)
	}
	return said
}

func (h *hits3) state() *tls.ConnectionState {
	if h.tls != nil {
		return h.tls
	}
	state := h.c.quic.ConnectionState().TLS
	if state.HandshakeComplete { // and is the same from now on
		h.tls = &state
	}
	return &state
}

// remoteAddr is where the visitor is now.
func (h *hits3) remoteAddr() string {
	if addr := h.c.quic.RemoteAddr(); addr != h.addr {
		h.addr, h.remote = addr, addr.String()
	}
	return h.remote
}

// A streamWriter lets a guard watch a stream whose fields are written already.
type streamWriter struct{ *quic.Stream }

// Header implements http.ResponseWriter.
func (streamWriter) Header() http.Header { return nil }

// WriteHeader implements http.ResponseWriter.
func (streamWriter) WriteHeader(int) {}
