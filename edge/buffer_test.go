package edge_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// A thousand visitors come in one moment in which the node does not read, as before its
// first: all of their hellos are there when it does, and each begins a handshake.
func TestBurstOfVisitorsLosesNoInitial(t *testing.T) {
	t.Run("one datagram each", func(t *testing.T) { burst(t, 1, tls.X25519) })
	t.Run("two, with post-quantum keys", func(t *testing.T) { burst(t, 2, tls.X25519MLKEM768) })
}

func burst(t *testing.T, datagramsEach int, keys tls.CurveID) {
	const visitors = 1000
	setBuffer(t, listenUDP(t), 3<<20) // its measure of 2,000 datagrams is 2.2 MiB
	const slow = 5 * time.Minute      // what a machine may take for the handshakes
	edge.HoldFirstPackets(t, slow)
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Admit.Enforce = false
	socks, err := edge.OpenSockets(t.Context(), s.Config)
	if err != nil {
		t.Fatal(err)
	}
	hellos := firstFlights(t, visitors, datagramsEach, keys)
	sender, err := net.Dial("udp", socks.UDP[0].LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	for _, datagram := range hellos {
		if _, err := sender.Write(datagram); err != nil {
			t.Fatal(err)
		}
	}
	n := s.StartOn(t, socks)
	deadline := time.Now().Add(slow)
	for n.Admit.State().Started < visitors && time.Now().Before(deadline) && n.Listeners.State().UDPDropped+n.Listeners.State().UDPUnprocessed == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	state := n.Listeners.State()
	// Where the rest of a hello waits until its handshake was given up, it begins another.
	if got := n.Admit.State().Started; got < visitors || state.UDPDropped > 0 || state.UDPUnprocessed > 0 {
		t.Errorf("%d of %d visitors, in %d datagrams; dropped by the kernel %d, by the queue of new ones %d; buffer %d",
			got, visitors, len(hellos), state.UDPDropped, state.UDPUnprocessed, state.UDPBuffer)
	}
}

// An adopted socket keeps a larger buffer than the node would give it.
func TestAdoptedSocketKeepsItsBuffer(t *testing.T) {
	const large = 2 * edge.ReceiveBuffer
	udp := listenUDP(t)
	setBuffer(t, udp, large)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	var files []*os.File
	for _, sock := range []interface{ File() (*os.File, error) }{udp, tcp.(*net.TCPListener)} {
		f, err := sock.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	socks, err := edge.AdoptSockets(files)
	if err != nil {
		t.Fatal(err)
	}
	defer socks.Close()
	if got := bufferOf(t, udp); got < large {
		t.Errorf("the buffer of %d bytes has become %d", large, got)
	}
}

func listenUDP(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// setBuffer gives a socket a receive buffer, in bytes as setsockopt takes them, or skips
// where that is not allowed.
func setBuffer(t *testing.T, c *net.UDPConn, bytes int) {
	t.Helper()
	control(t, c, func(fd int) {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, bytes) // which bufferOf shows
		}
	})
	if bufferOf(t, c) < bytes {
		t.Skipf("a receive buffer of %d bytes needs CAP_NET_ADMIN, or as much in net.core.rmem_max", bytes)
	}
}

func bufferOf(t *testing.T, c *net.UDPConn) (bytes int) {
	t.Helper()
	control(t, c, func(fd int) {
		doubled, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err != nil {
			t.Error(err)
		}
		bytes = doubled / 2
	})
	return bytes
}

func control(t *testing.T, c *net.UDPConn, act func(fd int)) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { act(int(fd)) }); err != nil {
		t.Fatal(err)
	}
}

// firstFlights returns what that many clients send before they hear anything, one after
// the other, each in this number of datagrams: with post-quantum keys it takes two.
func firstFlights(t *testing.T, clients, each int, keys tls.CurveID) (datagrams [][]byte) {
	t.Helper()
	s := &helloSink{flights: map[string][][]byte{}, closed: make(chan struct{})}
	transport := &quic.Transport{Conn: s}
	defer transport.Close()
	for s.complete(each) < clients {
		var dialing sync.WaitGroup
		for range 100 {
			dialing.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				// Nobody answers.
				_, _ = transport.Dial(ctx, s.LocalAddr(), &tls.Config{ServerName: edgetest.Host, NextProtos: []string{http3.NextProtoH3}, CurvePreferences: []tls.CurveID{keys}}, nil)
			})
		}
		dialing.Wait()
	}
	for _, flight := range s.flights {
		if len(flight) >= each && clients > 0 {
			datagrams = append(datagrams, flight[:each]...)
			clients--
		}
	}
	return datagrams
}

// A helloSink is a socket that keeps the first two datagrams of each client.
type helloSink struct {
	mu      sync.Mutex
	flights map[string][][]byte // by connection ID
	closed  chan struct{}
	closing sync.Once
}

func (s *helloSink) complete(datagrams int) (clients int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, flight := range s.flights {
		if len(flight) >= datagrams {
			clients++
		}
	}
	return clients
}

// WriteTo implements net.PacketConn.
func (s *helloSink) WriteTo(b []byte, _ net.Addr) (int, error) {
	id := string(b[6 : 6+b[5]]) // RFC 9000 section 17.2
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flights[id]) < 2 {
		s.flights[id] = append(s.flights[id], append([]byte(nil), b...))
	}
	return len(b), nil
}

// ReadFrom implements net.PacketConn: nothing ever comes.
func (s *helloSink) ReadFrom([]byte) (int, net.Addr, error) {
	<-s.closed
	return 0, nil, net.ErrClosed
}

// Close implements net.PacketConn.
func (s *helloSink) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (s *helloSink) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// SetReadBuffer does nothing. A transport asks for it, and complains of sockets without.
func (s *helloSink) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing either.
func (s *helloSink) SetWriteBuffer(int) error { return nil }

// SetDeadline implements net.PacketConn.
func (s *helloSink) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn. A transport sets one to stop reading.
func (s *helloSink) SetReadDeadline(time.Time) error { return s.Close() }

// SetWriteDeadline implements net.PacketConn.
func (s *helloSink) SetWriteDeadline(time.Time) error { return nil }
