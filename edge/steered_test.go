package edge_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"

	"spillway/bpf"
	"spillway/edge"
	"spillway/edge/edgetest"
)

// A nat is a visitor's socket whose address changes, as one behind a NAT does.
type nat struct {
	remote net.Addr
	mu     sync.Mutex
	conn   *net.UDPConn
	// onPacket sees what arrives, before the visitor does. Nil sees nothing.
	onPacket func(packet []byte)
}

func newNAT(t testing.TB, remote net.Addr) *nat {
	t.Helper()
	n := &nat{remote: remote}
	n.move(t)
	t.Cleanup(func() { n.Close() })
	return n
}

// move gives the visitor another port.
func (n *nat) move(t testing.TB) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: n.remote.(*net.UDPAddr).IP})
	if err != nil {
		t.Error(err)
		return
	}
	n.mu.Lock()
	old := n.conn
	n.conn = conn
	n.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

func (n *nat) current() *net.UDPConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

// ReadFrom implements net.PacketConn.
func (n *nat) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		conn := n.current()
		size, from, err := conn.ReadFrom(p)
		if err != nil && conn != n.current() {
			continue // it has moved
		}
		if err == nil && n.onPacket != nil {
			n.onPacket(p[:size])
		}
		return size, from, err
	}
}

// WriteTo implements net.PacketConn. What is written while the visitor moves is lost.
func (n *nat) WriteTo(p []byte, to net.Addr) (int, error) {
	if _, err := n.current().WriteTo(p, to); errors.Is(err, net.ErrClosed) {
		return len(p), nil
	}
	return len(p), nil
}

// Close implements net.PacketConn.
func (n *nat) Close() error { return n.current().Close() }

// LocalAddr implements net.PacketConn.
func (n *nat) LocalAddr() net.Addr { return n.current().LocalAddr() }

// SetDeadline implements net.PacketConn.
func (n *nat) SetDeadline(t time.Time) error { return n.current().SetDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (n *nat) SetReadDeadline(t time.Time) error { return n.current().SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (n *nat) SetWriteDeadline(t time.Time) error { return n.current().SetWriteDeadline(t) }

// A roamer is a visitor behind a NAT, with one connection over HTTP/3.
type roamer struct {
	*nat
	conn   atomic.Pointer[quic.Conn]
	client *http.Client
	url    string
}

func newRoamer(t testing.TB, n *edgetest.Node, c *tls.Config) *roamer {
	t.Helper()
	remote, err := net.ResolveUDPAddr("udp", n.Listeners.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := &roamer{nat: newNAT(t, remote), url: n.URL()}
	from := &quic.Transport{Conn: r.nat}
	tr := &http3.Transport{TLSClientConfig: c, QUICConfig: &quic.Config{TokenStore: quic.NewLRUTokenStore(1, 1)}}
	tr.Dial = func(ctx context.Context, _ string, c *tls.Config, q *quic.Config) (*quic.Conn, error) {
		conn, err := from.Dial(ctx, remote, c, q) // quic-go races with itself in early data
		r.conn.Store(conn)
		return conn, err
	}
	r.client = &http.Client{Transport: tr}
	t.Cleanup(func() { tr.Close(); from.Close() })
	return r
}

// ask returns the body of an answer that comes within the patience.
func (r *roamer) ask(patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return "", err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

const (
	roamers = 30
	moves   = 3
	patient = 20 * time.Second
)

// survivors returns how many visitors are answered on their one connection after each
// of some moves.
func survivors(t *testing.T, n *edgetest.Node, patience time.Duration) int64 {
	t.Helper()
	var (
		alive atomic.Int64
		all   sync.WaitGroup
	)
	var visitors []*roamer
	for range roamers {
		r := newRoamer(t, n, n.Client.Clone())
		if _, err := r.ask(patient); err != nil {
			t.Fatalf("before moving: %v", err)
		}
		visitors = append(visitors, r)
	}
	for _, r := range visitors {
		all.Go(func() {
			first := r.conn.Load()
			for range moves {
				r.move(t)
				if _, err := r.ask(patience); err != nil || r.conn.Load() != first {
					var reset *quic.StatelessResetError
					if errors.As(context.Cause(first.Context()), &reset) {
						t.Error("a connection was reset that another socket has")
					}
					return
				}
			}
			alive.Add(1)
		})
	}
	all.Wait()
	return alive.Load()
}

func open(t testing.TB, s *edgetest.Setup) edge.Sockets {
	t.Helper()
	socks, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	return socks
}

// kernel returns what steers in the kernel, or skips the test.
func kernel(t testing.TB, ids *bpf.ConnectionIDs) *bpf.Admission {
	t.Helper()
	a, err := bpf.Load(bpf.Options{UDPPort: 443, ConnectionIDs: ids})
	if errors.Is(err, bpf.ErrNoPrivilege) || errors.Is(err, bpf.ErrOldKernel) {
		t.Skipf("steering in the kernel: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if err := a.Configure(bpf.Config{Stale: time.Hour}); err != nil { // it knows the keys from now on
		t.Fatal(err)
	}
	return a
}

// steeredSockets opens sockets that the kernel steers.
func steeredSockets(t testing.TB, s *edgetest.Setup, count int) edge.Sockets {
	t.Helper()
	ids := edgetest.ConnectionIDs(t, "")
	a := kernel(t, ids)
	socks := open(t, s)
	if err := socks.Steer(t.Context(), edge.Steering{IDs: ids, Kernel: a, Sockets: count}); err != nil {
		t.Fatal(err)
	}
	if len(socks.UDP) != count {
		t.Fatalf("%d sockets, want %d", len(socks.UDP), count)
	}
	return socks
}

// Whoever changes port keeps the connection, whichever of four sockets it is at.
func TestConnectionsSurviveNATRebinding(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			s := edgetest.New(http.HandlerFunc(echoProto))
			s.Config.Listen = address
			n := s.StartOn(t, steeredSockets(t, &s, 4))
			if got := survivors(t, n, patient); got != roamers {
				t.Errorf("%d of %d connections survived", got, roamers)
			}
			if got := n.Listeners.State(); got.UDPSockets != 4 || got.UDPSteering != "kernel" {
				t.Errorf("%d sockets, %s", got.UDPSockets, got.UDPSteering)
			}
		})
	}
}

// Without steering they do not, or the test above would show nothing.
func TestConnectionsDieUnsteered(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	n := s.StartOn(t, unsteered(t, &s, 4))
	got := survivors(t, n, 2*time.Second)
	if got == roamers {
		t.Error("all connections survived")
	}
	t.Logf("%d of %d connections survived", got, roamers)
	if got := n.Listeners.State(); got.UDPSockets != 4 || got.UDPSteering != "none" {
		t.Errorf("%d sockets, %s", got.UDPSockets, got.UDPSteering)
	}
}

// unsteered opens sockets that share an address, and nothing else.
func unsteered(t *testing.T, s *edgetest.Setup, count int) edge.Sockets {
	t.Helper()
	socks := open(t, s)
	for len(socks.UDP) < count {
		socks.UDP = append(socks.UDP, beside(t, socks.UDP[0]))
	}
	return socks
}

// beside opens another socket at the address of one.
func beside(t *testing.T, sock net.PacketConn) net.PacketConn {
	t.Helper()
	listen := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		return errors.Join(raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}), err)
	}}
	other, err := listen.ListenPacket(t.Context(), "udp", sock.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return other
}

