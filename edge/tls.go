package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// tlsPoll is how often the files of certificates and keys and the age of the
// ticket key are looked at.
const tlsPoll = 5 * time.Second

// tlsState holds the TLS configurations that handshakes use. They are replaced
// as a whole: transports and listeners stay, and handshakes under way keep what
// they began with.
type tlsState struct {
	log  *slog.Logger
	keys *keys
	// limits names what a QUIC ticket promises; see keys.tickets.
	limits string

	current   atomic.Pointer[tlsPair]
	newcomers precedence

	mu    sync.Mutex
	certs *certs
	ech   *echKeys // nil when it is off

	saving trouble // of run alone
}

// tlsPair is the configuration of one moment.
type tlsPair struct {
	tcp, quic *tls.Config
	leaf      *x509.Certificate // of the default certificate
	expiry    time.Time         // of the certificate that expires first
	ech       []tls.EncryptedClientHelloKey
	waiting   [][32]byte // sign the tickets of waiting rooms
}

// newTLS loads the certificates and the keys.
func newTLS(c Config, hosts []string, log *slog.Logger) (*tlsState, error) {
	k, err := loadKeys(c, time.Now())
	if err != nil {
		return nil, err
	}
	s := &tlsState{
		log:    log,
		keys:   k,
		limits: fmt.Sprintf("h3 header=%d streams=%d", c.Limits.HeaderBytes, c.Limits.Streams),
		certs:  &certs{log: log, state: c.State},
	}
	if s.ech, err = openECH(c.TLS.ECH, c.State, log); err != nil {
		return nil, err
	}
	if err := s.load(c.TLS, hosts); err != nil {
		return nil, err
	}
	if s.ech != nil {
		s.ech.announce()
	}
	return s, nil
}

// load takes the certificates and the secret of a configuration into use, or
// fails and keeps those in use.
func (s *tlsState) load(c TLSConfig, hosts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	secret, err := ReadSecret(c.Secret)
	if err != nil {
		return err
	}
	if err := s.certs.load(c, hosts, now); err != nil {
		return err
	}
	if s.ech != nil && !s.certs.covers(s.ech.name) {
		s.log.Warn("no TLS certificate covers tls.ech.public_name: browsers whose record is old cannot get the new one",
			"public_name", s.ech.name)
	}
	if secret != nil {
		if err := s.keys.replaceSecret(secret, now); err != nil {
			return err
		}
	}
	return s.build()
}

// build puts new configurations in force.
func (s *tlsState) build() error {
	pick := newSelection(s.certs.pairs).pick
	tcp, err := s.config(pick, "h2 h1", tls.VersionTLS12, "h2", "http/1.1")
	if err != nil {
		return err
	}
	tcp.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		s.newcomers.giveWay()
		return nil, nil // stay with this one
	}
	quic, err := s.config(pick, s.limits, tls.VersionTLS13, http3.NextProtoH3)
	if err != nil {
		return err
	}
	waiting, err := s.keys.tickets("waiting room")
	if err != nil {
		return err
	}
	s.current.Store(&tlsPair{
		waiting: waiting,
		tcp:     tcp, quic: quic, leaf: s.certs.pairs[0].cert.Leaf, expiry: s.certs.expiry(), ech: s.ech.accepted(),
	})
	return nil
}

// A picker chooses the certificate for a visitor, as tls.Config.GetCertificate
// does.
type picker func(*tls.ClientHelloInfo) (*tls.Certificate, error)

func (s *tlsState) config(pick picker, purpose string, version uint16, protocols ...string) (*tls.Config, error) {
	tickets, err := s.keys.tickets(purpose)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		GetCertificate:           pick,
		MinVersion:               version,
		NextProtos:               protocols,
		EncryptedClientHelloKeys: s.ech.accepted(),
	}
	c.SetSessionTicketKeys(tickets)
	return c, nil
}

// tcp returns the configuration for a new TCP connection.
func (s *tlsState) tcp() *tls.Config { return s.current.Load().tcp }

// quic returns a configuration that stays valid: it asks for the present one at
// each handshake. Keys set on a configuration after a listener has it would
// have no effect, because quic-go clones it. A client hello is decrypted before
// the present one is asked for, so that this one must know those keys.
func (s *tlsState) quic() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{http3.NextProtoH3},
		GetEncryptedClientHelloKeys: func(*tls.ClientHelloInfo) ([]tls.EncryptedClientHelloKey, error) {
			return s.current.Load().ech, nil
		},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			s.newcomers.giveWay()
			return s.current.Load().quic, nil
		},
	}
}

// leaf returns the default certificate in use.
func (s *tlsState) leaf() *x509.Certificate { return s.current.Load().leaf }

// run follows the files and rotates the ticket key until ctx ends.
func (s *tlsState) run(ctx context.Context) {
	tick := time.NewTicker(tlsPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.refresh(time.Now())
		}
	}
}

func (s *tlsState) refresh(now time.Time) {
	rotated, err := s.keys.rotate(now)
	switch {
	case err != nil:
		if s.saving.meet(now) {
			s.log.Warn("the new TLS ticket key is in memory only, a restart will lose it", "error", err)
		}
	case s.saving.pass(now):
		s.log.Info("the TLS ticket key is kept on disk again")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	reloaded, rekeyed := s.certs.poll(now), s.ech.poll()
	s.certs.mourn(now)
	if !reloaded && !rekeyed && !rotated {
		return
	}
	if err := s.build(); err != nil {
		s.log.Error("the TLS configuration stays as it was", "error", err)
	}
}
