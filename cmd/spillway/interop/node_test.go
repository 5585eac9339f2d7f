package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"spillway/edge/admin"
)

// A node is the program, running in front of an origin.
type node struct {
	addr  string // host:port, of all protocols
	port  string
	url   string // of localhost, by which the certificate knows it
	dir   string
	log   string // the access log
	admin *admin.Client
	roots *x509.CertPool
	ca    string // PEM file
	spki  string // SHA-256 of the certificate's key, in base64
	// process is the one that serves, as far as the test knows.
	process *os.Process
	said    *lockedBuffer // by all of its processes
	ended   chan struct{} // closed when they have ended
	exit    error         // how the first of them did, then
}

// settings of a node that are not the same in all tests.
type settings struct {
	server  string // the origin's
	listen  string // instead of some port of 127.0.0.1
	more    string // YAML at the top level
	program string // instead of the one with the race detector
	origin  string // YAML behind the origin's servers, such as ", timeout: 1s"
	route   string // YAML behind the route's origin
}

// startNode starts a node. A connection to the origin may take a minute: in the 2 s that
// it has by itself, of a machine that stands still, the origin would count as down.
func startNode(t *testing.T, s settings) *node {
	t.Helper()
	n := &node{dir: t.TempDir(), said: new(lockedBuffer), ended: make(chan struct{})}
	n.log = filepath.Join(n.dir, "access.log")
	n.certify(t)
	file := filepath.Join(n.dir, "spillway.yaml")
	text := strings.NewReplacer("DIR", n.dir, "LISTEN", cmp.Or(s.listen, "127.0.0.1:0"), "SERVER", s.server, "MORE", s.more, "ORIGIN", s.origin, "ROUTE", s.route).Replace(`
listen: "LISTEN"
http: off
admin: unix:DIR/a.sock
state: DIR/state
expose: full
log: {access: DIR/access.log}
tls: {cert: DIR/cert.pem, key: DIR/key.pem}
origins: {app: {servers: ["SERVER"], connect_timeout: 1mORIGIN}}
sites: [{hosts: [default], routes: [{origin: appROUTE}]}]
MORE
`)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(cmp.Or(s.program, spillway), "run", "--config", file)
	cmd.Stderr = n.said // which its successors have, too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.process = cmd.Process
	go func() {
		defer close(n.ended)
		n.exit = cmd.Wait()
	}()
	t.Cleanup(func() { n.stop(t) })
	n.admin = admin.NewClient(n.adminAddr())
	n.awaitReady(t)
	return n
}

func (n *node) adminAddr() string { return "unix:" + filepath.Join(n.dir, "a.sock") }

// follow returns the process that serves now, which is the one to stop. During a
// hand-over either may answer.
func (n *node) follow(t *testing.T) (pid int) {
	t.Helper()
	var state struct {
		PID int `json:"pid"`
	}
	if err := n.admin.Status(t.Context(), &state); err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(state.PID)
	if err != nil {
		t.Fatal(err)
	}
	n.process = process
	return state.PID
}

// stop ends the program as an operator does. A race or a panic that it met in
// its life fails the test.
func (n *node) stop(t *testing.T) {
	n.process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
		if n.exit != nil {
			t.Errorf("the node ended with %v", n.exit)
		}
	case <-time.After(time.Minute):
		t.Error("the node does not end")
		n.process.Kill()
	}
	text := n.said.String()
	for _, bad := range []string{"DATA RACE", "panic"} {
		if strings.Contains(text, bad) {
			t.Errorf("the node says:\n%s", text)
			return
		}
	}
}

