package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// idleTimeout closes a connection before the server does. Node and Apache
	// close after 5 s by default, others later. A request that meets the close
	// half-way fails, and one that is not idempotent cannot be sent again.
	idleTimeout = 4 * time.Second
	// readBuffer takes in the head and a small body in one read.
	readBuffer = 16 << 10
	// headMost bounds the head of a response. Usual servers stay below 16 KiB.
	headMost = 256 << 10
	// h2Ping is how long an HTTP/2 connection may be silent before it is tested:
	// all requests to a server share it, and all hang when its path is dead.
	h2Ping = 5 * time.Second
	// h2Window is what the transport may hold of a response beside the read-ahead.
	// By itself it takes 4 MiB of each, whoever waits for it.
	h2Window = 256 << 10
	// writeMost is written in one deadline, so that the deadline bounds a stall
	// and not the transfer.
	writeMost = 64 << 10
	// lastWords is how long a failure to write is kept back. A server that refuses
	// a body answers and closes; the transport would not look for the answer once it
	// knows that writing failed.
	lastWords = 50 * time.Millisecond
)

// newTransport returns the client that speaks to one server. It follows no
// redirects, adds no fields, decompresses nothing and obeys no proxy variables.
func newTransport(d dialer, p *http.Protocols) *http.Transport {
	d.alpn = []string{"http/1.1"}
	if p.HTTP2() {
		d.alpn = []string{"h2", "http/1.1"}
	}
	c := d.config
	return &http.Transport{
		DialContext:           d.plain,
		DialTLSContext:        d.tls,
		Protocols:             p,
		Proxy:                 onlyOnce,
		DisableCompression:    true,
		ResponseHeaderTimeout: c.Timeout,
		IdleConnTimeout:       idleTimeout,
		// As many as there can be requests: what comes back is used again, and
		// idleTimeout closes what is not.
		MaxIdleConnsPerHost:    max(c.Limit.Max, http.DefaultMaxIdleConnsPerHost),
		MaxResponseHeaderBytes: headMost,
		ReadBufferSize:         readBuffer,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:           h2Ping,
			PingTimeout:               c.ConnectTimeout,
			MaxReceiveBufferPerStream: h2Window,
		},
	}
}

// A dialer connects to a server. Its errors are *dialError: nothing was sent.
type dialer struct {
	dial        dialFunc
	to          address
	config      *Config
	credentials *credentials
	alpn        []string // the protocols offered (RFC 7301)
}

func (d dialer) plain(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.ConnectTimeout)
	defer cancel()
	if d.to.scheme == "unix" {
		network, addr = "unix", d.to.socket
	}
	c, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	return &conn{Conn: c, timeout: d.config.Timeout}, nil
}

// tls connects and shakes hands within one connect timeout. It asks for the
// certificate of the host that the server is told, since servers are often
// given by their addresses.
func (d dialer) tls(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.ConnectTimeout)
	defer cancel()
	c, err := d.plain(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host := hostname(d.config.Host)
	if host == "" {
		host = hostname(addr)
	}
	t := tls.Client(c, d.credentials.clientConfig(host, d.alpn))
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, &dialError{err}
	}
	return t, nil
}

// A conn gives every write a deadline, so that a server which stops reading a
// large request fails like one which stops answering.
type conn struct {
	net.Conn
	timeout time.Duration
	fixed   atomic.Bool // somebody else minds the deadline
	written atomic.Int64
}

// SetWriteDeadline is called by TLS, before its last words on a connection.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.fixed.Store(true)
	return c.Conn.SetWriteDeadline(t)
}

func (c *conn) Write(p []byte) (n int, err error) {
	for {
		if !c.fixed.Load() {
			c.Conn.SetWriteDeadline(time.Now().Add(c.timeout))
		}
		m, err := c.Conn.Write(p[n:min(n+writeMost, len(p))])
		n += m
		c.written.Add(int64(m))
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			time.Sleep(lastWords)
		}
		if err != nil || n == len(p) {
			return n, err
		}
	}
}
