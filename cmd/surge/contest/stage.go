package contest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"spillway/cmd/surge/contest/foreign"
	"spillway/cmd/surge/contest/load"
	"spillway/cmd/surge/functions"
	"spillway/cmd/surge/origin"
	"spillway/cmd/surge/wan"
)

// A stage is everything of one run but the crowd. The origin, the functions and the
// network are in this process; the contender is a process of its own, so that its
// CPU time can be told.
type stage struct {
	ctx  context.Context
	dir  string
	plan *plan
	seed uint64

	origin       *origin.Origin
	functions    *functions.Emulator
	originURL    string
	functionsURL string
	edge         *edgeProcess
	address      string // where the crowd connects
	alone        string // where those connect who are alone on their connection
	roots        *x509.CertPool

	mu     sync.Mutex
	visits []origin.Visit
	spills []spill

	running sync.WaitGroup
	stop    []func()
}

// A spill is a call of a function.
type spill struct {
	number int64 // of the request; negative for calls that are nobody's
	at     time.Time
}

// raise puts up the stage. It must be lowered, also after an error.
func raise(ctx context.Context, dir string, p *plan, seed uint64, c Contender) (*stage, error) {
	s := &stage{ctx: ctx, dir: dir, plan: p, seed: seed}
	return s, s.build(c)
}

func (s *stage) build(c Contender) (err error) {
	if err = s.makeCertificate(); err != nil {
		return err
	}
	if err = s.startOrigin(); err != nil {
		return err
	}
	if err = s.startFunctions(); err != nil {
		return err
	}
	return s.startEdge(c)
}

func (s *stage) startOrigin() (err error) {
	if name := s.plan.scenario.Foreign; name != "" {
		o, err := foreign.Start(s.ctx, name)
		if err != nil {
			return err
		}
		s.originURL = o.URL
		s.stop = append(s.stop, func() { o.Stop() })
		return nil
	}
	c := s.plan.scenario.Origin
	c.Seed = s.seed
	c.Visited = func(v origin.Visit) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.visits = append(s.visits, v)
	}
	if s.origin, err = origin.New(c); err != nil {
		return err
	}
	s.originURL, err = s.serve(place("origin", s.origin))
	return err
}

// startFunctions starts a platform as overload control meets it: 60 ms a call, half
// a second for a cold start, Lambda's ramp, cap and prices.
func (s *stage) startFunctions() (err error) {
	s.functions, err = functions.New(functions.Config{
		Platform: functions.Lambda, Service: 60 * time.Millisecond, CV: .36,
		ColdStart: 500 * time.Millisecond, ColdCV: .36, Body: max(s.plan.scenario.Origin.Body, 1<<10), Seed: s.seed,
	})
	if err != nil {
		return err
	}
	counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.ParseInt(r.URL.Query().Get("draw"), 10, 64)
		if err != nil {
			number = -1
		}
		s.mu.Lock()
		s.spills = append(s.spills, spill{number, time.Now()})
		s.mu.Unlock()
		s.functions.ServeHTTP(w, r)
	})
	s.functionsURL, err = s.serve(place("function", counted))
	return err
}

// place makes the answers of a backend say whose they are.
func place(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(load.PlaceHeader, name)
		h.ServeHTTP(w, r)
	})
}

// serve runs a backend of this process.
func (s *stage) serve(h http.Handler) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	s.running.Go(func() { server.Serve(l) })
	s.stop = append(s.stop, func() { server.Close() })
	return "http://" + l.Addr().String(), nil
}

func (s *stage) startEdge(c Contender) (err error) {
	s.edge, err = c.start(s)
	if s.edge != nil { // also one that never said where it listens
		s.stop = append(s.stop, s.edge.Stop)
	}
	if err != nil {
		return err
	}
	if err := s.edge.Await(s.ctx, s.shakesHands); err != nil {
		return err
	}
	s.address, s.alone = s.edge.address, s.edge.address
	n := s.plan.scenario.Network
	if n == nil {
		return nil
	}
	if n.RTT > 0 {
		if s.address, err = s.relay(wan.Config{RTT: n.RTT, Loss: n.Loss}); err != nil {
			return err
		}
	}
	s.alone, err = s.relay(wan.Config{RTT: n.RTT, Loss: n.Loss, Rate: n.SlowRate})
	return err
}

// relay puts a network in front of the edge.
func (s *stage) relay(c wan.Config) (string, error) {
	c.Listen, c.To, c.Seed = "127.0.0.1:0", s.edge.address, s.seed
	r, err := wan.New(c)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.running.Go(func() { r.Run(ctx) })
	s.stop = append(s.stop, cancel)
	return r.Addr().String(), nil
}

// shakesHands reports whether the edge takes connections.
func (s *stage) shakesHands() bool {
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: s.roots, ServerName: "localhost", NextProtos: []string{"h2"}}}
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Second)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", s.edge.address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// lower ends everything, the contender first.
func (s *stage) lower() {
	for i := len(s.stop) - 1; i >= 0; i-- {
		s.stop[i]()
	}
	s.running.Wait()
}

// act makes an event happen.
func (s *stage) act(e Event) error {
	var c origin.Change
	if e.Slots > 0 {
		c.Slots = &e.Slots
	}
	if e.Speed > 0 {
		c.Speed = &e.Speed
	}
	c.Dead = e.Dead
	return errors.Join(s.origin.Control(c), s.functions.Control(functions.Change{Throttle: e.Throttle}))
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) write(name, content string) (string, error) {
	return s.path(name), os.WriteFile(s.path(name), []byte(content), 0o600)
}

// listen opens a port that a contender inherits as a file.
func (s *stage) listen() (f *os.File, address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	defer l.Close() // the file is a duplicate
	f, err = l.(*net.TCPListener).File()
	return f, l.Addr().String(), err
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

// makeCertificate writes a certificate for localhost, its key, and both in one file
// as HAProxy wants them.
func (s *stage) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	s.roots = x509.NewCertPool()
	s.roots.AppendCertsFromPEM([]byte(certPEM))
	for name, content := range map[string]string{"cert.pem": certPEM, "key.pem": keyPEM, "both.pem": certPEM + keyPEM} {
		if _, err := s.write(name, content); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	return nil
}
