package origin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Check reads the files and says which setting is wrong, and why; or "" and nil.
func (c TLSConfig) Check() (key string, err error) {
	switch {
	case c.Cert != "" && c.Key == "":
		return "cert", errors.New("its key is missing")
	case c.Key != "" && c.Cert == "":
		return "key", errors.New("its certificate is missing")
	}
	if c.CA != "" {
		if _, err := readRoots(c.CA); err != nil {
			return "ca", err
		}
	}
	if c.Cert != "" {
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			return "cert", err
		}
	}
	return "", nil
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

	mu    sync.Mutex
	seen  [3]stamp
	roots *x509.CertPool // nil means those of the system
	cert  *tls.Certificate
}

// A stamp tells two versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if path == "" || err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

func newCredentials(c TLSConfig, log *slog.Logger) (*credentials, error) {
	if key, err := c.Check(); err != nil {
		return nil, fmt.Errorf("tls.%s: %w", key, err)
	}
	k := &credentials{config: c, log: log}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k, k.read()
}

// current returns what the files hold now, or held when they last passed.
func (k *credentials) current() (*x509.CertPool, *tls.Certificate) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.read(); err != nil {
		k.log.Warn("origin's tls files do not pass, those read before stay in use", "error", err.Error())
	}
	return k.roots, k.cert
}

// read reads the files if they changed. It complains once about a version.
func (k *credentials) read() error {
	now := [3]stamp{stampOf(k.config.CA), stampOf(k.config.Cert), stampOf(k.config.Key)}
	if now == k.seen {
		return nil
	}
	k.seen = now
	roots, cert := (*x509.CertPool)(nil), (*tls.Certificate)(nil)
	if k.config.CA != "" {
		var err error
		if roots, err = readRoots(k.config.CA); err != nil {
			return err
		}
	}
	if k.config.Cert != "" {
		pair, err := tls.LoadX509KeyPair(k.config.Cert, k.config.Key)
		if err != nil {
			return err
		}
		cert = &pair
	}
	k.roots, k.cert = roots, cert
	return nil
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
