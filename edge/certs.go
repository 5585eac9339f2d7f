package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// certs holds the certificates in use and knows where they came from.
type certs struct {
	log   *slog.Logger
	state string
	hosts []string

	// What follows is guarded by tlsState.mu.
	refused atomic.Uint64 // changed files that did not load; may be read at any time
	pairs   []*certPair   // the default one first
	rsaSaid bool
}

// A certPair is a certificate in use, and its files if it has any.
type certPair struct {
	from  CertificateConfig
	stamp [2]fileStamp
	cert  *tls.Certificate
	// mourned is when the log last told that it has expired.
	mourned time.Time
}

// fileStamp tells whether a file was changed or replaced.
type fileStamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	s := fileStamp{modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

func (c CertificateConfig) stamp() [2]fileStamp {
	return [2]fileStamp{stampOf(c.Cert), stampOf(c.Key)}
}

// load takes the certificates that the configuration names into use. On an
// error those in use stay.
func (c *certs) load(from TLSConfig, hosts []string, now time.Time) error {
	var pairs []*certPair
	if from.SelfSigned && from.Cert == "" {
		cert, err := selfSigned(c.state, hosts, now)
		if err != nil {
			return err
		}
		pairs = append(pairs, &certPair{cert: cert})
	}
	for _, files := range from.Pairs() {
		p := &certPair{from: files}
		if err := p.read(now); err != nil {
			return err
		}
		pairs = append(pairs, p)
	}
	if len(pairs) == 0 {
		return errors.New("tls: no certificate: set cert and key, or self_signed: true for tests")
	}
	c.pairs, c.hosts = pairs, hosts
	for _, p := range pairs {
		c.judge(p.cert.Leaf, now)
	}
	c.judgeAll()
	return nil
}

// read loads the pair's files. The files are stamped first: a change in between
// is then seen by the next poll. On an error the certificate stays.
func (p *certPair) read(now time.Time) error {
	p.stamp = p.from.stamp()
	cert, err := loadCertificate(p.from, now)
	if err == nil {
		p.cert = cert
	}
	return err
}

// A FileError says what is wrong with a file that a setting names, and what to
// do about it.
type FileError struct {
	File, Problem, Remedy string
}

// Error implements error.
func (e *FileError) Error() string {
	return fmt.Sprintf("tls: %s: %s: %s", e.File, e.Problem, e.Remedy)
}

// loadCertificate reads a certificate that is good for visitors now.
func loadCertificate(c CertificateConfig, now time.Time) (*tls.Certificate, error) {
	for _, file := range []struct{ path, setting, what string }{
		{c.Cert, "cert", "the certificate's chain"}, {c.Key, "key", "the certificate's key"},
	} {
		if file.path == "" {
			return nil, &FileError{"certificate", "no " + file.setting, "set cert and key, or self_signed: true for tests"}
		}
		if _, err := os.ReadFile(file.path); err != nil {
			return nil, &FileError{file.path, errors.Unwrap(err).Error(), unreadable(err, file.what)}
		}
	}
	cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	switch {
	case err != nil && strings.Contains(err.Error(), "does not match"):
		return nil, &FileError{
			c.Key, "this key does not match the certificate in " + c.Cert,
			"give the key that the certificate was issued for; the node's own certificate must stand first in its file",
		}
	case err != nil && (strings.Contains(err.Error(), "certificate input") || strings.HasPrefix(err.Error(), "x509")):
		return nil, &FileError{c.Cert, plain(err), "give the certificate as PEM, followed by those of its chain"}
	case err != nil:
		return nil, &FileError{c.Key, plain(err), "give the certificate's key as PEM, without a password"}
	case now.After(cert.Leaf.NotAfter):
		return nil, &FileError{c.Cert, "the certificate expired on " + cert.Leaf.NotAfter.UTC().Format(time.DateOnly), "renew it"}
	}
	return &cert, nil
}

// plain is the text of an error of crypto/tls, without its prefix.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "tls: ") }

// unreadable says what to do about a file that cannot be read.
func unreadable(err error, what string) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "put " + what + " there, or correct the name"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that the node runs as read it"
	}
	return "name a file that can be read"
}

// judge says what an operator should know about a certificate that works.
func (c *certs) judge(leaf *x509.Certificate, now time.Time) {
	if now.Before(leaf.NotBefore) {
		c.log.Warn("the TLS certificate is not valid yet", "names", leaf.DNSNames, "from", leaf.NotBefore)
	}
}

// judgeAll says what an operator should know about all certificates together: once that
// visitors are shown one with an RSA key, and which hosts of sites none is for.
func (c *certs) judgeAll() {
	var leaves []*x509.Certificate
	for _, p := range c.pairs {
		leaves = append(leaves, p.cert.Leaf)
	}
	if slow := ShownRSA(leaves); len(slow) > 0 && !c.rsaSaid {
		c.rsaSaid = true
		c.log.Warn("a TLS certificate has an RSA key: "+RSACost, "names", slow[0].DNSNames)
	}
	for _, host := range c.hosts {
		if host != defaultHost && !c.covers(host) {
			c.log.Warn("no TLS certificate covers a host: its visitors are shown the default one, which they refuse", "host", host)
		}
	}
}

