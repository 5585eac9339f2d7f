// Package edgetest runs tests against the listeners of package edge as visitors
// meet them. One test body runs over HTTP/1.1, HTTP/2 and HTTP/3, on real
// sockets of 127.0.0.1 or, where time matters, on a simulated network in the
// virtual time of edge/synctest. It also holds an origin that saturates.
//
// It is imported by tests only. A node that does not start or stop fails the
// test. It simulates neither loss nor narrow links.
package edgetest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/testutils/simnet"

	"spillway/bpf"
	"spillway/edge"
	"spillway/edge/admit"
)

// Host is the site of a test node.
const Host = "edge.test"

// Protocols are those that Run goes through.
var Protocols = []string{"h1", "h2", "h3"}

// A Setup describes a node under test.
type Setup struct {
	Config  edge.Config
	Admit   admit.Config
	Handler http.Handler
	// Log gets the node's log. Nil discards it.
	Log *slog.Logger
	// Latency is the delay of a packet on the simulated network.
	Latency time.Duration
}

// New returns the setup of a node with the product's defaults, a self-signed
// certificate and keys in memory. SPILLWAY_FAST_PATH=off in the environment puts the same
// tests to a node that has every request answered by the protocols' libraries.
func New(h http.Handler) Setup {
	fastPath := cmp.Or(os.Getenv("SPILLWAY_FAST_PATH"), "on")
	return Setup{
		Handler: h,
		Latency: 20 * time.Millisecond,
		Admit:   admit.Config{Enforce: true, HandshakesPerCore: 500, HalfOpen: 1000},
		Config: edge.Config{
			Listen: "127.0.0.1:0",
			HTTP:   "off",
			TLS:    edge.TLSConfig{SelfSigned: true},
			Timeouts: edge.TimeoutsConfig{
				Header: 10 * time.Second, Idle: 20 * time.Second,
				Stall: 30 * time.Second, Tunnel: 10 * time.Minute, Drain: 30 * time.Second,
			},
			Limits:   edge.LimitsConfig{HeaderBytes: 32 << 10, BodyBytes: 100 << 20, Streams: 100},
			Overflow: edge.OverflowConfig{Buffer: 64 << 20},
			HTTP1:    edge.HTTP1Config{FastPath: fastPath},
			HTTP2:    edge.HTTP2Config{FastPath: fastPath},
			HTTP3:    edge.HTTP3Config{Enabled: true, GSO: true, ECN: true, AltSvcMaxAge: time.Hour, FastPath: fastPath},
		},
	}
}

// Run runs f once per protocol against a node with the product's defaults.
func Run(t *testing.T, h http.Handler, f func(t *testing.T, v *Visitor)) {
	t.Helper()
	New(h).Run(t, f)
}

// Run runs f once per protocol, each time against a new node.
func (s Setup) Run(t *testing.T, f func(t *testing.T, v *Visitor)) {
	t.Helper()
	for _, proto := range Protocols {
		t.Run(proto, func(t *testing.T) {
			n := s.Start(t)
			f(t, n.Visitor(t, proto))
		})
	}
}

// A Node is a running node.
type Node struct {
	Listeners *edge.Listeners
	Admit     *admit.Controller
	// Client is the TLS configuration of a visitor who trusts the node.
	Client *tls.Config

	latency time.Duration
	network *network      // nil on real sockets
	ran     chan struct{} // closed when it runs no more, and has told why
}

// Start starts a node on real sockets. It stops when the test ends.
func (s Setup) Start(t testing.TB) *Node {
	t.Helper()
	socks, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatalf("open sockets: %v", err)
	}
	return s.StartOn(t, socks)
}

// StartOn starts a node on sockets that are open already.
func (s Setup) StartOn(t testing.TB, socks edge.Sockets) *Node {
	t.Helper()
	n := s.start(t, socks)
	t.Cleanup(func() { n.Stop(t) })
	return n
}

