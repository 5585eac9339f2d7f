package crowd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// slowWindow is the receive window of a slow visitor. A larger one would take most
// of the answer into buffers at once, and the server would never see it slow.
const slowWindow = 16 << 10

// A visitor is one of the crowd.
type visitor struct {
	n      uint64
	addr   netip.Addr // invalid: left to the kernel
	shared bool       // others come from the same address
	slow   bool
}

func (c *Config) visitor(n uint64) visitor {
	v := visitor{n: n, slow: fraction(c.Seed, n, drawSlow) < c.SlowShare}
	v.addr, v.shared = c.Addresses.source(c.Seed, n)
	return v
}

// A connection carries the requests of a visitor.
type connection struct {
	http.RoundTripper
	last   atomic.Bool // the server said that it closes after this answer
	broken func() bool // it will carry no further request
	close  func()
}

// A dialer connects visitors with the target.
type dialer struct {
	protocol  string
	scheme    string
	authority string         // host:port of the URLs
	target    netip.AddrPort // what it stands for, or Config.Connect
	pooled    bool

	tcp, slowTCP *http.Transport // for HTTP/1.1 and HTTP/2
	quic         quicDialer      // for HTTP/3

	newPool func(v visitor) (*pool, error)
	mu      sync.Mutex
	pools   map[netip.Addr]*pool
}

func newDialer(c Config, t targets, target netip.AddrPort) *dialer {
	d := &dialer{
		protocol: c.Protocol, scheme: t.scheme, authority: t.authority, target: target,
		pooled: c.Connections == Pooled, pools: map[netip.Addr]*pool{},
	}
	conf := &tls.Config{InsecureSkipVerify: c.Insecure, RootCAs: c.RootCAs}
	// A crowd is new visitors: none of them has a ticket, unless asked for.
	conf.SessionTicketsDisabled = !c.Resume
	if c.Resume {
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	if c.Protocol == H3 {
		d.quic = newQUICDialer(c, conf, t, target)
		d.newPool = d.quic.pool
		return d
	}
	d.tcp, d.slowTCP = newTransport(c, conf, d.dialTCP), newTransport(c, conf, d.dialTCP)
	d.slowTCP.HTTP2 = &http.HTTP2Config{
		MaxReceiveBufferPerStream: slowWindow, MaxReceiveBufferPerConnection: 64 << 10, // the least allowed
	}
	d.newPool = func(v visitor) (*pool, error) { return tcpPool(newTransport(c, conf, d.dialFrom(v))), nil }
	return d
}

func newTransport(c Config, conf *tls.Config, dial dialFunc) *http.Transport {
	t := &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     conf.Clone(), // net/http adds to it
		TLSHandshakeTimeout: c.Timeout,
		DisableCompression:  true, // the bytes are counted, nobody looks at them
		MaxIdleConnsPerHost: c.MaxInFlight,
		Protocols:           new(http.Protocols),
	}
	t.Protocols.SetHTTP1(c.Protocol == H1)
	t.Protocols.SetHTTP2(c.Protocol == H2)
	return t
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// connect returns a connection for the visitor, to be closed by it.
func (d *dialer) connect(ctx context.Context, v visitor) (*connection, error) {
	switch {
	case d.pooled && v.shared && !v.slow:
		return d.share(v)
	case d.protocol == H3:
		return d.quic.connect(ctx, v)
	}
	t := d.tcp
	if v.slow {
		t = d.slowTCP
	}
	cc, err := t.NewClientConn(context.WithValue(ctx, visitorKey{}, v), d.scheme, d.authority)
	if err != nil {
		return nil, err
	}
	return &connection{
		RoundTripper: cc,
		broken:       func() bool { return cc.Err() != nil },
		close:        func() { cc.Close() },
	}, nil
}

// visitorKey carries the visitor through net/http to dialTCP, so that all visitors
// share one http.Transport.
type visitorKey struct{}

func (d *dialer) dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	v, _ := ctx.Value(visitorKey{}).(visitor)
	return d.dialFrom(v)(ctx, network, addr)
}

// dialFrom connects from the visitor's address with the target, whatever address
// is asked for.
func (d *dialer) dialFrom(v visitor) dialFunc {
	nd := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { return prepareSocket(raw, v) }}
	if v.addr.IsValid() {
		nd.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(v.addr, 0))
	}
	target := d.target.String()
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return nd.DialContext(ctx, network, target)
	}
}

func prepareSocket(raw syscall.RawConn, v visitor) error {
	var err error
	set := func(fd uintptr) {
		// The port is chosen at connect, where it need only differ from those of
		// connections to the same target: 28,000 visitors a minute would otherwise
		// use up the ports of an address.
		if v.addr.IsValid() {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		}
		if err == nil && v.slow {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, slowWindow)
		}
	}
	if cerr := raw.Control(set); cerr != nil {
		return cerr
	}
	return err
}

// resolve looks up the target once: the crowd tests the node, not the resolver.
func resolve(ctx context.Context, hostport string, p Profile) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: must be host:port", hostport)
	}
	portNumber, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up port: %w", err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("look up host: %w", err)
	}
	best := addrs[0].Unmap()
	for _, a := range addrs {
		if p.checkSources(best) != nil {
			best = a.Unmap()
		}
	}
	return netip.AddrPortFrom(best, uint16(portNumber)), p.checkSources(best)
}

// closeAll closes what visitors shared.
func (d *dialer) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pools {
		p.close()
	}
}
