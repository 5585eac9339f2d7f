package edge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// certs holds the certificate in use and knows where it came from.
type certs struct {
	log   *slog.Logger
	state string
	hosts []string

	// What follows is guarded by tlsState.mu.
	from    TLSConfig
	stamp   [2]fileStamp
	current *tls.Certificate
	rsaSaid bool
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

// load takes the certificate that the configuration names into use. On an error
// the one in use stays.
func (c *certs) load(from TLSConfig, hosts []string, now time.Time) error {
	cert, stamp, err := c.obtain(from, hosts, now)
	if err != nil {
		return err
	}
	c.hosts = hosts
	c.judge(cert.Leaf, now)
	c.from, c.stamp, c.current = from, stamp, cert
	return nil
}

func (c *certs) obtain(from TLSConfig, hosts []string, now time.Time) (*tls.Certificate, [2]fileStamp, error) {
	switch {
	case from.SelfSigned && from.Cert == "":
		cert, err := selfSigned(c.state, hosts, now)
		return cert, [2]fileStamp{}, err
	case from.Cert == "" || from.Key == "":
		return nil, [2]fileStamp{}, errors.New("tls: no certificate: set cert and key, or self_signed: true for tests")
	}
	// Stamped before reading: a change in between is then seen by the next poll.
	stamp := [2]fileStamp{stampOf(from.Cert), stampOf(from.Key)}
	cert, err := tls.LoadX509KeyPair(from.Cert, from.Key)
	if err != nil {
		return nil, stamp, fmt.Errorf("tls: load certificate: %w", err)
	}
	if now.After(cert.Leaf.NotAfter) {
		return nil, stamp, fmt.Errorf("tls: the certificate in %s expired on %s: renew it", from.Cert, cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &cert, stamp, nil
}

// judge says what an operator should know about a certificate that works.
func (c *certs) judge(leaf *x509.Certificate, now time.Time) {
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok && !c.rsaSaid {
		c.rsaSaid = true
		c.log.Warn("the TLS certificate has an RSA key: each new visitor costs about 0.8 ms more CPU than with ECDSA P-256")
	}
	if now.Before(leaf.NotBefore) {
		c.log.Warn("the TLS certificate is not valid yet", "from", leaf.NotBefore)
	}
	for _, host := range c.hosts {
		if host != defaultHost && leaf.VerifyHostname(host) != nil && !slices.Contains(leaf.DNSNames, host) {
			c.log.Warn("the TLS certificate does not cover a host", "host", host)
		}
	}
}

// defaultHost is the word that stands for every other host of a site.
const defaultHost = "default"

// poll loads the certificate again if its files have changed, and reports
// whether it took a new one. A file that does not load is complained of once
// per change.
func (c *certs) poll(now time.Time) bool {
	if c.from.Cert == "" || c.stamp == [2]fileStamp{stampOf(c.from.Cert), stampOf(c.from.Key)} {
		return false
	}
	cert, stamp, err := c.obtain(c.from, c.hosts, now)
	c.stamp = stamp
	if err != nil {
		c.log.Warn("the changed TLS certificate does not load, the old one stays", "error", err, "expires", c.current.Leaf.NotAfter)
		return false
	}
	c.judge(cert.Leaf, now)
	c.current = cert
	c.log.Info("TLS certificate reloaded", "expires", cert.Leaf.NotAfter)
	return true
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
	names := []string{"localhost"}
	for _, h := range hosts {
		if h != defaultHost && !slices.Contains(names, h) {
			names = append(names, h)
		}
	}
	path := filepath.Join(folder, "self-signed.pem")
	if folder != "" {
		if cert, err := tls.LoadX509KeyPair(path, path); err == nil &&
			slices.Equal(cert.Leaf.DNSNames, names) && now.Add(selfSignedLeft).Before(cert.Leaf.NotAfter) {
			return &cert, nil
		}
	}
	text, err := makeCertificate(names, now)
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

// makeCertificate returns a certificate and its key as PEM. P-256 is what
// signs fastest and every client knows.
func makeCertificate(names []string, now time.Time) ([]byte, error) {
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
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
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