func (s Setup) start(t testing.TB, socks edge.Sockets) *Node {
	t.Helper()
	if socks.Steering.IDs == nil {
		socks.Steering.IDs = ConnectionIDs(t, "")
	}
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{Admit: admit.New(s.Admit, 2), latency: s.Latency, ran: make(chan struct{})}
	var err error
	n.Listeners, err = edge.NewListenersOn(socks, s.Config, []string{Host}, n.Admit, s.Handler, log)
	if err != nil {
		t.Fatalf("new listeners: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(n.Listeners.Certificate())
	n.Client = &tls.Config{RootCAs: pool, ServerName: Host}
	life := context.WithoutCancel(t.Context())
	go func() {
		defer close(n.ran)
		if err := n.Listeners.Run(life); err != nil {
			t.Logf("run listeners: %v", err)
		}
	}()
	return n
}

// ConnectionIDs returns a format of connection IDs, with keys that all tests know. The
// server ID may be empty.
func ConnectionIDs(t testing.TB, serverID string) *bpf.ConnectionIDs {
	t.Helper()
	ids, err := bpf.NewConnectionIDs([]byte(serverID), bpf.Keys{{1}, {2}})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// Stop shuts the node down and cuts off what is still in flight.
func (n *Node) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n.Listeners.Shutdown(ctx)
	<-n.ran // or it could tell why when the test has ended, which is a panic
}

// URL is the address of the node.
func (n *Node) URL() string { return "https://" + n.Listeners.Addr().String() }

// A Visitor is a client with connections of its own.
type Visitor struct {
	*http.Client
	URL   string
	Proto string
	Node  *Node
	close func()
}

// Visitor returns a new visitor who speaks the protocol h1, h2 or h3. It leaves
// when the test ends.
func (n *Node) Visitor(t testing.TB, proto string) *Visitor {
	t.Helper()
	v := &Visitor{Client: &http.Client{}, URL: n.URL(), Proto: proto, Node: n}
	v.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	switch proto {
	case "h1", "h2":
		tr := &http.Transport{TLSClientConfig: n.Client.Clone(), Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(proto == "h1")
		tr.Protocols.SetHTTP2(proto == "h2")
		if n.network != nil {
			tr.DialContext = n.network.dialTCP
		}
		v.Transport, v.close = tr, tr.CloseIdleConnections
	case "h3":
		tr := &http3.Transport{TLSClientConfig: n.Client.Clone(), QUICConfig: &quic.Config{}}
		v.Transport, v.close = tr, func() { tr.Close() }
		if n.network != nil {
			qt := &quic.Transport{Conn: n.network.endpoint(n.latency)}
			tr.Dial = func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
				return qt.DialEarly(ctx, nodeUDP(), c, q)
			}
			v.close = func() { tr.Close(); qt.Close(); qt.Conn.Close() }
		}
	default:
		t.Fatalf("unknown protocol %q", proto)
	}
	t.Cleanup(v.Close)
	return v
}

// Dial opens an HTTP/3 connection that carries what the test writes, and may
// carry it as early data. It is closed when the test ends. It needs a simulated
// network.
func (n *Node) Dial(t testing.TB, q *quic.Config) (*quic.Conn, error) {
	t.Helper()
	c := n.Client.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	tr := &quic.Transport{Conn: n.network.endpoint(n.latency)}
	t.Cleanup(func() { tr.Close(); tr.Conn.Close() })
	return tr.DialEarly(t.Context(), nodeUDP(), c, q)
}

// DialQUIC opens an HTTP/3 connection on real sockets that carries what the test
// writes. It is closed when the test ends.
func (n *Node) DialQUIC(t testing.TB) *quic.Conn { return n.DialQUICWith(t, &quic.Config{}) }

// DialQUICWith is DialQUIC with settings of the test's own.
func (n *Node) DialQUICWith(t testing.TB, q *quic.Config) *quic.Conn {
	t.Helper()
	c := n.Client.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddr(t.Context(), n.Listeners.Addr().String(), c, q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	return conn
}

// DialTLS opens a TLS connection that carries what the test writes. It is
// closed when the test ends.
func (n *Node) DialTLS(t testing.TB, protocol string) (net.Conn, error) {
	t.Helper()
	dial := new(net.Dialer).DialContext
	if n.network != nil {
		dial = n.network.dialTCP
	}
	raw, err := dial(t.Context(), "tcp", n.Listeners.Addr().String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { raw.Close() })
	c := n.Client.Clone()
	c.NextProtos = []string{protocol}
	return tls.Client(raw, c), nil
}

// Abandon begins a QUIC handshake from an address of its own and never goes on
// with it, as a flood does. It needs a simulated network.
func (n *Node) Abandon(t testing.TB) {
	t.Helper()
	sock := &mute{SimConn: n.network.endpoint(n.latency), first: 2} // a ClientHello is two datagrams
	tr := &quic.Transport{Conn: sock}
	t.Cleanup(func() { tr.Close(); sock.Close() })
	c := n.Client.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	tr.Dial(ctx, nodeUDP(), c, &quic.Config{})
}

// mute lets the first packets through.
type mute struct {
	*simnet.SimConn
	first int
}

// WriteTo implements net.PacketConn.
func (m *mute) WriteTo(p []byte, to net.Addr) (int, error) {
	if m.first--; m.first < 0 {
		return len(p), nil
	}
	return m.SimConn.WriteTo(p, to)
}

// Close lets the visitor leave.
func (v *Visitor) Close() { v.close() }

// Get asks for a path. A failure ends the test.
func (v *Visitor) Get(t testing.TB, path string) *http.Response {
	t.Helper()
	resp, err := v.Client.Get(v.URL + path)
	if err != nil {
		t.Fatalf("GET %s over %s: %v", path, v.Proto, err)
	}
	return resp
}

// Port returns the port number of an address.
func Port(a net.Addr) int {
	_, port, _ := net.SplitHostPort(a.String())
	n, _ := strconv.Atoi(port)
	return n
}
