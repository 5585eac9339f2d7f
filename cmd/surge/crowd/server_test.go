package crowd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// protocols runs f over each protocol.
func protocols(t *testing.T, f func(t *testing.T, protocol string)) {
	for _, p := range []string{H1, H2, H3} {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

// A server answers one protocol and counts its connections.
type server struct {
	url         string
	roots       *x509.CertPool
	connections atomic.Int64
}

func (s *server) addr() netip.AddrPort { return netip.MustParseAddrPort(s.url[len("https://"):]) }

func serve(t *testing.T, protocol string, h http.HandlerFunc) *server {
	s := &server{roots: x509.NewCertPool()}
	hs := httptest.NewUnstartedServer(h)
	hs.EnableHTTP2 = protocol == H2
	hs.Config.ErrorLog = log.New(io.Discard, "", 0)
	hs.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	hs.StartTLS()
	t.Cleanup(hs.Close)
	s.roots.AddCert(hs.Certificate())
	s.url = hs.URL
	if protocol == H3 {
		s.serveQUIC(t, hs, h)
	}
	return s
}

// serveQUIC serves HTTP/3 with the certificate of hs.
func (s *server) serveQUIC(t *testing.T, hs *httptest.Server, h http.HandlerFunc) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	h3 := &http3.Server{
		Handler:   h,
		TLSConfig: http3.ConfigureTLSConfig(hs.TLS),
		// As patient as the visitors: one that dials on when the server has forgotten it counts twice.
		QUICConfig: &quic.Config{HandshakeIdleTimeout: 30 * time.Second},
		ConnContext: func(ctx context.Context, _ *quic.Conn) context.Context {
			s.connections.Add(1)
			return ctx
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h3.Serve(conn)
	}()
	t.Cleanup(func() {
		h3.Close()
		<-done
		conn.Close()
	})
	s.url = "https://" + conn.LocalAddr().String()
}

// config is a short crowd of about 60 visitors.
func (s *server) config(protocol string) Config {
	return Config{
		URLs:     []string{s.url + "/{visitor}"},
		Protocol: protocol,
		Phases:   []Phase{{Name: "a", From: 200, To: 200, Length: 200 * time.Millisecond}, {Name: "b", From: 200, Length: 200 * time.Millisecond}},
		RootCAs:  s.roots,
		Timeout:  30 * time.Second, // a slow machine is no error
	}
}

func run(t *testing.T, c Config) Result {
	t.Helper()
	crowd, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	res, err := crowd.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, "total", res.Counts)
	for _, p := range res.Phases {
		checkSums(t, "phase "+p.Name, p.Counts)
	}
	for _, s := range res.PerSecond {
		checkSums(t, "second "+strconv.Itoa(s.T), s.Counts)
	}
	return res
}

// visitorOf returns the number that the visitor asks with.
func visitorOf(r *http.Request) uint64 {
	n, err := strconv.ParseUint(r.URL.Path[1:], 10, 64)
	if err != nil {
		panic(errors.New("a request without a visitor's number: " + r.URL.Path))
	}
	return n
}

// testTLS returns a server's configuration with httptest's certificate.
func testTLS(t *testing.T) *tls.Config {
	hs := httptest.NewTLSServer(nil)
	t.Cleanup(hs.Close)
	return hs.TLS
}
