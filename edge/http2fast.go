package edge

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A fastHTTP2 is the fast path of one connection. It stands where the library reads, and
// looks at the frames before: a request that is a hit it answers itself, between two
// frames of the library, which never learns of the stream. All else goes to the library
// byte for byte, but for
//
//   - what the visitor says of streams that were answered here: they are closed, which
//     the library cannot know;
//   - what he grants of the connection's window, which is shared (sendWindow).
//
// Header compression has a state that each block may change, so that the library must
// have seen each that does. Hence a block that changes it is never answered here
// (keepsTable). That is the first request of its kind on a connection: visitors index
// what they will say again, and what they will not, such as paths, they do not.
//
// Where anything is out of the ordinary, the library has the connection's requests for
// good: off. The goroutine that reads owns all but what is said otherwise.
type fastHTTP2 struct {
	l      *Listeners
	of     *connection
	conn   *frameConn
	remote string
	tls    tls.ConnectionState

	room []byte // for in
	in   []byte // read, and not looked at
	out  []byte // for the library, from sent on
	sent int
	rest int   // what the library gets next without a look: the rest of a payload
	err  error // what it gets when it has had out

	begun  bool // the visitor's first frame has come
	open   bool // a header block goes on in the next frame (RFC 9113 section 6.10)
	off    bool
	last   uint32    // the latest stream that the visitor has opened
	passed uint32    // the latest that the library knows of
	when   time.Time // it came
	most   int       // the least that the window of a new stream ever was

	decoder *hpack.Decoder
	fields  []hpack.HeaderField // of the present block, as far as mostFields
	batch   *batch              // not nil: the server's writes are held

	window sendWindow // also counts, from another goroutine, what the server writes
}

const (
	// mostRead is how much is read at once: the requests of a page. What needs more has
	// it for as long as it does.
	mostRead = 2 << 10
	// mostFrame is the most that a frame may have that the visitor sends or is sent (RFC
	// 9113 section 6.5.2): neither side is told of another.
	mostFrame = 16 << 10
	// tableSize is that of both directions' dynamic tables, unless the visitor wants less.
	tableSize = 4 << 10
)

func newFastHTTP2(l *Listeners, c *connection, conn *frameConn) *fastHTTP2 {
	f := &fastHTTP2{
		l: l, of: c, conn: conn, remote: conn.RemoteAddr().String(), tls: conn.ConnectionState(),
		rest: len(http2.ClientPreface), when: time.Now(), most: firstWindow,
	}
	f.window.init()
	f.decoder = hpack.NewDecoder(tableSize, f.collect)
	f.decoder.SetMaxStringLength(int(l.c.Limits.HeaderBytes))
	return f
}

// Read is for the library.
func (f *fastHTTP2) Read(p []byte) (int, error) {
	for f.sent == len(f.out) && f.err == nil {
		f.out, f.sent = f.out[:0], 0
		if cap(f.out) > 2*mostRead {
			f.out = nil
		}
		if f.rest > 0 && len(f.in) == 0 {
			n, err := f.receive(p[:min(len(p), f.rest)])
			if f.rest -= n; n > 0 || err != nil {
				return n, err
			}
			continue
		}
		f.look()
		if len(f.out) == 0 && f.err == nil && f.rest == 0 {
			f.fill()
		}
	}
	if f.sent == len(f.out) {
		return 0, f.err
	}
	n := copy(p, f.out[f.sent:])
	f.sent += n
	return n, nil
}

// fill reads more. What cannot be completed any more goes to the library.
func (f *fastHTTP2) fill() {
	size := mostRead
	if len(f.in) >= frameHeader {
		size = max(size, frameHeader+frameHeadOf(f.in).length)
	}
	room := f.room
	if len(room) != size {
		room = make([]byte, size)
	}
	have := copy(room, f.in)
	f.room, f.in = room, room[:have] // the former ones go before the wait
	n, err := f.receive(room[have:])
	f.in = room[:have+n]
	if err != nil {
		f.out, f.in, f.err = append(f.out, f.in...), nil, err
	}
}

// receive reads what has come, or nothing if it was woken: a deadline says no more than
// that. With connection.goAway's comes an error of its own, which the next read has if
// the deadline is lifted here.
func (f *fastHTTP2) receive(p []byte) (int, error) {
	n, err := f.conn.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = f.conn.Conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// wake has the reader look at the window, after something was sent, if the library
// might wait for what the fast path has of it.
func (f *fastHTTP2) wake() {
	if f.window.short() {
		_ = f.conn.Conn.SetReadDeadline(past)
	}
}

// look goes through what was read, as far as it is complete.
func (f *fastHTTP2) look() {
	defer f.fail()
	for f.err == nil && len(f.in) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(f.in))
			f.pass(n)
			f.rest -= n
			continue
		}
		if len(f.in) < frameHeader {
			break
		}
		h := frameHeadOf(f.in)
		if !f.begun {
			f.begun, f.off = true, h.kind != http2.FrameSettings
		}
		if f.err = f.misplaced(h); f.err != nil {
			break
		}
		f.give() // the rest of the frame may be long in coming
		if !f.minds(h) {
			f.rest = h.length
			f.pass(frameHeader)
			continue
		}
		size := frameHeader + h.length
		if len(f.in) < size {
			break
		}
		if f.takes(h, f.in[frameHeader:size]) {
			f.in = f.in[size:]
		} else {
			f.pass(size)
		}
	}
	f.flush()
	f.give()
}

