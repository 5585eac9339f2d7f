package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A place is a node with its surroundings: the folder that all of its files are
// in, and its log.
type place struct {
	*node
	dir string
	log *journal
}

// A journal is a log that may be read while it is written.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// surroundings is the configuration of a place. Its folder stands for DIR.
const surroundings = `
listen: 127.0.0.1:0
http: off
admin: unix:DIR/a.sock
state: DIR/state
log: {access: DIR/access.log}
tls: {cert: DIR/cert.pem, key: DIR/key.pem}
origins:
  good: {servers: ["http://GOOD"]}
  bad: {servers: ["http://127.0.0.1:1"]}
functions: {f: {provider: process, socket: DIR/f.sock, function: f}}
sites:
  - hosts: [default]
    routes:
      - {match: {path: /spill}, origin: bad, overflow: {to: [f]}}
      - {origin: good, cache: false}
`

// prepare makes the surroundings of a node that is not there yet, and changes
// its configuration.
func prepare(t *testing.T, change ...string) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), log: &journal{}}
	p.certify(t, time.Hour)
	file := strings.NewReplacer(change...).Replace(surroundings)
	p.put(t, "spillway.yaml", strings.NewReplacer("DIR", p.dir, "GOOD", backend(t, say(answered))).Replace(file))
	return p
}

func (p *place) file(name string) string { return filepath.Join(p.dir, name) }

// put replaces a file as a whole.
func (p *place) put(t *testing.T, name, text string) {
	t.Helper()
	next := p.file(name + ".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, p.file(name)); err != nil {
		t.Fatal(err)
	}
}

// certify gives the node a certificate that lives for so long.
func (p *place) certify(t *testing.T, life time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{"edge.test"},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(life),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p.put(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	p.put(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// build makes the node, as the program does.
func (p *place) build() error {
	c, err := load(p.file("spillway.yaml"))
	if err == nil {
		p.node, err = build(c, p.file("spillway.yaml"), new(inheritance), slog.New(slog.NewTextHandler(p.log, nil)))
	}
	return err
}

// start runs the node until the test ends, which it must do without an error.
func (p *place) start(t *testing.T) {
	t.Helper()
	if err := p.build(); err != nil {
		t.Fatal(err)
	}
	signals, ended := make(chan os.Signal), make(chan error, 1)
	go func() { ended <- serve(t.Context(), p.node, p.node.log, signals) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil { // the test's context has ended
			t.Errorf("run: %v", err)
		}
	})
}

// await waits for what a fault is to lead to.
func (p *place) await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for range 6000 {
		if there() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never came: %s; the log is\n%s", what, p.log)
}

// awaitMetric waits for a metric of which a whole line matches.
func (p *place) awaitMetric(t *testing.T, line string) {
	t.Helper()
	want := regexp.MustCompile("(?m)^" + line + "$")
	p.await(t, line, func() bool {
		var metrics bytes.Buffer
		p.writeMetrics(&metrics)
		return want.Match(metrics.Bytes())
	})
}

// serves checks that the node answers a visitor.
func (p *place) serves(t *testing.T) {
	t.Helper()
	if status, _, body, err := visit(p.node, "/good"); status != 200 || body != "ok" {
		t.Errorf("%d %q (%v)", status, body, err)
	}
}

// told checks that the log tells something once.
func (p *place) told(t *testing.T, what string) {
	t.Helper()
	if got := p.log.String(); strings.Count(got, what) != 1 {
		t.Errorf("the log has not %q once:\n%s", what, got)
	}
}

// dialTLS opens a connection for HTTP/1.1.
func dialTLS(t *testing.T, address string) *tls.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return overTLS(t, c)
}

func overTLS(t *testing.T, c net.Conn) *tls.Conn {
	t.Helper()
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	t.Cleanup(func() { secure.Close() })
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return secure
}

// ask sends a request on a connection that stays open.
func ask(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: edge.test\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}