// covers reports whether a certificate is good for a name or an address, or for
// all of *.name.
func (c *certs) covers(host string) bool {
	return slices.ContainsFunc(c.pairs, func(p *certPair) bool {
		return p.cert.Leaf.VerifyHostname(host) == nil ||
			strings.HasPrefix(host, "*.") && slices.Contains(p.cert.Leaf.DNSNames, host)
	})
}

// defaultHost is the word that stands for every other host of a site.
const defaultHost = "default"

// poll loads again the certificates whose files have changed, and reports
// whether it took a new one. A file that does not load is complained of once
// per change.
func (c *certs) poll(now time.Time) bool {
	changed := false
	for _, p := range c.pairs {
		if p.from.Cert == "" || p.stamp == p.from.stamp() {
			continue
		}
		if err := p.read(now); err != nil {
			c.refused.Add(1)
			c.log.Warn("the changed TLS certificate does not load, the old one stays", "error", err, "expires", p.cert.Leaf.NotAfter)
			continue
		}
		changed = true
		c.judge(p.cert.Leaf, now)
		c.log.Info("TLS certificate reloaded", "names", p.cert.Leaf.DNSNames, "expires", p.cert.Leaf.NotAfter)
	}
	if changed {
		c.judgeAll()
	}
	return changed
}

// mournEvery is how often the log tells of a certificate that has expired.
const mournEvery = 24 * time.Hour

// mourn says which certificates in use have expired. They stay: some visitors
// come all the same, and none would come to a node without any.
func (c *certs) mourn(now time.Time) {
	for _, p := range c.pairs {
		// Round takes the monotonic clock away, which stands still with the machine.
		if leaf := p.cert.Leaf; now.After(leaf.NotAfter) && now.Round(0).Sub(p.mourned).Abs() >= mournEvery {
			p.mourned = now.Round(0)
			c.log.Error("a TLS certificate in use has expired, browsers refuse it: renew it, the node takes the new file by itself",
				"file", p.from.Cert, "names", leaf.DNSNames, "expired", leaf.NotAfter)
		}
	}
}

// expiry is when the first certificate expires.
func (c *certs) expiry() time.Time {
	first := c.pairs[0].cert.Leaf.NotAfter
	for _, p := range c.pairs[1:] {
		if t := p.cert.Leaf.NotAfter; t.Before(first) {
			first = t
		}
	}
	return first
}

// The life of a self-signed certificate, and what must be left of it at start.
// Browsers refuse more than 825 days.
const (
	selfSignedLife = 800 * 24 * time.Hour
	selfSignedLeft = 30 * 24 * time.Hour
)

// selfSigned returns the certificate kept in the folder, or makes one for the
// hosts and keeps it, so that those who pinned or imported it need not do so
// again after each start.
func selfSigned(folder string, hosts []string, now time.Time) (*tls.Certificate, error) {
	names, addrs := subjects(hosts)
	path := filepath.Join(folder, "self-signed.pem")
	if folder != "" {
		cert, err := tls.LoadX509KeyPair(path, path)
		if err == nil && slices.Equal(cert.Leaf.DNSNames, names) && slices.EqualFunc(cert.Leaf.IPAddresses, addrs, net.IP.Equal) &&
			now.Add(selfSignedLeft).Before(cert.Leaf.NotAfter) {
			return &cert, nil
		}
	}
	text, err := makeCertificate(names, addrs, now)
	if err != nil {
		return nil, fmt.Errorf("tls: make self-signed certificate: %w", err)
	}
	if folder != "" {
		if err := writeSecret(path, text); err != nil {
			return nil, fmt.Errorf("tls: keep self-signed certificate: %w", err)
		}
	}
	cert, err := tls.X509KeyPair(text, text)
	if err != nil {
		return nil, fmt.Errorf("tls: make self-signed certificate: %w", err)
	}
	return &cert, nil
}

// subjects sorts the hosts into names and addresses, which a certificate must
// keep apart (RFC 5280 section 4.2.1.6).
func subjects(hosts []string) (names []string, addrs []net.IP) {
	names, addrs = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, h := range hosts {
		ip := net.ParseIP(strings.Trim(h, "[]"))
		switch {
		case h == defaultHost:
		case ip == nil && !slices.Contains(names, h):
			names = append(names, h)
		case ip != nil && !slices.ContainsFunc(addrs, ip.Equal):
			addrs = append(addrs, ip)
		}
	}
	return names, addrs
}

// makeCertificate returns a certificate and its key as PEM. P-256 is what
// signs fastest and every client knows.
func makeCertificate(names []string, addrs []net.IP, now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Spillway self-signed"},
		DNSNames:              names,
		IPAddresses:           addrs,
		NotBefore:             now.Add(-time.Hour), // clocks differ
		NotAfter:              now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true, // so that it can be imported as its own root
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}
