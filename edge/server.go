// Package edge is what visitors meet: the listeners of HTTP/3, HTTP/2 and
// HTTP/1.1, the one path that every request takes, and its responses.
//
// The path is ServeHTTP in handle.go, a step after the other: route, admission,
// cache, collapsing, and the ladder (ladder.go) of places where a request may
// run. Every request ends in exactly one outcome of the vocabulary; respond.go
// is the only file that writes a response.
//
// It fails cheaply: what nothing can serve is refused at once with Retry-After,
// and an answer that breaks off is aborted, never ended as if it were whole. It
// decides nothing that others own: admission is edge/admit's, freshness
// edge/cache's, the choice of a place edge/overflow's.
package edge

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"spillway/edge/admit"
	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/recorder"
	"spillway/edge/waiting"
	"spillway/origin"
	"spillway/origin/limit"
)

// A Server answers requests: it is the http.Handler behind all listeners. It is
// safe for concurrent use. New starts nothing; Run does the background work.
type Server struct {
	log      *slog.Logger
	cache    *cache.Cache
	admit    *admit.Controller
	access   *accessLog
	clients  *logClient // of all that is noted of requests
	recorder *recorder.Recorder
	counts   *counts
	lottery  lottery
	inFlight atomic.Int64
	kept     atomic.Int64 // bytes of request bodies in memory
	settings atomic.Pointer[settings]
	reload   sync.Mutex
	classes  classes      // guarded by reload
	rooms    rooms        // guarded by reload
	purses   purses       // guarded by reload
	tallies  cacheTallies // guarded by reload
	drill    *drill
	// renderings are of the hits that were answered last.
	renderings renderings
	// keys sign the tickets of waiting rooms.
	keys atomic.Pointer[func() [][32]byte]
}

// settings are what a reload replaces as a whole.
type settings struct {
	sites   *sites
	proxies []netip.Prefix
	expose  string
	// maxBody bounds one request's body, buffer those in memory.
	maxBody, buffer int64
	tunnel          time.Duration // without a byte
	errorPages      errorPages
	priorityField   string // canonical; empty: nobody is asked
	purgers         []netip.Prefix
	showTags        bool
}

// NewServer returns a Server for the given configuration. Metrics are
// registered with set.
func NewServer(c Config, s []SiteConfig, origins map[string]origin.Config, b Backends,
	ca *cache.Cache, ad *admit.Controller, set *metrics.Set, log *slog.Logger,
) (*Server, error) {
	access, err := openAccessLog(c.Log, log)
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	server := &Server{
		log: log, cache: ca, admit: ad, access: access, counts: newCounts(set), lottery: newLottery(), classes: classes{}, purses: purses{}, tallies: cacheTallies{}, drill: newDrill(log),
	}
	server.clients, server.recorder = &logClient{mode: c.Log.Client}, recorder.New(recorder.Config{Folder: recorderFolder(c), Log: log})
	if access != nil {
		server.clients = access.client // so that both know a visitor by one hash
	}
	server.rooms = rooms{keys: server.ticketKeys, all: map[string]*room{}}
	own := [][32]byte{[32]byte(randomKey())}
	server.SignTickets(func() [][32]byte { return own })
	set.NewGauge("spillway_requests_in_flight", func() float64 { return float64(server.inFlight.Load()) })
	set.NewGauge("spillway_overflow_buffer_bytes", func() float64 { return float64(server.kept.Load()) })
	set.RegisterMetricsWriter(func(w io.Writer) {
		metrics.WriteCounterUint64(w, "spillway_access_log_lost_total", server.access.losses())
	})
	apply, err := server.Prepare(c, s, origins, b)
	if err != nil {
		return nil, err
	}
	apply()
	return server, nil
}

// Prepare makes what a new configuration needs, and changes nothing that a visitor
// sees. The returned function puts it in force and cannot fail. Requests in flight
// keep the one that they began with.
func (s *Server) Prepare(c Config, sc []SiteConfig, origins map[string]origin.Config, b Backends) (apply func(), err error) {
	s.reload.Lock()
	defer s.reload.Unlock()
	compiled, err := newSites(sc, origins, b, s.classes, s.rooms, s.purses, s.tallies)
	if err != nil {
		return nil, err
	}
	compiled.keepProofs(s.settings.Load(), s.drill)
	next := &settings{sites: compiled, expose: c.Expose, maxBody: c.Limits.BodyBytes, buffer: c.Overflow.Buffer, tunnel: c.Timeouts.Tunnel}
	if next.errorPages, err = newErrorPages(c.ErrorPages); err != nil {
		return nil, err
	}
	if next.proxies, err = parsePrefixes("trusted_proxies", c.TrustedProxies); err != nil {
		return nil, err
	}
	purging := s.cache.Purging()
	if next.purgers, err = parsePrefixes("cache.purge.from", purging.From); err != nil {
		return nil, err
	}
	next.showTags = purging.ShowTags
	next.priorityField = http.CanonicalHeaderKey(c.PriorityHeader)
	return func() { s.settings.Store(next) }, nil
}

// Classes returns the limiter's class of each route of an origin, by the methods
// and the path that the route matches. Unsafe methods have the next class. It is
// safe for concurrent use.
func (s *Server) Classes(origin string) map[string]limit.Class {
	s.reload.Lock()
	defer s.reload.Unlock()
	return maps.Clone(s.classes[origin])
}

// parsePrefixes reads a setting that is a list of addresses and prefixes.
func parsePrefixes(setting string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range texts {
		prefix, err := parsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
		all = append(all, prefix)
	}
	return all, nil
}

// parsePrefix accepts an address as the prefix that holds it alone. What is
// written as IPv6 and holds IPv4 becomes that, as the addresses of peers do.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = plainAddr(a)
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if mapped := 128 - 32; p.Addr().Is4In6() && p.Bits() >= mapped {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p, err
}

// SignTickets lets keys sign the tickets of waiting rooms; the first signs, all are
// believed. Without it they are signed by a key that a restart forgets. It is
// called before the first request.
func (s *Server) SignTickets(keys func() [][32]byte) { s.keys.Store(&keys) }

func (s *Server) ticketKeys() [][32]byte { return (*s.keys.Load())() }

// Waiting returns the waiting rooms by the names of their origins.
func (s *Server) Waiting() map[string]waiting.State {
	s.reload.Lock()
	defer s.reload.Unlock()
	return s.rooms.state()
}

// Run does the background work until ctx ends: it writes the access log.
func (s *Server) Run(ctx context.Context) error { return s.access.run(ctx) }

// Outcomes returns how many requests ended in each outcome since the start.
func (s *Server) Outcomes() map[outcome.Outcome]uint64 { return s.counts.outcomes() }

// InFlight returns the number of requests that are being answered.
func (s *Server) InFlight() int64 { return s.inFlight.Load() }
