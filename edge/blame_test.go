package edge

import (
	"net"
	"net/netip"
	"testing"

	"spillway/edge/admit"
	"spillway/edge/outcome"
)

// remoteConn is a connection of which only the peer is known.
type remoteConn struct {
	net.Conn
	remote net.Addr
}

func (c remoteConn) RemoteAddr() net.Addr { return c.remote }

// Whoever overdraws its account is kept out while the node is short, but not
// everybody who comes through a proxy with one who did.
func TestBlameSparesProxies(t *testing.T) {
	l := &Listeners{}
	l.rules.Store(&rules{trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	f := func(peer string, want outcome.Reason) {
		t.Helper()
		k := admit.New(admit.Config{Enforce: true, HandshakesPerCore: 1 << 20, HalfOpen: 1 << 20, Connections: 8}, 1)
		addr := netip.MustParseAddrPort(peer)
		var c *connection
		for range 7 { // which leave the node short
			h, _ := k.Connect(addr, true)
			h.Done()
			c = &connection{handshake: h, tcp: remoteConn{remote: net.TCPAddrFromAddrPort(addr)}}
		}
		l.grant(c)
		for range 5 {
			c.blame(excessBlame)
		}
		if _, why := k.Connect(addr, true); why != want {
			t.Errorf("%s: refused for %q, want %q", peer, why, want)
		}
	}
	f("192.0.2.1:4711", outcome.None)
	f("198.51.100.1:4711", outcome.TooManyRequests)
}

func TestBlameDepth(t *testing.T) {
	f := func(peer string, streams, want int) {
		t.Helper()
		l := &Listeners{c: Config{Limits: LimitsConfig{Streams: streams}}}
		l.rules.Store(&rules{trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
		c := &connection{tcp: remoteConn{remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(peer))}}
		l.grant(c)
		n := 0
		for n++; !c.giveUp(); n++ {
		}
		if n != want+1 {
			t.Errorf("%s with %d streams: over after %d given up, want %d", peer, streams, n, want+1)
		}
	}
	f("198.51.100.1:4711", 1, 200)
	f("198.51.100.1:4711", 100, 200)
	f("198.51.100.1:4711", 1000, 2000)
	f("192.0.2.1:4711", 100, 2000)
	f("[::ffff:192.0.2.1]:4711", 1000, 20_000)
}

// Requests that are given up are charged to their source, on however many connections,
// and never to a proxy.
func TestGivenUpRequestsCostTheirSource(t *testing.T) {
	l := &Listeners{}
	l.rules.Store(&rules{trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	f := func(peer string, requests int, want outcome.Reason) {
		t.Helper()
		k := admit.New(admit.Config{Enforce: true, HandshakesPerCore: 1 << 20, HalfOpen: 1 << 20, Connections: 8}, 1)
		addr := netip.MustParseAddrPort(peer)
		for range 7 { // which leave the node short
			h, _ := k.Connect(addr, true)
			h.Done()
			c := &connection{handshake: h, tcp: remoteConn{remote: net.TCPAddrFromAddrPort(addr)}}
			l.grant(c)
			for range requests {
				c.charge(churnWork)
			}
		}
		if _, why := k.Connect(addr, true); why != want {
			t.Errorf("%s, %d requests on each connection: refused for %q, want %q", peer, requests, why, want)
		}
	}
	f("198.51.100.1:4711", 100, outcome.None)
	f("198.51.100.1:4711", 350, outcome.TooManyRequests)
	f("192.0.2.1:4711", 350, outcome.None)
}
