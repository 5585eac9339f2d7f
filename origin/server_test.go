package origin

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/origin/limit"
)

// echoes says how it was asked, and turns a connection into an echo.
var echoes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "" {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, r.Header.Get("Connection")+" "+line)
		return
	}
	fmt.Fprintf(w, "%s %s", r.Proto, r.Host)
})

// serverOf starts a server of the kind that a scheme asks for and returns its
// address.
func serverOf(t testing.TB, scheme string, handler http.Handler) (address string, config Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	switch scheme {
	case "https":
		server.EnableHTTP2 = true
		server.StartTLS()
		return server.URL, Config{Host: "example.com", TLS: trust(t, server)}
	case "h2c":
		server.Config.Protocols = protocols((*http.Protocols).SetUnencryptedHTTP2)
		server.Start()
		return "h2c://" + server.Listener.Addr().String(), Config{}
	case "unix":
		path := filepath.Join(t.TempDir(), "app.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server.Listener.Close()
		server.Listener = l
		server.Start()
		return "unix:" + path, Config{}
	}
	server.Start()
	return server.URL, Config{}
}

func bodyOf(t testing.TB, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestSchemes: servers of every kind answer, alone and beside each other, and
// probes reach them.
func TestSchemes(t *testing.T) {
	mixed := Config{Host: "example.com"}
	for scheme, proto := range map[string]string{"http": "HTTP/1.1", "https": "HTTP/2.0", "h2c": "HTTP/2.0", "unix": "HTTP/1.1"} {
		t.Run(scheme, func(t *testing.T) {
			server, c := serverOf(t, scheme, echoes)
			c.Servers, c.Health = []string{server}, HealthConfig{Path: "/"}
			o := newOrigin(t, c)
			for range 3 {
				resp, err := o.ask(t)
				if got := bodyOf(t, resp, err); got != proto+" example.com" {
					t.Errorf("got %q", got)
				}
			}
			if err := o.pool.all()[0].probe(t.Context()); err != nil {
				t.Error(err)
			}
			if s := o.State(); s.OK != 3 || s.Servers[0].URL != server || s.Servers[0].Requests != 3 {
				t.Errorf("%+v", s)
			}
			o.checkRest(t)
		})
		server, c := serverOf(t, scheme, echoes)
		mixed.Servers = append(mixed.Servers, server)
		if c.TLS.CA != "" {
			mixed.TLS = c.TLS
		}
	}
	o := newOrigin(t, mixed)
	for range 100 {
		resp, err := o.ask(t)
		bodyOf(t, resp, err)
	}
	for _, s := range o.State().Servers {
		if s.Requests == 0 || s.Failures > 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestHTTP2Off(t *testing.T) {
	server, c := serverOf(t, "https", echoes)
	c.Servers, c.HTTP2 = []string{server}, "off"
	o := newOrigin(t, c)
	resp, err := o.ask(t)
	if got := bodyOf(t, resp, err); got != "HTTP/1.1 example.com" {
		t.Errorf("got %q", got)
	}
}

// switchOver asks a server for its connection.
func (o *Origin) switchOver(t testing.TB) (*http.Response, error) {
	t.Helper()
	out := Outgoing(t.Context(), get(t, "/"), visitor, nil)
	out.Header.Set("Connection", "Upgrade")
	out.Header.Set("Upgrade", "echo")
	return o.Do(out, o.acquire(t))
}

// TestUpgradeAnywhere: an upgrade goes over HTTP/1.1 whatever else the server offers,
// and past servers that have nothing else.
func TestUpgradeAnywhere(t *testing.T) {
	h2c, _ := serverOf(t, "h2c", echoes)
	for _, scheme := range []string{"http", "https", "unix"} {
		t.Run(scheme, func(t *testing.T) {
			server, c := serverOf(t, scheme, echoes)
			c.Servers = []string{h2c, server}
			o := newOrigin(t, c)
			resp, err := o.ask(t) // may leave an HTTP/2 connection behind
			bodyOf(t, resp, err)
			for range 10 {
				resp, err := o.switchOver(t)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "echo" {
					t.Fatalf("%d %v", resp.StatusCode, resp.Header)
				}
				tunnel := resp.Body.(io.ReadWriteCloser)
				io.WriteString(tunnel, "hello\n")
				if line, _ := bufio.NewReader(tunnel).ReadString('\n'); line != "Upgrade hello\n" {
					t.Errorf("got %q", line)
				}
				tunnel.Close()
			}
			o.checkRest(t)
		})
	}
	t.Run("h2c", func(t *testing.T) {
		o := newOrigin(t, Config{Servers: []string{h2c}})
		_, err := o.switchOver(t)
		checkFailure(t, err, outcome.OriginFailed, false)
		checkResult(t, o, limit.Cancel)
		o.checkRest(t)
	})
}

// TestUpgradeWithTheLast: the only server that can take an upgrade takes it also
// while it drains, and as its trial when its breaker is open.
func TestUpgradeWithTheLast(t *testing.T) {
	h2c, _ := serverOf(t, "h2c", echoes)
	server, _ := serverOf(t, "http", echoes)
	o := newOrigin(t, Config{Servers: []string{h2c, server}})
	f := func(when string) {
		t.Helper()
		resp, err := o.switchOver(t)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		resp.Body.Close()
	}
	if err := o.Drain(server, true); err != nil {
		t.Fatal(err)
	}
	f("drained")
	o.Drain(server, false)
	s := o.pool.named(server)
	o.pool.mu.Lock()
	s.trialAt.Store(1)
	o.pool.rebuild()
	o.pool.mu.Unlock()
	f("on trial")
	if s.trialAt.Load() != 0 {
		t.Error("the breaker is open after a trial that went well")
	}
	o.checkRest(t)
}

// An authority signs certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.cert = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true}, a.key)
	return a
}

func (a *authority) sign(what *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	what.SerialNumber = big.NewInt(time.Now().UnixNano())
	what.NotBefore, what.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent := a.cert
	if parent == nil {
		parent = what
	}
	der, err := x509.CreateCertificate(rand.Reader, what, parent, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

// issue writes a certificate for a name and its key.
func (a *authority) issue(name, certPath, keyPath string) tls.Certificate {
	a.t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	cert := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, certPath, "CERTIFICATE", cert.Raw)
	writePEM(a.t, keyPath, "PRIVATE KEY", der)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// TestMutualTLS: the server proves its name by a private authority, the node
// shows its certificate, and both are read again when the files change. Files
// that do not pass then are no reason to stop.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "node.pem"), filepath.Join(dir, "node.key")
	first, second := newAuthority(t), newAuthority(t)
	serve := func(by *authority) (address string) {
		clients := x509.NewCertPool()
		clients.AddCert(by.cert)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.TLS.ServerName+" "+r.TLS.PeerCertificates[0].Subject.CommonName)
		}))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = &tls.Config{
			Certificates: []tls.Certificate{by.issue("app.internal", filepath.Join(dir, "s.pem"), filepath.Join(dir, "s.key"))},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: clients,
		}
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.URL
	}
	a, b := serve(first), serve(second)
	writePEM(t, ca, "CERTIFICATE", first.cert.Raw)
	first.issue("node-1", cert, key)
	config := Config{Servers: []string{a}, Host: "example.com", TLS: TLSConfig{CA: ca, ServerName: "app.internal", Cert: cert, Key: key}}
	o := newOrigin(t, config)
	ask := func() string {
		t.Helper()
		resp, err := o.ask(t)
		return bodyOf(t, resp, err)
	}
	if got := ask(); got != "app.internal node-1" {
		t.Errorf("got %q", got)
	}

	// Each handshake takes what the files hold by then.
	o.retire()
	time.Sleep(20 * time.Millisecond) // many file systems keep times no finer than the kernel's tick
	first.issue("node-2", cert, key)
	if got := ask(); got != "app.internal node-2" {
		t.Errorf("got %q", got)
	}
	o.retire()
	os.WriteFile(cert, []byte("half a certi"), 0o600)
	if got := ask(); got != "app.internal node-2" {
		t.Errorf("with a broken file: got %q", got)
	}

	// A reload to a server of another authority, with its files in place.
	writePEM(t, ca, "CERTIFICATE", second.cert.Raw)
	second.issue("node-3", cert, key)
	config.Servers = []string{b}
	apply, err := o.Prepare(withDefaults(config))
	if err != nil {
		t.Fatal(err)
	}
	apply()
	if got := ask(); got != "app.internal node-3" {
		t.Errorf("got %q", got)
	}

	// The private authority is trusted instead of others: not the first any more.
	config.Servers = []string{a}
	_, err = newOrigin(t, config).ask(t)
	checkFailure(t, err, outcome.OriginDown, false)
	config.Servers, config.TLS.ServerName = []string{b}, ""
	_, err = newOrigin(t, config).ask(t) // Host is not in the certificate
	checkFailure(t, err, outcome.OriginDown, false)
}

