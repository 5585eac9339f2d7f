package crowd

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// quicDialer makes HTTP/3 connections. Visitors behind one address share its
// socket; all share one http3.Transport, which only puts HTTP/3 on the QUIC
// connections dialed here.
type quicDialer struct {
	sources    *sources
	http       *http3.Transport
	tls        *tls.Config
	conf, slow *quic.Config
	target     *net.UDPAddr
}

func newQUICDialer(c Config, conf *tls.Config, t targets, target netip.AddrPort) quicDialer {
	conf = conf.Clone()
	conf.NextProtos = []string{http3.NextProtoH3}
	if host, _, err := net.SplitHostPort(t.authority); err == nil {
		conf.ServerName = host
	}
	d := quicDialer{
		sources: &sources{own: c.OwnSockets},
		http:    &http3.Transport{DisableCompression: true},
		tls:     conf,
		target:  net.UDPAddrFromAddrPort(target),
		conf: &quic.Config{
			HandshakeIdleTimeout: c.Timeout,
			MaxIdleTimeout:       30 * time.Second,
			KeepAlivePeriod:      15 * time.Second, // as browsers do while an event stream is open
			MaxIncomingStreams:   -1,               // HTTP/3 servers open no bidirectional ones (RFC 9114 section 6.1)
			// A visit is over before the search for a larger packet pays.
			DisablePathMTUDiscovery: true,
		},
	}
	d.slow = d.conf.Clone()
	d.slow.InitialStreamReceiveWindow, d.slow.MaxStreamReceiveWindow = slowWindow, slowWindow
	d.slow.InitialConnectionReceiveWindow, d.slow.MaxConnectionReceiveWindow = 2*slowWindow, 2*slowWindow
	return d
}

// connect dials for one visitor.
func (d *quicDialer) connect(ctx context.Context, v visitor) (*connection, error) {
	src, err := d.sources.acquire(sourceFor(v.addr, d.target))
	if err != nil {
		return nil, err
	}
	conf := d.conf
	if v.slow {
		conf = d.slow
	}
	conn, err := src.Dial(ctx, d.target, d.tls, conf)
	if err != nil {
		d.sources.release(src)
		return nil, err
	}
	return &connection{
		RoundTripper: d.http.NewClientConn(conn),
		broken:       func() bool { return conn.Context().Err() != nil },
		close: func() {
			conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
			d.sources.release(src)
		},
	}, nil
}

// sourceFor returns the address to bind to where the kernel may choose. Towards
// loopback that is loopback: sending from a wildcard socket costs a lookup more.
func sourceFor(addr netip.Addr, target *net.UDPAddr) netip.Addr {
	t := target.AddrPort().Addr()
	switch {
	case addr.IsValid():
		return addr
	case t.IsLoopback() && t.Is4():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case t.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