func (n *node) awaitReady(t *testing.T) {
	t.Helper()
	for {
		if _, err := n.admin.Get(t.Context(), "/readyz"); err == nil {
			break
		}
		select {
		case <-n.ended:
			t.Fatalf("the node does not start: %v\n%s", n.exit, n.said.String())
		case <-t.Context().Done():
			t.Fatal("the node is never ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
	var state struct {
		Listeners []string `json:"listeners"`
	}
	if err := n.admin.Status(t.Context(), &state); err != nil {
		t.Fatal(err)
	}
	n.addr = state.Listeners[0]
	_, port, err := net.SplitHostPort(n.addr)
	if err != nil {
		t.Fatalf("no port in %v: %v", state.Listeners, err)
	}
	n.port, n.url = port, "https://localhost:"+port
}

// certify makes an authority, and a certificate for localhost.
func (n *node) certify(t *testing.T) {
	t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "interop"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	authorityKey, leafKey := newKey(t), newKey(t)
	root := sign(t, authority, authority, authorityKey, authorityKey)
	cert := sign(t, leaf, root, leafKey, authorityKey)
	der, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	n.ca = filepath.Join(n.dir, "ca.pem")
	writePEM(t, n.ca, "CERTIFICATE", root.Raw)
	writePEM(t, filepath.Join(n.dir, "cert.pem"), "CERTIFICATE", cert.Raw)
	writePEM(t, filepath.Join(n.dir, "key.pem"), "PRIVATE KEY", der)
	n.roots = x509.NewCertPool()
	n.roots.AddCert(root)
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	n.spki = base64.StdEncoding.EncodeToString(sum[:])
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, c, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (n *node) tls(protocols ...string) *tls.Config {
	return &tls.Config{RootCAs: n.roots, ServerName: "localhost", NextProtos: protocols}
}

// dial opens a connection over QUIC, and tries again when there was no answer in time, as
// visitors do, for a minute: the node gives a handshake up of which it hears nothing for
// 3 s, without a word (RFC 9000 section 10.1), and a machine may stand still for as long.
func dial(ctx context.Context, addr string, t *tls.Config, c *quic.Config) (*quic.Conn, error) {
	for end := time.Now().Add(time.Minute); ; {
		conn, err := quic.DialAddr(ctx, addr, t, c)
		idle, late := (*quic.IdleTimeoutError)(nil), (*quic.HandshakeTimeoutError)(nil)
		if ctx.Err() != nil || time.Now().After(end) || !errors.As(err, &idle) && !errors.As(err, &late) {
			return conn, err
		}
	}
}

// metric returns the sum of a metric over its labels.
func (n *node) metric(t *testing.T, name string) float64 {
	t.Helper()
	return n.metricOf(t, name, "")
}

// metricOf returns the sum of a metric over those of its labels that have one.
func (n *node) metricOf(t *testing.T, name, label string) float64 {
	t.Helper()
	body, err := n.admin.Get(context.Background(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for line := range strings.Lines(string(body)) {
		metric, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if base, labels, _ := strings.Cut(metric, "{"); base != name || !strings.Contains(labels, label) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}

// hits is how many requests were answered from the cache.
func (n *node) hits(t *testing.T) float64 {
	t.Helper()
	return n.metricOf(t, "spillway_requests_total", `outcome="hit"`)
}

// patience is how long a test waits for what must come, browsers on a busy machine among it.
const patience = 2 * time.Minute

// await waits until a condition holds, and says what it waited for otherwise.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// atRest waits until no request is in flight.
func (n *node) atRest(t *testing.T) {
	t.Helper()
	await(t, "no request is in flight", func() bool { return n.metric(t, "spillway_requests_in_flight") == 0 })
}

// logged reads the access log once it has as many lines as the node counts
// requests.
func (n *node) logged(t *testing.T) []logLine {
	t.Helper()
	n.atRest(t)
	want := int(n.metric(t, "spillway_requests_total"))
	var lines []logLine
	await(t, fmt.Sprintf("the access log has %d lines", want), func() bool {
		lines = readLog(t, n.log)
		return len(lines) >= want
	})
	return lines
}

type logLine struct {
	Client  string `json:"client"`
	Proto   string `json:"proto"`
	Path    string `json:"path"`
	Status  int    `json:"status"`
	Bytes   int64  `json:"bytes"`
	Outcome string `json:"outcome"`
}

func readLog(t *testing.T, file string) []logLine {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1] // the last line may still be coming
	var lines []logLine
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		var line logLine
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		lines = append(lines, line)
	}
	return lines
}

// countLines is how many whole lines a file has.
func countLines(t *testing.T, file string) float64 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for buf := make([]byte, 1<<20); ; {
		n, err := f.Read(buf)
		lines += bytes.Count(buf[:n], []byte("\n"))
		if err != nil {
			return float64(lines)
		}
	}
}

// A lockedBuffer takes what a program writes while a test may read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns what was written so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
