package interop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/bpf"
)

// TestNative lets clients of three makes load pages through the program in the kernel,
// attached natively to a virtual cable, over IPv4 and IPv6, with and without Retry.
// Nothing of theirs is dropped, their connections are recognised, and they owe nothing
// at the end. The server is quic-go's with the node's connection IDs and none of its
// other parts, so that what is counted is the kernel's.
func TestNative(t *testing.T) {
	for i, family := range []string{"IPv4", "IPv6"} {
		for _, retry := range []bool{false, true} {
			name := fmt.Sprintf("%s/retry=%v", family, retry)
			t.Run("quic-go/"+name, func(t *testing.T) {
				const connections = 10
				s := startNative(t, i, retry)
				for range connections {
					s.fetch(t, 100_000)
				}
				s.check(t, connections)
			})
			t.Run("gtlsclient/"+name, func(t *testing.T) {
				program := need(t, "gtlsclient", "ngtcp2-client")
				const connections = 3
				s := startNative(t, i, retry)
				for range connections {
					s.gtlsclient(t, program, 1<<20)
				}
				s.check(t, connections)
			})
			t.Run("chromium/"+name, func(t *testing.T) {
				program := need(t, "chromium", "chromium")
				s := startNative(t, i, retry)
				host := nodeAddrs[i].String()
				if nodeAddrs[i].Is6() {
					host = "[" + host + "]"
				}
				seen := visit(t, s.origin, chromium(t, program, s.node, "/page",
					"--origin-to-force-quic-on=localhost:PORT", "--host-resolver-rules=MAP localhost "+host))
				checkPage(t, s.origin, seen, "h3")
				// A browser opens as many as it likes.
				s.check(t, 1)
			})
		}
	}
}

// A native is a server behind the program.
type native struct {
	*node
	origin    *origin
	admission *bpf.Admission
	ids       *bpf.ConnectionIDs
	at        netip.AddrPort
	client    netip.Addr
	retry     bool
}

// guarded is the level at which sources are limited, by less than any pause pays off:
// what is not given back is still owed at the end.
var guarded = bpf.Config{
	Level: bpf.Guarded, Enforce: true, DropFragments: true, Stale: time.Hour, KnownFor: time.Hour,
	Source: bpf.Limit{PerSecond: .001, Burst: 1000},
}

// charge is what beginning a connection costs.
const charge = 1000 * time.Second

func startNative(t *testing.T, family int, retry bool) *native {
	t.Helper()
	s := &native{
		node: &node{dir: t.TempDir(), port: "443", url: "https://localhost"}, origin: newOrigin(t),
		at: netip.AddrPortFrom(nodeAddrs[family], 443), client: clientAddrs[family], retry: retry,
	}
	s.certify(t)
	var err error
	if s.ids, err = bpf.NewConnectionIDs(nil, bpf.Keys{{1}, {2}}); err != nil {
		t.Fatal(err)
	}
	s.admission, err = bpf.Load(bpf.Options{UDPPort: 443, TCPPorts: [2]uint16{443}, ConnectionIDs: s.ids})
	if errors.Is(err, bpf.ErrNoPrivilege) || errors.Is(err, bpf.ErrOldKernel) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.admission.Close() })
	if err := s.admission.Configure(guarded); err != nil {
		t.Fatal(err)
	}
	layCable(t).atNode(t, func() error {
		i, err := net.InterfaceByName("n0")
		if err != nil {
			return err
		}
		if _, err := s.admission.Attach(i.Index, bpf.Native); err != nil {
			return err
		}
		return s.serve(t)
	})
	return s
}

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (s *native) GenerateConnectionID() (quic.ConnectionID, error) {
	return quic.ConnectionIDFromBytes(s.ids.New(0)), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (s *native) ConnectionIDLen() int { return s.ids.Len() }

// serve lets the origin answer over HTTP/3, and over TCP for what browsers use it for.
func (s *native) serve(t *testing.T) error {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(s.at))
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp", s.at.String())
	if err != nil {
		return err
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "cert.pem"), filepath.Join(s.dir, "key.pem"))
	if err != nil {
		return err
	}
	transport := &quic.Transport{
		Conn: socket, ConnectionIDGenerator: s, VerifySourceAddress: func(net.Addr) bool { return s.retry },
	}
	listener, err := transport.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{certificate}}), nil)
	if err != nil {
		return err
	}
	h3 := &http3.Server{Handler: s.origin}
	go func() {
		for {
			conn, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			go h3.ServeQUICConn(conn)
			go func() {
				select {
				case <-conn.HandshakeComplete():
					s.completed(conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr(), false)
				case <-conn.Context().Done():
				}
			}()
		}
	}()
	h1 := &http.Server{
		Handler: s.origin, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
		ConnState: func(conn net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.completed(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(), true)
			}
		},
	}
	go h1.ServeTLS(tcp, "", "")
	t.Cleanup(func() {
		h1.Close()
		h3.Close()
		listener.Close()
		transport.Close()
		socket.Close()
	})
	return nil
}

// completed tells the kernel of a handshake, as the node does.
func (s *native) completed(addr netip.Addr, tcp bool) {
	s.admission.Refund(addr, tcp, charge)
	s.admission.Know(addr)
}

// check asks that at least so many connections were charged, that the kernel knew
// their packets, dropped none and is owed nothing.
func (s *native) check(t *testing.T, connections int) {
	t.Helper()
	counts, err := s.admission.Counts()
	if err != nil {
		t.Fatal(err)
	}
	for reason, count := range counts.Packets {
		r := bpf.Reason(reason)
		if count.Packets > 0 {
			t.Logf("%s: %d", r, count.Packets)
		}
		if count.Packets > 0 && (r.Drop() || r == bpf.PassStale || r == bpf.PassUnmatched || r == bpf.PassTrickle) {
			t.Errorf("%s: %d packets", r, count.Packets)
		}
	}
	packets := func(r bpf.Reason) int { return int(counts.Packets[r].Packets) }
	if n := packets(bpf.PassNewQUIC); n < connections {
		t.Errorf("%d charges of %d connections", n, connections)
	}
	// Without a Retry, a client may acknowledge the server's Initial in a Handshake packet.
	if n := packets(bpf.PassProven); s.retry && n < connections {
		t.Errorf("%d proven Initials of %d connections", n, connections)
	}
	if n := packets(bpf.PassEstablishedQUIC); n < 3*connections {
		t.Errorf("%d packets of %d connections were recognised", n, connections)
	}
	for _, tcp := range []bool{false, true} {
		await(t, fmt.Sprintf("all charges are given back (TCP: %v)", tcp), func() bool { return s.admission.Owes(s.client, tcp) == 0 })
	}
}

// fetch loads a page on a new connection, by quic-go.
func (s *native) fetch(t *testing.T, size int) {
	t.Helper()
	conn, err := dial(t.Context(), s.at.String(), s.tls(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/bytes/"+strconv.Itoa(size), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := new(http3.Transport).NewClientConn(conn).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || digest(got) != digest(pattern(size)) {
		t.Fatalf("%d of %d bytes: %v", len(got), size, err)
	}
}

// gtlsclient loads a page by ngtcp2's client.
func (s *native) gtlsclient(t *testing.T, program string, size int) {
	t.Helper()
	dir, name := t.TempDir(), strconv.Itoa(size)
	cmd := exec.Command(program, "--quiet", "--exit-on-all-streams-close", "--download", dir, s.at.Addr().String(), s.port, s.url+"/bytes/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || digest(got) != digest(pattern(size)) {
		t.Errorf("%d of %d bytes: %v", len(got), size, err)
	}
}
