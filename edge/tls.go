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

// tlsPoll is how often the certificate's files and the age of the ticket key
// are looked at.
const tlsPoll = 5 * time.Second

// tlsState holds the TLS configurations that handshakes use. They are replaced
// as a whole: transports and listeners stay, and handshakes under way keep what
// they began with.
type tlsState struct {
	log  *slog.Logger
	keys *keys
	// limits names what a QUIC ticket promises; see keys.tickets.
	limits string

	current atomic.Pointer[tlsPair]

	mu    sync.Mutex
	certs *certs
}

// tlsPair is the configuration of one moment.
type tlsPair struct{ tcp, quic *tls.Config }

// newTLS loads the certificate and the keys.
func newTLS(c Config, hosts []string, log *slog.Logger) (*tlsState, error) {
	now := time.Now()
	k, err := openKeys(c.State, now)
	if err != nil {
		return nil, err
	}
	s := &tlsState{
		log:    log,
		keys:   k,
		limits: fmt.Sprintf("h3 header=%d streams=%d", c.Limits.HeaderBytes, c.Limits.Streams),
		certs:  &certs{log: log, state: c.State},
	}
	return s, s.load(c.TLS, hosts)
}

// load takes the certificate of a configuration into use, or fails and keeps
// the one in use.
func (s *tlsState) load(c TLSConfig, hosts []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.certs.load(c, hosts, time.Now()); err != nil {
		return err
	}
	return s.build()
}

// build puts new configurations in force.
func (s *tlsState) build() error {
	tcp, err := s.config("h2 h1", tls.VersionTLS12, "h2", "http/1.1")
	if err != nil {
		return err
	}
	quic, err := s.config(s.limits, tls.VersionTLS13, http3.NextProtoH3)
	if err != nil {
		return err
	}
	s.current.Store(&tlsPair{tcp: tcp, quic: quic})
	return nil
}

func (s *tlsState) config(purpose string, version uint16, protocols ...string) (*tls.Config, error) {
	tickets, err := s.keys.tickets(purpose)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{*s.certs.current},
		MinVersion:   version,
		NextProtos:   protocols,
	}
	c.SetSessionTicketKeys(tickets)
	return c, nil
}

// tcp returns the configuration for a new TCP connection.
func (s *tlsState) tcp() *tls.Config { return s.current.Load().tcp }

// quic returns a configuration that stays valid: it asks for the present one at
// each handshake. Keys set on a configuration after a listener has it would
// have no effect, because quic-go clones it.
func (s *tlsState) quic() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{http3.NextProtoH3},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().quic, nil
		},
	}
}

// leaf returns the certificate in use.
func (s *tlsState) leaf() *x509.Certificate {
	return s.current.Load().tcp.Certificates[0].Leaf
}

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
	if err != nil {
		s.log.Warn("the new TLS ticket key is in memory only, a restart will lose it", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if reloaded := s.certs.poll(now); !reloaded && !rotated {
		return
	}
	if err := s.build(); err != nil {
		s.log.Error("the TLS configuration stays as it was", "error", err)
	}
}
