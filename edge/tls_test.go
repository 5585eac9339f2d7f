package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair puts a certificate and its key into a folder, and moves the files'
// times so that a change shows whatever the file system's clock is.
func writePair(t testing.TB, folder string, until time.Time, rsaKey bool, names ...string) TLSConfig {
	t.Helper()
	if names == nil {
		names = []string{"edge.test"}
	}
	var public, private any
	if rsaKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		public, private = &k.PublicKey, k
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, private = &k.PublicKey, k
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial,
		DNSNames:     names,
		NotBefore:    until.Add(-1000 * time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	c := TLSConfig{Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem")}
	replace(t, c.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	replace(t, c.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	return c
}

func replace(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := writeSecret(path, b); err != nil {
		t.Fatal(err)
	}
}

func newTestTLS(t *testing.T, c TLSConfig) (*tlsState, *bytes.Buffer, error) {
	t.Helper()
	var log bytes.Buffer
	s, err := newTLS(Config{TLS: c}, []string{"edge.test"}, slog.New(slog.NewTextHandler(&log, nil)))
	return s, &log, err
}

func TestTLSRefusesToStart(t *testing.T) {
	f := func(want string, c TLSConfig) {
		t.Helper()
		if _, _, err := newTestTLS(t, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
	good := writePair(t, t.TempDir(), time.Now().Add(time.Hour), false)
	other := writePair(t, t.TempDir(), time.Now().Add(time.Hour), false)
	expired := writePair(t, t.TempDir(), time.Now().Add(-time.Hour), false)
	f(expired.Cert+": the certificate expired on", expired)
	f(": renew it", expired)
	f("missing.pem: no such file or directory: put the certificate's chain there, or correct the name", TLSConfig{Cert: "missing.pem", Key: good.Key})
	f("missing.pem: no such file or directory: put the certificate's key there", TLSConfig{Cert: good.Cert, Key: "missing.pem"})
	f(other.Key+": this key does not match the certificate in "+good.Cert+": give the key that", TLSConfig{Cert: good.Cert, Key: other.Key})
	f("give the certificate as PEM", TLSConfig{Cert: good.Key, Key: good.Key})
	f("give the certificate's key as PEM", TLSConfig{Cert: good.Cert, Key: good.Cert})
	f("set cert and key, or self_signed", TLSConfig{})
	f("set cert and key, or self_signed", TLSConfig{Cert: good.Cert})
	f("the certificate expired on", TLSConfig{Cert: good.Cert, Key: good.Key, Certificates: expired.Pairs()})
}

func TestTLSFollowsItsFiles(t *testing.T) {
	folder := t.TempDir()
	c := writePair(t, folder, time.Now().Add(100*time.Hour), false)
	s, log, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	first := s.leaf().SerialNumber
	s.refresh(time.Now())
	if s.leaf().SerialNumber.Cmp(first) != 0 || log.Len() != 0 {
		t.Errorf("something happened without a change: %s", log)
	}

	writePair(t, folder, time.Now().Add(200*time.Hour), false)
	s.refresh(time.Now())
	second := s.leaf().SerialNumber
	if second.Cmp(first) == 0 || !strings.Contains(log.String(), "certificate reloaded") {
		t.Errorf("the new certificate is not in use: %s", log)
	}

	log.Reset()
	replace(t, c.Cert, []byte("broken"))
	s.refresh(time.Now())
	s.refresh(time.Now())
	if s.leaf().SerialNumber.Cmp(second) != 0 {
		t.Error("the old certificate is not in use")
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1: %s", n, log)
	}

	log.Reset()
	writePair(t, folder, time.Now().Add(-time.Hour), false)
	s.refresh(time.Now())
	if s.leaf().SerialNumber.Cmp(second) != 0 || !strings.Contains(log.String(), "expired on") {
		t.Errorf("an expired certificate is in use: %s", log)
	}

	writePair(t, folder, time.Now().Add(300*time.Hour), false)
	s.refresh(time.Now())
	if s.leaf().SerialNumber.Cmp(second) == 0 {
		t.Error("the repaired certificate is not in use")
	}
}

// Of several certificates each follows its own files, and a broken one costs
// the others nothing.
func TestTLSFollowsTheFilesOfEach(t *testing.T) {
	until := time.Now().Add(100 * time.Hour)
	folder := t.TempDir()
	c := writePair(t, t.TempDir(), until, false)
	c.Certificates = writePair(t, folder, until, false, "a.test").Pairs()
	s, log, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	first := shown(t, s, "edge.test")
	a := shown(t, s, "a.test")
	if a == first {
		t.Fatal("both names have one certificate")
	}
	replace(t, c.Certificates[0].Key, []byte("broken"))
	s.refresh(time.Now())
	s.refresh(time.Now())
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || shown(t, s, "a.test") != a {
		t.Errorf("%d warnings, want 1, or the old certificate is gone: %s", n, log)
	}
	writePair(t, folder, until, false, "a.test")
	s.refresh(time.Now())
	if shown(t, s, "a.test") == a || shown(t, s, "edge.test") != first {
		t.Error("not the changed certificate was replaced")
	}
}

// shown returns the number of the certificate that a visitor is shown.
func shown(t *testing.T, s *tlsState, name string) string {
	t.Helper()
	cert, err := s.tcp().GetCertificate(hello(name, true))
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.String()
}

func TestTLSReloadKeepsTheOldOnError(t *testing.T) {
	s, _, err := newTestTLS(t, writePair(t, t.TempDir(), time.Now().Add(time.Hour), false))
	if err != nil {
		t.Fatal(err)
	}
	before := s.current.Load()
	if err := s.load(TLSConfig{Cert: "missing", Key: "missing"}, nil); err == nil {
		t.Fatal("no error")
	}
	if s.current.Load() != before {
		t.Error("the configuration changed")
	}
	if err := s.load(TLSConfig{SelfSigned: true}, nil); err != nil || s.current.Load() == before {
		t.Errorf("the configuration did not change: %v", err)
	}
}

// A node is silent about an RSA key where `spillway check` is: where others are shown for all
// of its names, not only where one has the same.
func TestTLSWarnsOfRSAThatIsShown(t *testing.T) {
	until := time.Now().Add(time.Hour)
	c := writePair(t, t.TempDir(), until, true, "edge.test", "other.test")
	for _, name := range []string{"edge.test", "other.test"} {
		c.Certificates = append(c.Certificates, writePair(t, t.TempDir(), until, false, name).Pairs()...)
	}
	_, log, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if got := log.String(); strings.Contains(got, "RSA") {
		t.Errorf("warned: %s", got)
	}
}

func TestTLSWarnings(t *testing.T) {
	folder := t.TempDir()
	c := writePair(t, folder, time.Now().Add(time.Hour), true)
	s, log, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, folder, time.Now().Add(2*time.Hour), true)
	s.refresh(time.Now())
	if n := strings.Count(log.String(), "RSA"); n != 1 {
		t.Errorf("%d warnings about RSA, want 1: %s", n, log)
	}
	s.certs.hosts = []string{"edge.test", "other.test", defaultHost}
	log.Reset()
	s.certs.judge(s.leaf(), time.Now().Add(-2000*time.Hour))
	s.certs.judgeAll()
	if got := log.String(); strings.Count(got, "level=WARN") != 2 || !strings.Contains(got, "other.test") || !strings.Contains(got, "not valid yet") {
		t.Errorf("warnings: %s", got)
	}
}

// A certificate that expires while the node runs stays in use. The log tells of it
// once a day, whatever the clock does.
func TestTLSGoesOnWithAnExpiredCertificate(t *testing.T) {
	folder := t.TempDir()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	c := writePair(t, folder, end, false)
	c.Certificates = writePair(t, t.TempDir(), end.Add(time.Hour), false, "a.test").Pairs()
	s, log, err := newTestTLS(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.current.Load().expiry; !got.Equal(end) {
		t.Errorf("expiry %v, want %v", got, end)
	}
	first := shown(t, s, "edge.test")
	f := func(at time.Time, want int) {
		t.Helper()
		log.Reset()
		s.refresh(at)
		if n := strings.Count(log.String(), "level=ERROR"); n != want || shown(t, s, "edge.test") != first {
			t.Errorf("%d errors, want %d, or the certificate is gone: %s", n, want, log)
		}
	}
	f(end, 0)
	f(end.Add(time.Second), 1)
	f(end.Add(time.Minute), 0)
	f(end.Add(2*time.Hour), 1) // the other one
	f(end.Add(mournEvery), 0)
	f(end.Add(mournEvery+time.Second), 1)
	f(end.Add(100*mournEvery), 2)
	f(end.Add(50*mournEvery), 2) // set back
	f(end.Add(-time.Minute), 0)

	writePair(t, folder, end.Add(1000*time.Hour), false)
	s.refresh(end.Add(time.Minute))
	if got := s.current.Load().expiry; !got.Equal(end.Add(time.Hour)) {
		t.Errorf("expiry %v after the renewal, want %v", got, end.Add(time.Hour))
	}
}

// A renewal that puts the key there before the certificate is complained of once,
// and completes when the certificate has come.
func TestTLSFilesThatChangeOneAfterTheOther(t *testing.T) {
	folder, next := t.TempDir(), t.TempDir()
	s, log, err := newTestTLS(t, writePair(t, folder, time.Now().Add(time.Hour), false))
	if err != nil {
		t.Fatal(err)
	}
	first := s.leaf().SerialNumber
	renewed := writePair(t, next, time.Now().Add(2*time.Hour), false)
	move := func(from, to string) {
		if err := os.Rename(from, filepath.Join(folder, to)); err != nil {
			t.Fatal(err)
		}
		s.refresh(time.Now())
		s.refresh(time.Now())
	}
	move(renewed.Key, "key.pem")
	if s.leaf().SerialNumber.Cmp(first) != 0 || strings.Count(log.String(), "level=WARN") != 1 || s.certs.refused.Load() != 1 {
		t.Errorf("with the key alone: %s", log)
	}
	log.Reset()
	move(renewed.Cert, "cert.pem")
	if s.leaf().SerialNumber.Cmp(first) == 0 || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("with both: %s", log)
	}
}

// An address among the hosts is one in the certificate too: clients compare it
// with nothing else.
func TestTLSCertificateForAddresses(t *testing.T) {
	hosts := []string{"192.0.2.7", "2001:db8::7", "127.0.0.1", "a.test"}
	c := &certs{log: slog.New(slog.DiscardHandler), state: t.TempDir()}
	if err := c.load(TLSConfig{SelfSigned: true}, hosts, day0); err != nil {
		t.Fatal(err)
	}
	leaf := c.pairs[0].cert.Leaf
	for _, h := range hosts {
		if err := leaf.VerifyHostname(h); err != nil || !c.covers(h) {
			t.Errorf("%s: covered %v, %v", h, c.covers(h), err)
		}
	}
	if got := strings.Join(leaf.DNSNames, " "); got != "localhost a.test" {
		t.Errorf("names: %s", got)
	}
	if c.covers("192.0.2.8") {
		t.Error("another address is covered")
	}
	again, err := selfSigned(c.state, hosts, day0)
	if err != nil || !again.Leaf.Equal(leaf) {
		t.Errorf("another certificate for the same hosts, %v", err)
	}
	if fewer, err := selfSigned(c.state, hosts[1:], day0); err != nil || fewer.Leaf.VerifyHostname(hosts[0]) == nil {
		t.Errorf("the certificate is for an address that is gone, %v", err)
	}
	// An address that stands among the names is no use to anybody.
	wrong := writePair(t, t.TempDir(), day0.Add(time.Hour), false, "192.0.2.7")
	if err := c.load(wrong, nil, day0); err != nil || c.covers("192.0.2.7") {
		t.Errorf("covered by a name: %v, %v", c.covers("192.0.2.7"), err)
	}
}

func TestTLSSelfSignedIsStable(t *testing.T) {
	folder := t.TempDir()
	f := func(now time.Time, hosts ...string) *x509.Certificate {
		t.Helper()
		c, err := selfSigned(folder, hosts, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range append(hosts, "localhost", "127.0.0.1") {
			if h != defaultHost && !strings.HasPrefix(h, "*") {
				if err := c.Leaf.VerifyHostname(h); err != nil {
					t.Error(err)
				}
			}
		}
		if _, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok {
			t.Errorf("key is %T", c.PrivateKey)
		}
		return c.Leaf
	}
	first := f(day0, "a.test", defaultHost)
	if !f(day0.Add(100*24*time.Hour), "a.test", defaultHost).Equal(first) {
		t.Error("another certificate for the same hosts")
	}
	wider := f(day0, "a.test", "*.b.test")
	if wider.Equal(first) || wider.VerifyHostname("x.b.test") != nil {
		t.Error("no certificate for the new hosts")
	}
	if f(day0.Add(selfSignedLife), "a.test", "*.b.test").Equal(wider) {
		t.Error("a certificate that is about to expire was kept")
	}
	info, err := os.Stat(filepath.Join(folder, "self-signed.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
