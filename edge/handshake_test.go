package edge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// writeCertificate makes a certificate for the names, and returns its files.
func writeCertificate(t *testing.T, names ...string) (edge.CertificateConfig, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	c := edge.CertificateConfig{Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem")}
	for path, block := range map[string]*pem.Block{
		c.Cert: {Type: "CERTIFICATE", Bytes: der}, c.Key: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c, cert
}

// shake makes a handshake over TCP or QUIC with the node, and returns what came
// of it.
func shake(t *testing.T, n *edgetest.Node, proto string, c *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	c = c.Clone()
	addr := n.Listeners.Addr().String()
	if proto == "h3" {
		c.NextProtos = []string{http3.NextProtoH3}
		conn, err := quic.DialAddr(t.Context(), addr, c, nil)
		if err != nil {
			return tls.ConnectionState{}, err
		}
		defer conn.CloseWithError(0, "")
		return conn.ConnectionState().TLS, nil
	}
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", addr, c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

var transports = []string{"h2", "h3"}

func TestHandshakeShowsTheCertificateForTheName(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	standard, _ := writeCertificate(t, edgetest.Host)
	other, _ := writeCertificate(t, "other.test", "*.wide.test")
	s.Config.TLS = edge.TLSConfig{Cert: standard.Cert, Key: standard.Key, Certificates: []edge.CertificateConfig{other}}
	n := s.Start(t)
	for _, proto := range transports {
		f := func(name, want string) {
			t.Helper()
			state, err := shake(t, n, proto, &tls.Config{ServerName: name, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := state.PeerCertificates[0].DNSNames[0]; got != want {
				t.Errorf("%s: asked for %q, shown %s, want %s", proto, name, got, want)
			}
		}
		f(edgetest.Host, edgetest.Host)
		f("other.test", "other.test")
		f("a.wide.test", "other.test")
		f("unknown.test", edgetest.Host)
		f("", edgetest.Host)
	}
}

// A recorded handshake must not be readable to those who build a quantum
// computer later.
func TestHandshakeIsPostQuantum(t *testing.T) {
	n := edgetest.New(http.HandlerFunc(echoProto)).Start(t)
	for _, proto := range transports {
		state, err := shake(t, n, proto, n.Client)
		if err != nil {
			t.Fatal(err)
		}
		if state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: key exchange %s", proto, state.CurveID)
		}
	}
}

// A visitor of one node resumes at another with the same secret, sends early
// data there, and is a stranger to one with another secret.
func TestHandshakeResumesAtTheOtherNode(t *testing.T) {
	files, _ := writeCertificate(t, edgetest.Host)
	start := func(secret string) *edgetest.Node {
		s := edgetest.New(http.HandlerFunc(echoProto))
		t.Setenv("SECRET", strings.Repeat(secret, 32))
		s.Config.TLS = edge.TLSConfig{Cert: files.Cert, Key: files.Key, Secret: "env:SECRET"}
		s.Config.State = t.TempDir()
		return s.Start(t)
	}
	a, b, stranger := start("a"), start("a"), start("b")
	for _, proto := range transports {
		t.Run(proto, func(t *testing.T) {
			tickets := &sessions{ClientSessionCache: tls.NewLRUClientSessionCache(4), put: make(chan struct{}, 8)}
			f := func(n *edgetest.Node, want bool) {
				t.Helper()
				n.Client.ClientSessionCache = tickets
				if got := resumes(t, n, proto); got != want {
					t.Errorf("resumed: %v, want %v", got, want)
				}
				tickets.wait()
			}
			f(a, false)
			f(b, true)
			f(a, true)
			f(stranger, false)
			f(b, false) // the ticket is the stranger's now
			if proto == "h2" {
				return
			}
			if !early(t, a) {
				t.Error("early data was refused by a node with the same secret")
			}
			f(stranger, false)
			if early(t, a) {
				t.Error("early data for a stranger was accepted")
			}
		})
	}
}

// wait returns when a ticket came.
func (c *sessions) wait() { <-c.put }

// resumes visits the node and reports whether that resumed a session. A ticket
// may be on its way then.
func resumes(t *testing.T, n *edgetest.Node, proto string) bool {
	t.Helper()
	if proto == "h2" {
		v := n.Visitor(t, proto)
		t.Cleanup(v.Close)
		resp := v.Get(t, "/") // the ticket comes with the answer
		read(t, resp)
		return resp.TLS.DidResume
	}
	c := n.Client.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddr(t.Context(), n.Listeners.Addr().String(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	return conn.ConnectionState().TLS.DidResume
}

// early offers early data and reports whether the node takes it. It sends none:
// quic-go opens streams of a client unguarded against the end of the handshake.
func early(t *testing.T, n *edgetest.Node) bool {
	t.Helper()
	c := n.Client.Clone()
	c.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddrEarly(t.Context(), n.Listeners.Addr().String(), c, &quic.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseWithError(0, "") })
	select {
	case <-conn.HandshakeComplete():
	case <-conn.Context().Done():
		t.Fatal(context.Cause(conn.Context()))
	}
	taken := conn.ConnectionState().Used0RTT
	if taken {
		n.Client.ClientSessionCache.(*sessions).wait()
	}
	return taken
}

// The address that a visitor has proved to one node is proved to the others: it
// is not asked again when they ask everybody.
func TestHandshakeTokensHoldAtTheOtherNode(t *testing.T) {
	f := func(secret string, asked bool) {
		t.Helper()
		tokens := quic.NewLRUTokenStore(1, 4)
		visit := func(n *edgetest.Node) {
			t.Helper()
			got := make(chan struct{}, 8)
			c := n.Client.Clone()
			c.NextProtos = []string{http3.NextProtoH3}
			conn, err := quic.DialAddr(t.Context(), n.Listeners.Addr().String(), c, &quic.Config{TokenStore: &watched{TokenStore: tokens, put: got}})
			if err != nil {
				t.Fatal(err)
			}
			<-got
			conn.CloseWithError(0, "")
		}
		s := edgetest.New(http.HandlerFunc(echoProto))
		s.Config.TLS.Secret = "env:SECRET"
		t.Setenv("SECRET", strings.Repeat("a", 32))
		visit(s.Start(t))
		t.Setenv("SECRET", strings.Repeat(secret, 32))
		s.Admit.HalfOpen = 1
		n := s.Start(t)
		for range 2 { // so that everybody is asked
			conn, err := net.Dial("tcp", n.Listeners.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		for n.Admit.State().HalfOpen < 2 {
			time.Sleep(time.Millisecond)
		}
		visit(n)
		if got := n.Admit.State().Retries; got > 0 != asked { // for each of two datagrams, perhaps
			t.Errorf("secret %s: %d Retries", secret, got)
		}
	}
	f("a", false)
	f("b", true)
}

// watched tells when a token came.
type watched struct {
	quic.TokenStore
	put chan struct{}
}

func (w *watched) Put(key string, token *quic.ClientToken) {
	w.TokenStore.Put(key, token)
	w.put <- struct{}{}
}

func TestHandshakeEncryptsTheName(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	hidden, cert := writeCertificate(t, edgetest.Host)
	cover, coverCert := writeCertificate(t, "cover.test")
	s.Config.State = t.TempDir()
	s.Config.TLS = edge.TLSConfig{
		Cert: cover.Cert, Key: cover.Key, Certificates: []edge.CertificateConfig{hidden},
		ECH: edge.ECHConfig{PublicName: "cover.test"},
	}
	var log logText
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	n := s.Start(t)
	if !strings.Contains(log.String(), n.Listeners.ECHConfigList()) {
		t.Errorf("the log does not say what to publish: %s", &log)
	}
	current := list(t, n)
	other := s
	other.Config.State = t.TempDir()
	stale := list(t, other.Start(t))
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	roots.AddCert(coverCert)

	for _, proto := range transports {
		t.Run(proto, func(t *testing.T) {
			c := &tls.Config{RootCAs: roots, ServerName: edgetest.Host, EncryptedClientHelloConfigList: current}
			f := func() {
				t.Helper()
				state, err := shake(t, n, proto, c)
				if err != nil {
					t.Fatal(err)
				}
				if !state.ECHAccepted || state.PeerCertificates[0].DNSNames[0] != edgetest.Host {
					t.Errorf("accepted %v, shown %v", state.ECHAccepted, state.PeerCertificates[0].DNSNames)
				}
			}
			f()
			c.EncryptedClientHelloConfigList = stale
			_, err := shake(t, n, proto, c)
			var rejected *tls.ECHRejectionError
			if !errors.As(err, &rejected) {
				t.Fatalf("with another node's key: %v", err)
			}
			c.EncryptedClientHelloConfigList = rejected.RetryConfigList
			f()
			// Who cannot encrypt is served all the same.
			plain := &tls.Config{RootCAs: roots, ServerName: edgetest.Host}
			if proto == "h2" {
				plain.MaxVersion = tls.VersionTLS12
			}
			if state, err := shake(t, n, proto, plain); err != nil || state.ECHAccepted {
				t.Errorf("without encryption: accepted %v, %v", state.ECHAccepted, err)
			}
		})
	}
}

// list is what the node publishes, as clients want it.
func list(t *testing.T, n *edgetest.Node) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(n.Listeners.ECHConfigList())
	if err != nil || len(b) == 0 {
		t.Fatalf("%q: %v", n.Listeners.ECHConfigList(), err)
	}
	return b
}

func TestHandshakeWarnsOfAnUncoveredPublicName(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Config.TLS.ECH.PublicName = "cover.test"
	var log logText
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	n := s.Start(t)
	if n.Listeners.ECHConfigList() == "" || !strings.Contains(log.String(), "no TLS certificate covers tls.ech.public_name") {
		t.Errorf("log: %s", &log)
	}
}

// logText holds what a node logs.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
