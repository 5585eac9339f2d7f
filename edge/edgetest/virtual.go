package edgetest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go/testutils/simnet"

	"spillway/edge"
	"spillway/edge/synctest"
)

// RunVirtual runs f once per protocol in a bubble of edge/synctest, each
// time against a new node on a simulated network: minutes of waiting take no
// time. HTTP/3 goes over packets with latency, HTTP/1.1 and HTTP/2 over pipes
// without any buffer.
func (s Setup) RunVirtual(t *testing.T, f func(t *testing.T, v *Visitor)) {
	t.Helper()
	for _, proto := range Protocols {
		t.Run(proto, func(t *testing.T) {
			s.Virtual(t, func(t *testing.T, n *Node) { f(t, n.Visitor(t, proto)) })
		})
	}
}

// Virtual runs f once in a bubble, with a node on a simulated network.
func (s Setup) Virtual(t *testing.T, f func(t *testing.T, n *Node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork()
		n := s.start(t, edge.Sockets{UDP: []net.PacketConn{w.node(s.Latency)}, TCP: w.pipes})
		n.network = w
		// Cleanups run last in, first out: visitors leave, the node stops, then
		// the network is gone.
		t.Cleanup(w.close)
		t.Cleanup(func() { n.Stop(t) })
		w.start()
		f(t, n)
	})
}

// nodePort is the port of a node on the simulated network.
const nodePort = 443

// A network connects visitors to one node, in memory.
type network struct {
	packets *simnet.Simnet
	pipes   *pipeListener

	mu     sync.Mutex
	hosts  byte
	router *simnet.PerfectRouter
	links  []*simnet.Simnet
}

func newNetwork() *network {
	router := &simnet.PerfectRouter{}
	return &network{
		router:  router,
		packets: &simnet.Simnet{Router: router},
		pipes:   &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})},
	}
}

func (w *network) node(latency time.Duration) net.PacketConn {
	return w.packets.NewEndpoint(nodeUDP(), simnet.NodeBiDiLinkSettings{Latency: latency})
}

func nodeUDP() *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1).To4(), Port: nodePort} }

func (w *network) start() { w.packets.Start() }

// endpoint returns the socket of a new visitor with an address of its own.
func (w *network) endpoint(latency time.Duration) *simnet.SimConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts++
	addr := &net.UDPAddr{IP: net.IPv4(10, 0, 1, w.hosts).To4(), Port: 40000}
	link := &simnet.Simnet{Router: w.router} // its own, to be started now
	conn := link.NewEndpoint(addr, simnet.NodeBiDiLinkSettings{Latency: latency})
	link.Start()
	w.links = append(w.links, link)
	return conn
}

func (w *network) close() {
	w.packets.Close()
	for _, l := range w.links {
		l.Close()
	}
}

func (w *network) dialTCP(ctx context.Context, _, _ string) (net.Conn, error) {
	w.mu.Lock()
	w.hosts++
	from := &net.TCPAddr{IP: net.IPv4(10, 0, 1, w.hosts).To4(), Port: 40000}
	w.mu.Unlock()
	ours, theirs := net.Pipe()
	select {
	case w.pipes.conns <- pipeConn{theirs, w.pipes.Addr(), from}:
		return pipeConn{ours, from, w.pipes.Addr()}, nil
	case <-w.pipes.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A pipeListener is a listener in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr {
	a := nodeUDP()
	return &net.TCPAddr{IP: a.IP, Port: a.Port}
}

// A pipeConn is an end of a pipe that has addresses.
type pipeConn struct {
	net.Conn
	local, remote net.Addr
}

func (c pipeConn) LocalAddr() net.Addr  { return c.local }
func (c pipeConn) RemoteAddr() net.Addr { return c.remote }
