package edge

import (
	"crypto/tls"
	"encoding/binary"
	"math"
	"sync"

	"golang.org/x/net/http2"
)

// frameHeader is the size of a frame's header in HTTP/2 (RFC 9113 section 4.1).
const frameHeader = 9

// A frameHead is that of a frame (RFC 9113 section 4.1).
type frameHead struct {
	length int
	kind   http2.FrameType
	flags  http2.Flags
	stream uint32
}

func frameHeadOf(b []byte) frameHead {
	return frameHead{
		length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]), kind: http2.FrameType(b[3]), flags: http2.Flags(b[4]),
		stream: binary.BigEndian.Uint32(b[5:]) & math.MaxInt32,
	}
}

// frames follows the frames of HTTP/2 in a stream of bytes. Its zero value is
// before the first one.
type frames struct {
	head [frameHeader]byte
	have int  // bytes of the header
	rest int  // bytes of the payload that are to come
	open bool // a header block goes on in the next frame
}

// next moves to the end of the present frame, or of b, and returns how many bytes
// of b that took.
func (f *frames) next(b []byte) (n int) {
	if f.have < frameHeader {
		n = copy(f.head[f.have:], b)
		if f.have += n; f.have < frameHeader {
			return n
		}
		f.rest = f.length()
	}
	took := min(f.rest, len(b)-n)
	if f.rest -= took; f.rest == 0 {
		f.have = 0
		f.open = f.carriesHeaders() && f.head[4]&byte(http2.FlagHeadersEndHeaders) == 0
	}
	return n + took
}

// length is that of the last frame's payload.
func (f *frames) length() int { return int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2]) }

// carriesHeaders reports whether the last frame has a header block, or a part of one.
func (f *frames) carriesHeaders() bool {
	switch f.kind() {
	case http2.FrameHeaders, http2.FramePushPromise, http2.FrameContinuation:
		return true
	}
	return false
}

// between reports whether any frame may begin here: amid a header block only its
// CONTINUATION may (RFC 9113 section 6.10).
func (f *frames) between() bool { return f.have == 0 && !f.open }

// kind is the type of the last frame whose header was complete.
func (f *frames) kind() http2.FrameType { return http2.FrameType(f.head[3]) }

// A frameConn is what the server of HTTP/2 writes its frames to. It can put a frame
// among them that the server knows nothing about: the first GOAWAY of two (RFC 9113
// section 6.8), by which the visitor sends no more and the node goes on to answer
// what is on its way. The server itself has only the second one, that names the
// last request which is answered; what crosses that is lost, unless the visitor can
// send it again.
//
// The fast path reads from it what the visitor sends before the server does, and writes
// its answers between the server's frames.
type frameConn struct {
	*tls.Conn
	fast *fastHTTP2 // nil: there is none

	mu     sync.Mutex
	frames frames
	begun  bool // the server's preface, a SETTINGS frame, was written
	told   bool // a GOAWAY was written; none may name a later request than it
	due    bool // one is to be written at the end of the present frame
}

// Read implements net.Conn.
func (c *frameConn) Read(p []byte) (int, error) {
	if c.fast != nil {
		return c.fast.Read(p)
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn.
func (c *frameConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := 0
	for n := 0; n < len(p); {
		n += c.frames.next(p[n:])
		if !c.frames.between() {
			continue
		}
		c.begun = true
		c.told = c.told || c.frames.kind() == http2.FrameGoAway
		if c.fast != nil && c.frames.kind() == http2.FrameData {
			c.fast.window.sent(c.frames.length())
		}
		if c.due && !c.told {
			m, err := c.Conn.Write(p[sent:n])
			if sent += m; err != nil {
				return sent, err
			}
			if err := c.announce(); err != nil {
				return sent, err
			}
		}
	}
	n, err := c.Conn.Write(p[sent:])
	if c.fast != nil {
		c.fast.wake()
	}
	return sent + n, err
}

// hold keeps the server from writing until release, if frames may be written here and
// the server will answer the next request: if it has begun and sent no GOAWAY. It does
// not wait for what the server is about to write.
func (c *frameConn) hold() bool {
	if !c.mu.TryLock() {
		return false
	}
	if c.begun && c.frames.between() && !c.told && !c.due {
		return true
	}
	c.mu.Unlock()
	return false
}

func (c *frameConn) release() { c.mu.Unlock() }

// goAway tells the visitor to send no more requests, unless he was told already.
// It may block until he takes what was written before.
func (c *frameConn) goAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	if c.begun && c.frames.between() && !c.told {
		_ = c.announce() // the server meets the error as well
	}
}

// announce writes the GOAWAY that names all requests that could ever be.
func (c *frameConn) announce() error {
	c.told = true
	b := make([]byte, frameHeader+8)
	b[2], b[3] = 8, byte(http2.FrameGoAway)
	binary.BigEndian.PutUint32(b[frameHeader:], math.MaxInt32)
	_, err := c.Conn.Write(b)
	return err
}
