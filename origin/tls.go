package origin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"
)

// Check reads the files and says which setting is wrong, and why; or "" and nil.
func (c TLSConfig) Check() (key string, err error) {
	_, _, key, err = c.read()
	return key, err
}

// read returns what the files hold, or which setting is wrong, and why.
func (c TLSConfig) read() (roots *x509.CertPool, cert *tls.Certificate, key string, err error) {
	switch {
	case c.Cert != "" && c.Key == "":
		return nil, nil, "cert", errors.New("its key is missing")
	case c.Key != "" && c.Cert == "":
		return nil, nil, "key", errors.New("its certificate is missing")
	}
	if c.CA != "" {
		if roots, err = readRoots(c.CA); err != nil {
			return nil, nil, "ca", err
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, nil, "cert", err
		}
		cert = &pair
	}
	return roots, cert, "", nil
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	return roots, nil
}

// credentials are the contents of the files of a TLSConfig. They are looked at
// for each handshake, which costs far more than that, and read again when they
// have changed. Files that do not pass then change nothing.
type credentials struct {
	config TLSConfig
	log    *slog.Logger

	mu     sync.Mutex
	seen   [3]stamp       // of the files as they were looked at last
	failed bool           // they did not pass then
	roots  *x509.CertPool // nil means those of the system
	cert   *tls.Certificate
}

// A stamp tells two versions of a file apart.
type stamp struct {
	modified, changed time.Time // a move and a change of rights leave the first as it is
	size              int64
	file              uint64 // its inode
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if path == "" || err != nil {
		return stamp{}
	}
	s := stamp{modified: info.ModTime(), size: info.Size()}
	if system, ok := info.Sys().(*syscall.Stat_t); ok {
		s.changed, s.file = time.Unix(system.Ctim.Unix()), system.Ino
	}
	return s
}

func (c TLSConfig) stamps() [3]stamp {
	return [3]stamp{stampOf(c.CA), stampOf(c.Cert), stampOf(c.Key)}
}

func newCredentials(c TLSConfig, log *slog.Logger) (*credentials, error) {
	k := &credentials{config: c, log: log, seen: c.stamps()}
	var key string
	var err error
	if k.roots, k.cert, key, err = c.read(); err != nil {
		return nil, fmt.Errorf("tls.%s: %w", key, err)
	}
	return k, nil
}

// current returns what the files hold now, or held when they last passed. As long
// as they do not pass they are read each time, whatever their stamps say, and it
// complains once about a version.
func (k *credentials) current() (*x509.CertPool, *tls.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.config.stamps()
	if now == k.seen && !k.failed {
		return k.roots, k.cert
	}
	roots, cert, _, err := k.config.read()
	if err == nil {
		k.roots, k.cert = roots, cert
	} else if now != k.seen || !k.failed {
		k.log.Warn("origin's tls files do not pass, those read before stay in use", "error", err.Error())
	}
	k.seen, k.failed = now, err != nil
	return k.roots, k.cert
}

// clientConfig returns the settings of one handshake with the server called
// host, which may be an address.
func (k *credentials) clientConfig(host string, protocols []string) *tls.Config {
	roots, cert := k.current()
	c := &tls.Config{NextProtos: protocols, ServerName: host, RootCAs: roots}
	if k.config.ServerName != "" {
		c.ServerName = k.config.ServerName
	}
	if cert != nil {
		// Shown whatever authorities the server names: it has one to show or none.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	return c
}