// All protocols go on as ever with several sockets.
func TestSeveralSockets(t *testing.T) {
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			s := edgetest.New(http.HandlerFunc(echoProto))
			n := s.StartOn(t, steeredSockets(t, &s, 2))
			for range 20 {
				v := n.Visitor(t, proto)
				read(t, v.Get(t, "/"))
			}
		})
	}
}

// What one socket gave, a token or a ticket, is good at the others. Visitors move
// between a Retry and their answer to it, and come back from another port.
func TestTokensAndTicketsAreGoodAtAllSockets(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.DidResume) }))
	n := s.StartOn(t, unsteered(t, &s, 4))
	guarded(t, n)
	c := n.Client.Clone()
	tickets := &sessions{ClientSessionCache: tls.NewLRUClientSessionCache(1), put: make(chan struct{}, 1000)}
	c.ClientSessionCache = tickets
	for i := range roamers {
		r := newRoamer(t, n, c)
		var once sync.Once
		r.onPacket = func(packet []byte) {
			const retry = 0xf0 // RFC 9000 section 17.2.5
			if packet[0]&retry == retry {
				once.Do(func() { r.move(t) })
			}
		}
		resumed, err := r.ask(patient)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && resumed != "true" {
			t.Error("a ticket was not accepted")
		}
		<-tickets.put
	}
	if got := n.Admit.State().Retries; got < roamers {
		t.Errorf("%d Retries", got)
	}
}

// A node that died and is back resets the connections of before, so that visitors
// connect anew at once and do not wait for an idle time-out.
func TestStatelessResetAfterARestart(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Config.State = t.TempDir()
	socks := open(t, &s)
	next := passed(t, socks.Files) // so that nobody else gets the address meanwhile
	n := s.StartOn(t, socks)
	r := newRoamer(t, n, n.Client.Clone())
	if _, err := r.ask(patient); err != nil {
		t.Fatal(err)
	}
	died := r.conn.Load()
	for _, sock := range socks.UDP {
		sock.Close() // nobody is told
	}
	n.Stop(t)
	s.StartOn(t, next)
	r.ask(patient)
	<-died.Context().Done()
	var reset *quic.StatelessResetError
	if err := context.Cause(died.Context()); !errors.As(err, &reset) {
		t.Errorf("the connection ended with: %v", err)
	}
}

// BenchmarkSockets measures hits over HTTP/3 on eight connections: the processor time
// of visitors and node.
func BenchmarkSockets(b *testing.B) {
	body := make([]byte, 1024)
	for _, count := range []int{1, 2} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			s := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(body) }))
			n := s.StartOn(b, steeredSockets(b, &s, count))
			visitors := make(chan *edgetest.Visitor, 8)
			for range cap(visitors) {
				v := n.Visitor(b, "h3")
				v.Get(b, "/").Body.Close()
				visitors <- v
			}
			b.SetParallelism(cap(visitors)) // who has no visitor waits for one
			before := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				v := <-visitors
				for pb.Next() {
					resp := v.Get(b, "/")
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				visitors <- v
			})
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
