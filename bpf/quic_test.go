package bpf

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// generator makes the connection IDs of a quic.Transport.
type generator struct{ ids *ConnectionIDs }

func (g generator) GenerateConnectionID() (quic.ConnectionID, error) {
	return quic.ConnectionIDFromBytes(g.ids.New(0)), nil
}
func (g generator) ConnectionIDLen() int { return g.ids.Len() }

// TestQUIC lets a real server and real clients talk through the program, in a network
// of their own: every connection is charged once, its later packets need no map, and
// nothing is dropped.
func TestQUIC(t *testing.T) {
	const connections = 20
	for _, server := range []string{"own", "8 bytes"} {
		for _, address := range []string{"127.0.0.1", "::1"} {
			for _, retried := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/retry=%v", server, address, retried), func(t *testing.T) {
					ids := testIDs(t, servers[server])
					a := needKernel(t, Options{ConnectionIDs: ids})
					ownNamespace(t)
					_, err := a.Attach(interfaceIndex(t, "lo"), Generic)
					need(t, err)
					if err := a.Configure(configured(Guarded)); err != nil {
						t.Fatal(err)
					}
					at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), testUDPPort))
					counted := judged(t, a, func() { talk(t, ids, at, retried, connections) })

					for reason := range counted {
						if reason.Drop() || reason == PassUnmatched {
							t.Errorf("%s: %d", reason, counted[reason].Packets)
						}
					}
					if n := counted[PassNewQUIC].Packets; n != connections {
						t.Errorf("%d charges for %d connections", n, connections)
					}
					if n := counted[PassProven].Packets; retried && n < connections {
						t.Errorf("%d proven Initials of %d connections", n, connections)
					}
					if n := counted[PassEstablishedQUIC].Packets; n < 5*connections {
						t.Errorf("%d packets of established connections", n)
					}
					t.Log(counted)
				})
			}
		}
	}
}

// talk makes connections one after the other, each of which echoes some bytes.
func talk(t *testing.T, ids *ConnectionIDs, at *net.UDPAddr, retried bool, connections int) {
	t.Helper()
	conn, err := net.ListenUDP("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	transport := &quic.Transport{
		Conn: conn, ConnectionIDGenerator: generator{ids},
		VerifySourceAddress: func(net.Addr) bool { return retried },
	}
	listener, err := transport.Listen(selfSigned(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer transport.Close() // which ends all connections
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	serving.Go(func() {
		for {
			c, err := listener.Accept(ctx)
			if err != nil {
				return
			}
			serving.Go(func() { echo(ctx, c) })
		}
	})
	for range connections {
		visit(ctx, t, at)
	}
}

func echo(ctx context.Context, c *quic.Conn) {
	s, err := c.AcceptStream(ctx)
	if err != nil {
		return
	}
	_, _ = io.Copy(s, s)
	_ = s.Close()
	<-c.Context().Done()
}

// visit makes a connection from a port of its own and sends 30 kB there and back.
func visit(ctx context.Context, t *testing.T, at *net.UDPAddr) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: at.IP})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	transport := &quic.Transport{Conn: conn}
	defer transport.Close()
	c, err := transport.Dial(ctx, at, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	defer func() { _ = c.CloseWithError(0, "") }()
	s, err := c.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const size = 30_000
	writing.Go(func() {
		_, _ = s.Write(make([]byte, size))
		_ = s.Close()
	})
	if back, err := io.ReadAll(s); err != nil || len(back) != size {
		t.Fatalf("%d bytes came back, %v", len(back), err)
	}
}

func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: private}},
		NextProtos:   []string{"echo"},
	}
}