// TestCredentialsChange: files of another content are noticed whatever their time
// and size say, and files that did not pass are tried again as they are.
func TestCredentialsChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ca.pem")
	var files [2][]byte
	for i := range files {
		writePEM(t, path, "CERTIFICATE", newAuthority(t).cert.Raw)
		files[i], _ = os.ReadFile(path)
	}
	size := max(len(files[0]), len(files[1]))
	put := func(content []byte) {
		t.Helper()
		content = append(bytes.Clone(content), bytes.Repeat([]byte("\n"), size-len(content))...)
		next := filepath.Join(dir, "next")
		if err := os.WriteFile(next, content, 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(next, time.Unix(1, 0), time.Unix(1, 0))
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(content []byte) *x509.CertPool {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(content)
		return pool
	}
	put(files[0])
	k, err := newCredentials(TLSConfig{CA: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	put(files[1])
	if roots, _ := k.current(); !roots.Equal(holds(files[1])) {
		t.Error("a file of the same time and size was not read")
	}
	put(files[0])
	k.seen, k.failed = k.config.stamps(), true // as if it could not be opened just now
	if roots, _ := k.current(); !roots.Equal(holds(files[0])) {
		t.Error("a file that did not pass once is not read again")
	}
	os.Remove(path)
	for range 2 {
		if roots, _ := k.current(); !roots.Equal(holds(files[0])) {
			t.Error("without the file others are trusted")
		}
	}
}

// TestTLSByAddress: the certificate of a server that is given by its address
// holds that.
func TestTLSByAddress(t *testing.T) {
	server, c := serverOf(t, "https", echoes) // its certificate is for 127.0.0.1 too
	c.Servers, c.Host = []string{server}, ""
	resp, err := newOrigin(t, c).ask(t)
	bodyOf(t, resp, err)
}

func TestTLSCheck(t *testing.T) {
	dir := t.TempDir()
	cert, key, text := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key"), filepath.Join(dir, "text")
	newAuthority(t).issue("a", cert, key)
	os.WriteFile(text, []byte("not PEM"), 0o600)
	f := func(c TLSConfig, key, problem string) {
		t.Helper()
		got, err := c.Check()
		if got != key || (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("%+v: %s: %v", c, got, err)
		}
	}
	f(TLSConfig{}, "", "")
	f(TLSConfig{CA: cert, Cert: cert, Key: key}, "", "")
	f(TLSConfig{CA: text}, "ca", "no certificate in PEM")
	f(TLSConfig{CA: filepath.Join(dir, "none")}, "ca", "no such file")
	f(TLSConfig{Cert: cert}, "cert", "key is missing")
	f(TLSConfig{Key: key}, "key", "certificate is missing")
	f(TLSConfig{Cert: text, Key: key}, "cert", "PEM")
	f(TLSConfig{Cert: cert, Key: cert}, "cert", "PEM")
	f(TLSConfig{Cert: dir, Key: dir}, "cert", "is a directory")
}
