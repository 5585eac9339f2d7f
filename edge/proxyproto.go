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
	// does not know them yet, and balancers send the header at once.
	maxProxyWaiting = 4096
)

// proxyHeaders takes the headers of the PROXY protocol, versions 1 and 2, off
// connections of trusted proxies. A header is known by its first bytes, which
// begin neither a TLS record nor an HTTP request, so that a trusted proxy may as
// well send none. What others send is never looked at.
type proxyHeaders struct {
	trusted func() []netip.Prefix // now
	waiting atomic.Int64
	refused atomic.Uint64 // connections closed for want of a good header
}

// wrap returns a connection that reads its header when it is first used, or the
// connection itself if its peer is not trusted.
func (p *proxyHeaders) wrap(raw net.Conn) net.Conn {
	if trusted := p.trusted(); len(trusted) == 0 || !within(addrPort(raw.RemoteAddr()).Addr().Unmap(), trusted) {
		return raw
	}
	return &proxiedConn{Conn: raw, headers: p, remote: raw.RemoteAddr()}
}

// trustedPrefixes reads the setting trusted_proxies.
func trustedPrefixes(settings []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range settings {
		prefix, err := parsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("trusted_proxies: %w", err)
		}
		all = append(all, prefix)
	}
	return all, nil
}

// A proxiedConn is a connection of a trusted proxy. Its RemoteAddr is that in
// the header, once there was one.
type proxiedConn struct {
	net.Conn
	headers *proxyHeaders
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

// await reads the header, and gives it up when ctx ends.
func (c *proxiedConn) await(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { c.Conn.SetReadDeadline(time.Unix(1, 0)) })()
	c.once.Do(c.begin)
	return c.err
}

// begin reads the header. A connection whose header is bad is closed: nothing
// that its sender meant could be told from it.
func (c *proxiedConn) begin() {
	defer c.headers.waiting.Add(-1)
	if c.headers.waiting.Add(1) > maxProxyWaiting {
		c.err = errTooManyProxied
	} else {
		c.err = c.header()
	}
	if c.err != nil {
		c.Conn.Close()
	}
	if c.err != nil && !errors.Is(c.err, io.EOF) {
		c.headers.refused.Add(1)
	}
}

var errTooManyProxied = errors.New("too many connections are waiting for their PROXY header")

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
		case err != nil && len(buf) == 0:
			return err // balancers see so whether the port is open
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
	proxyV1        = append(bytes.Clone(proxyproto.SIGV1), ' ')
)

// parseProxyHeader reads the header at the start of b, and returns the address
// that it gives and its size. The size is 0 if b begins with something else. The
// address is not valid where the header gives none that a visitor could have:
// the connection is then the proxy's own, such as a health check, or one that it
// knows nothing about. What may become a header is errShortHeader.
func parseProxyHeader(b []byte) (source netip.AddrPort, size int, err error) {
	switch {
	case begins(b, proxyproto.SIGV2):
		size, err = sizeV2(b)
	case begins(b, proxyV1):
		size, err = sizeV1(b)
	}
	if err != nil || size == 0 {
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

// proxyListener is a listener of which trusted proxies are visitors' envoys. Its
// connections read their header in the goroutine that serves them.
type proxyListener struct {
	net.Listener
	headers *proxyHeaders
}

// Accept implements net.Listener.
func (l proxyListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.headers.wrap(raw), nil
}
