package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
)

// Limits of the PROXY protocol that are not knobs.
const (
	// maxProxyHeader is what is read of a header of version 2: addresses, and what
	// balancers add about the connection, which includes a certificate at most.
	// Version 1 bounds itself (section 2.1 of the protocol).
	maxProxyHeader   = 16 + 4096
	maxProxyHeaderV1 = 107
	// maxProxyWaiting bounds the connections whose header is awaited. Admission
	// does not know them yet, and balancers send the header at once. One of them
	// that does not leaves room for the others.
	maxProxyWaiting     = 4096
	maxProxyWaitingEach = maxProxyWaiting / 8
)

// proxyHeaders takes the headers of the PROXY protocol, versions 1 and 2, off
// connections of the proxies that send them. Each such connection must begin with
// one: a receiver that guesses lets clients write it (section 2 of the protocol).
// What others send is never looked at.
type proxyHeaders struct {
	from    func() []netip.Prefix // the proxies now
	refused atomic.Uint64         // connections closed for want of a good header

	mu      sync.Mutex
	waiting map[netip.Addr]int // connections whose header is awaited, by proxy
	all     int
}

// wrap returns a connection that reads its header when it is first used, or the
// connection itself if its peer sends none.
func (p *proxyHeaders) wrap(raw net.Conn) net.Conn {
	peer := plainAddr(addrPort(raw.RemoteAddr()).Addr())
	if !within(peer, p.from()) {
		return raw
	}
	return &proxiedConn{Conn: raw, headers: p, peer: peer, remote: raw.RemoteAddr()}
}

// enter finds a connection of a proxy a place to wait for its header.
func (p *proxyHeaders) enter(proxy netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all >= maxProxyWaiting || p.waiting[proxy] >= maxProxyWaitingEach {
		return errTooManyProxied
	}
	if p.waiting == nil {
		p.waiting = map[netip.Addr]int{}
	}
	p.waiting[proxy]++
	p.all++
	return nil
}

func (p *proxyHeaders) leave(proxy netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all--
	if p.waiting[proxy]--; p.waiting[proxy] == 0 {
		delete(p.waiting, proxy)
	}
}

// A proxiedConn is a connection of a proxy that sends headers. Its RemoteAddr is
// that in the header, if there is one in it.
type proxiedConn struct {
	net.Conn
	headers *proxyHeaders
	peer    netip.Addr // the proxy
	once    sync.Once
	remote  net.Addr
	rest    []byte // what came with the header; read by one goroutine
	err     error
}

// RemoteAddr implements net.Conn. The first call may block until the header is
// there, and for tcpHandshakeTimeout at most.
func (c *proxiedConn) RemoteAddr() net.Addr {
	c.once.Do(c.begin)
	return c.remote
}

// Read implements net.Conn.
func (c *proxiedConn) Read(b []byte) (int, error) {
	c.once.Do(c.begin)
	if c.err != nil {
		return 0, c.err
	}
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// await reads the header, and closes the connection when ctx ends before it is
// there. A deadline would not do: begin sets its own.
func (c *proxiedConn) await(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.Conn.Close() })()
	c.once.Do(c.begin)
	return c.err
}

// begin reads the header. A connection whose header is bad is closed: nothing
// that its sender meant could be told from it. One that the node itself has closed
// meanwhile is not counted among them.
func (c *proxiedConn) begin() {
	if c.err = c.headers.enter(c.peer); c.err == nil {
		c.err = c.header()
		c.headers.leave(c.peer)
	}
	if c.err == nil {
		return
	}
	if !errors.Is(c.err, errLooked) && !errors.Is(c.err, net.ErrClosed) {
		c.headers.refused.Add(1)
	}
	c.Conn.Close()
}

var (
	errTooManyProxied = errors.New("too many connections are waiting for their PROXY header")
	// errLooked is the error of a connection that its proxy gave up before it said
	// anything: balancers see so whether the port is open, and end it as they like.
	errLooked = errors.New("closed before the PROXY header")
)

func (c *proxiedConn) header() error {
	if err := c.Conn.SetReadDeadline(time.Now().Add(tcpHandshakeTimeout)); err != nil {
		return err
	}
	// As long as headers usually are, and a client hello is put back in one go.
	buf := make([]byte, 0, 256)
	for {
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		source, size, parseErr := parseProxyHeader(buf)
		switch {
		case parseErr == nil:
			if source.IsValid() {
				c.remote = net.TCPAddrFromAddrPort(source)
			}
			c.rest = buf[size:]
			return c.Conn.SetReadDeadline(time.Time{})
		case !errors.Is(parseErr, errShortHeader):
			return parseErr
		case err != nil && len(buf) == 0 && !errors.Is(err, os.ErrDeadlineExceeded):
			return errLooked
		case err != nil:
			return fmt.Errorf("read PROXY header: %w", noEOF(err))
		case len(buf) == cap(buf):
			buf = append(make([]byte, 0, maxProxyHeader), buf...)
		}
	}
}

// noEOF tells an end amid a header from one before it.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var (
	errShortHeader = errors.New("the PROXY header is not complete")
	errLongHeader  = errors.New("the PROXY header is too long")
	errNoHeader    = errors.New("there is no PROXY header")
	proxyV1        = append(bytes.Clone(proxyproto.SIGV1), ' ')
)

// parseProxyHeader reads the header at the start of b, and returns the address
// that it gives and its size. The address is not valid where the header gives none
// that a visitor could have: the connection is then the proxy's own, such as a
// health check, or one that it knows nothing about. What may become a header is
// errShortHeader.
func parseProxyHeader(b []byte) (source netip.AddrPort, size int, err error) {
	switch {
	case begins(b, proxyproto.SIGV2):
		size, err = sizeV2(b)
	case begins(b, proxyV1):
		size, err = sizeV1(b)
	default:
		err = errNoHeader
	}
	if err != nil {
		return netip.AddrPort{}, 0, err
	}
	// PROXY with an unspecified family may be refused (section 2.2); it stands for
	// an address that the proxy could not express.
	if b[0] == proxyproto.SIGV2[0] && b[12] == byte(proxyproto.PROXY) && b[13] == byte(proxyproto.UNSPEC) {
		return netip.AddrPort{}, size, nil
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b[:size]), size))
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("read PROXY header: %w", err)
	}
	if from, _, ok := h.TCPAddrs(); ok && !h.Command.IsLocal() {
		ap := from.AddrPort()
		source = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return source, size, nil
}

// begins reports whether b begins with the signature, as far as it goes.
func begins(b, signature []byte) bool {
	n := min(len(b), len(signature))
	return bytes.Equal(b[:n], signature[:n])
}

// sizeV2 returns the size of a binary header (section 2.2).
func sizeV2(b []byte) (int, error) {
	if len(b) < 16 {
		return 0, errShortHeader
	}
	size := 16 + int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case size > maxProxyHeader:
		return 0, errLongHeader
	case size > len(b):
		return 0, errShortHeader
	}
	return size, nil
}

// sizeV1 returns the size of a line of text (section 2.1).
func sizeV1(b []byte) (int, error) {
	line := b[:min(len(b), maxProxyHeaderV1)]
	switch end := bytes.IndexByte(line, '\n'); {
	case end >= 0:
		return end + 1, nil
	case len(line) == maxProxyHeaderV1:
		return 0, errLongHeader
	}
	return 0, errShortHeader
}
