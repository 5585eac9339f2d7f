package edge_test

//lint:file-ignore SA1019 net/http's client of HTTP/2 loses bodies of its own at a GOAWAY, see clientThrough

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// A succession is a node that is handed over from process to process, here all in
// one. They share the TCP socket. Each generation has its number in its answers.
type succession struct {
	t      *testing.T
	setup  edgetest.Setup
	node   *edgetest.Node
	number int
	// crowded lets more than two generations live at once, for which connection IDs
	// have no room: each has a UDP address of its own, and visitors go to the last.
	crowded bool
	quic    atomic.Pointer[net.UDPAddr]
}

// newSuccession starts the first generation. Without HTTP/3 nothing waits for its
// late flows. Connections are soon idle, which hand-overs wait for: not those of QUIC,
// which are idle too while the machine stands still and no PING comes.
func newSuccession(t *testing.T, h http.Handler, quic bool) *succession {
	t.Helper()
	idle := 2 * time.Second
	if quic {
		idle = 20 * time.Second
	}
	return newPatientSuccession(t, h, quic, idle)
}

// newPatientSuccession is newSuccession with the time that idle connections are left.
func newPatientSuccession(t *testing.T, h http.Handler, quic bool, idle time.Duration) *succession {
	t.Helper()
	s := &succession{t: t, setup: edgetest.New(h)}
	s.setup.Config.HTTP3.Enabled = quic
	s.setup.Config.Timeouts.Idle = idle
	socks, err := edge.OpenSockets(t.Context(), s.setup.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.start(socks)
	return s
}

func (s *succession) start(socks edge.Sockets) {
	s.number++
	generation, h := strconv.Itoa(s.number), s.setup.Handler
	setup := s.setup
	setup.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Generation", generation)
		h.ServeHTTP(w, r)
	})
	s.node = setup.StartOn(s.t, socks)
	if len(socks.UDP) > 0 {
		s.quic.Store(socks.UDP[0].LocalAddr().(*net.UDPAddr))
	}
}

// passed returns sockets as another process gets them.
func passed(t *testing.T, files func() ([]*os.File, error)) edge.Sockets {
	t.Helper()
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	s, err := edge.AdoptSockets(all)
	for _, f := range all {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// succeed starts the next generation.
func (s *succession) succeed() {
	s.t.Helper()
	mine := s.node.Listeners.Sockets()
	if err := mine.Hold(); err != nil {
		s.t.Fatal(err)
	}
	socks, err := edge.InheritSockets(s.t.Context(), s.setup.Config, passed(s.t, mine.StreamFiles))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.crowded && len(socks.UDP) > 0 {
		elsewhere, err := edge.OpenSockets(s.t.Context(), s.setup.Config)
		if err != nil {
			s.t.Fatal(err)
		}
		elsewhere.TCP.Close()
		socks.UDP[0].Close()
		socks.UDP = elsewhere.UDP
	}
	steering := edge.Steering{IDs: edgetest.ConnectionIDs(s.t, ""), Generation: s.number % 2}
	if !s.crowded {
		steering.Before = s.node.Listeners.State().UDPSteering
	}
	if err := socks.Steer(s.t.Context(), steering); err != nil {
		s.t.Fatal(err)
	}
	s.start(socks)
}

// handOver lets a successor take over, and returns what becomes of the predecessor.
func (s *succession) handOver(ctx context.Context) <-chan error {
	s.t.Helper()
	old := s.node
	s.succeed()
	s.await(s.number)
	return handOver(ctx, old)
}

// await waits until a generation gets what is new: over TCP both do, for a while.
func (s *succession) await(number int) {
	s.t.Helper()
	proto := "h1"
	if s.setup.Config.HTTP3.Enabled {
		proto = "h3"
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		c := s.client(proto)
		got, err := generation(c, s.url())
		c.CloseIdleConnections()
		if err != nil {
			s.t.Fatal(err)
		}
		if got == strconv.Itoa(number) {
			return
		}
	}
	s.t.Fatalf("generation %d gets nobody", number)
}

// A dialTCP opens a TCP connection.
type dialTCP func(ctx context.Context, network, address string) (net.Conn, error)

// client returns a client of whichever generation there is, which trusts them all.
func (s *succession) client(proto string) *http.Client {
	return s.clientThrough(proto, new(net.Dialer).DialContext)
}

// clientThrough returns one whose TCP connections are made by d.
func (s *succession) clientThrough(proto string, d dialTCP) *http.Client {
	config := &tls.Config{ServerName: edgetest.Host, InsecureSkipVerify: true}
	if proto == "h3" {
		tr := &http3.Transport{
			TLSClientConfig: config, QUICConfig: &quic.Config{},
			Dial: func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
				return quic.DialAddrEarly(ctx, s.quic.Load().String(), c, q)
			},
		}
		s.t.Cleanup(func() { tr.Close() })
		return &http.Client{Transport: tr}
	}
	if proto == "h2" {
		// That of net/http closes a body that it has not begun to send when it learns of
		// a GOAWAY, and finds then that it cannot send it elsewhere.
		tr := &http2.Transport{
			TLSClientConfig: config,
			DialTLSContext: func(ctx context.Context, network, address string, c *tls.Config) (net.Conn, error) {
				raw, err := d(ctx, network, address)
				if err != nil {
					return nil, err
				}
				conn := tls.Client(raw, c)
				return conn, conn.HandshakeContext(ctx)
			},
		}
		s.t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	tr := &http.Transport{TLSClientConfig: config, DialContext: d}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (s *succession) url() string { return s.node.URL() }

// generation asks who answers a client.
func generation(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	return resp.Header.Get("Generation"), nil
}

// handOver begins a hand-over and returns its end.
func handOver(ctx context.Context, n *edgetest.Node) <-chan error {
	done := make(chan error, 1)
	go func() { done <- n.Listeners.HandOver(ctx) }()
	return done
}

// A departure begins to take leave of visitors, and returns the end.
type departure func(context.Context, *edgetest.Node) <-chan error

// eachWay runs f for both, which have the same rules.
func eachWay(t *testing.T, f func(t *testing.T, leave departure)) {
	t.Run("hand-over", func(t *testing.T) { f(t, handOver) })
	t.Run("shutdown", func(t *testing.T) { f(t, shutDown) })
}

// shutDown begins a shutdown and returns its end.
func shutDown(ctx context.Context, n *edgetest.Node) <-chan error {
	done := make(chan error, 1)
	go func() { done <- n.Listeners.Shutdown(ctx) }()
	return done
}