// pass leaves what was read to the library.
func (f *fastHTTP2) pass(n int) {
	f.out = append(f.out, f.in[:n]...)
	f.in = f.in[n:]
}

// give gives the library of the window what it is to have, if a frame may begin here.
func (f *fastHTTP2) give() {
	if f.rest > 0 || f.open || f.err != nil {
		return
	}
	for n := f.window.give(f.off); n > 0; n -= largestWindow {
		f.out = append(f.out, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
		f.out = binary.BigEndian.AppendUint32(f.out, uint32(min(n, largestWindow)))
	}
}

// minds reports whether a frame is to be looked at whole. It also keeps account of those
// that are not.
func (f *fastHTTP2) minds(h frameHead) bool {
	switch {
	case h.length > mostFrame: // the library refuses it
		return false
	case f.open: // nothing else may come, which is the library's to see
		f.open = h.kind != http2.FrameContinuation || h.flags&http2.FlagContinuationEndHeaders == 0
		return false
	case h.kind == http2.FrameHeaders && h.flags&http2.FlagHeadersEndHeaders == 0:
		// Long headers come in parts, which no visitor does to little ones.
		f.off, f.open = true, true
		f.know(h.stream)
		return false
	}
	switch h.kind {
	case http2.FrameHeaders, http2.FrameSettings, http2.FrameWindowUpdate, http2.FrameRSTStream:
		return true
	case http2.FrameGoAway:
		f.off = true // the library answers no more
	}
	return false
}

// misplaced is the error of a frame that may not come on a closed stream.
func (f *fastHTTP2) misplaced(h frameHead) error {
	if f.open || !f.closed(h.stream) {
		return nil
	}
	switch h.kind {
	case http2.FrameHeaders:
		return http2.ConnectionError(http2.ErrCodeProtocol) // RFC 9113 section 5.1.1
	case http2.FrameData:
		return http2.ConnectionError(http2.ErrCodeStreamClosed) // section 5.1
	}
	return nil
}

// closed reports whether a stream was answered here, or can never be opened (RFC 9113
// section 5.1.1), and the library does not know: for it the stream is idle.
func (f *fastHTTP2) closed(stream uint32) bool {
	return stream%2 == 1 && f.passed < stream && stream <= f.last
}

// know notes a stream that the library gets the header of.
func (f *fastHTTP2) know(stream uint32) {
	if stream%2 == 1 && stream > f.last {
		f.last, f.passed, f.when = stream, stream, time.Now()
	}
}

// takes reports whether a frame is none of the library's business.
func (f *fastHTTP2) takes(h frameHead, payload []byte) bool {
	switch h.kind {
	case http2.FrameHeaders:
		return f.takesRequest(h, payload)
	case http2.FrameSettings:
		if h.flags&http2.FlagSettingsAck == 0 && h.length%6 == 0 {
			f.obey(payload)
		}
		return false
	case http2.FrameRSTStream:
		return h.length == 4 && (f.withdraw(h.stream) || f.closed(h.stream))
	case http2.FrameWindowUpdate:
		if h.length != 4 {
			return false
		}
		n := binary.BigEndian.Uint32(payload) & math.MaxInt32
		if n == 0 || h.stream != 0 && !f.closed(h.stream) {
			return false
		}
		if h.stream == 0 {
			f.window.grant(n)
		}
		return true
	}
	return false
}

// obey notes what the visitor's settings are for the fast path (RFC 9113 section
// 6.5.2). He knows that they hold from the library, which may be later: so the least
// counts that he ever wanted.
func (f *fastHTTP2) obey(settings []byte) {
	for ; len(settings) > 0; settings = settings[6:] {
		value := binary.BigEndian.Uint32(settings[2:])
		switch http2.SettingID(binary.BigEndian.Uint16(settings)) {
		case http2.SettingInitialWindowSize:
			f.most = int(min(uint32(f.most), value))
		case http2.SettingHeaderTableSize:
			// The next header block must begin with the new size (RFC 7541 section 4.2),
			// and the library writes it.
			f.off = f.off || value < tableSize
		}
	}
}
