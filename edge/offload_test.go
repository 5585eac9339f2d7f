package edge_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"spillway/edge/edgetest"
)

// An offloadSocket is a visitor's that gets as one piece what the node gave the kernel
// as one, and sees how it is marked.
type offloadSocket struct {
	*net.UDPConn
	piece, control []byte
	size           int // of the datagrams in the piece, but for the last
	from           *net.UDPAddr

	datagrams, pieces, capable atomic.Int64
}

func newOffloadSocket(t *testing.T) *offloadSocket {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var refused error
	if err := raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, 1)
	}); err != nil {
		t.Fatal(err)
	}
	if refused != nil {
		t.Skipf("UDP_GRO: %v", refused)
	}
	return &offloadSocket{UDPConn: conn}
}

// ReadBatch is what quic-go reads by, here a datagram at a time.
func (s *offloadSocket) ReadBatch(into []ipv4.Message, _ int) (int, error) {
	if len(s.piece) == 0 {
		if err := s.receive(); err != nil {
			return 0, err
		}
	}
	next := s.piece[:min(s.size, len(s.piece))]
	s.piece = s.piece[len(next):]
	s.datagrams.Add(1)
	m := &into[0]
	m.N, m.NN, m.Addr = copy(m.Buffers[0], next), copy(m.OOB, s.control), s.from
	return 1, nil
}

func (s *offloadSocket) receive() error {
	piece, control := make([]byte, 1<<16), make([]byte, 128)
	n, m, _, from, err := s.ReadMsgUDP(piece, control)
	if err != nil {
		return err
	}
	s.piece, s.control, s.size, s.from = piece[:n], control[:m], n, from
	s.pieces.Add(1)
	said, err := unix.ParseSocketControlMessage(s.control)
	if err != nil {
		return err
	}
	for _, c := range said {
		switch {
		case c.Header.Level == unix.SOL_UDP && c.Header.Type == unix.UDP_GRO:
			s.size = int(binary.NativeEndian.Uint16(c.Data))
		case c.Header.Level == unix.IPPROTO_IP && c.Header.Type == unix.IP_TOS && c.Data[0]&3 == 2: // ECT(0), RFC 3168 section 5
			s.capable.Add(1)
		}
	}
	return nil
}

// quic-go finds by their methods that the node's sockets segment in the kernel and mark
// what they send. Something put around them must not take that away.
func TestDownloadsAreSegmentedByTheKernelAndMarked(t *testing.T) {
	// A node without them, of another test, has told quic-go so for the whole process.
	t.Setenv("QUIC_GO_DISABLE_GSO", "")
	t.Setenv("QUIC_GO_DISABLE_ECN", "")
	const size = 4 << 20
	n := edgetest.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.CopyN(w, repeated('x'), size)
	})).Start(t)
	sock := newOffloadSocket(t)
	transport := &quic.Transport{Conn: sock}
	defer transport.Close()
	config := n.Client.Clone()
	config.NextProtos = []string{http3.NextProtoH3}
	conn, err := transport.Dial(t.Context(), n.Listeners.Sockets().UDP[0].LocalAddr(), config, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	r, err := http.NewRequest(http.MethodGet, n.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := new(http3.Transport).NewClientConn(conn).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(read(t, resp)); got != size {
		t.Fatalf("%d bytes of %d", got, size)
	}
	datagrams, pieces, capable := sock.datagrams.Load(), sock.pieces.Load(), sock.capable.Load()
	t.Logf("%d datagrams in %d pieces, of which %d are marked", datagrams, pieces, capable)
	if datagrams < 2*pieces {
		t.Errorf("%d datagrams came in %d pieces: not segmented by the kernel", datagrams, pieces)
	}
	if capable < pieces/2 {
		t.Errorf("%d of %d pieces say that they may be marked (ECN)", capable, pieces)
	}
}
