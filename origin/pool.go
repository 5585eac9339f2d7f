package origin

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A pool is the set of servers of one origin. A request goes to the less busy
// of two servers drawn at random: nearly as even as the least busy of all,
// without looking at all of them and without every node choosing the same one.
type pool struct {
	servers []*server
	epoch   time.Time
	log     *slog.Logger

	// ready lists the servers that take requests. It is replaced, never changed.
	ready atomic.Pointer[[]*server]
	// broken counts the servers with an open breaker whose probes, if any, find
	// them well.
	broken atomic.Int32

	mu sync.Mutex // serialises transitions
}

// A server is one member of a pool.
type server struct {
	url      *url.URL
	inFlight atomic.Int64
	requests atomic.Uint64
	failures atomic.Uint64

	// streak counts the failures since the last success.
	streak atomic.Int32
	// trialAt is when an open breaker lets the next request through to try the
	// server, in nanoseconds since the pool's epoch: 0 while closed. While a trial
	// is under way (trying) it is the end of its lease. Both are written under
	// pool.mu.
	trialAt atomic.Int64
	trying  atomic.Bool
	// sick reports that the probes find the server down.
	sick atomic.Bool

	// Guarded by pool.mu.
	failingSince time.Duration
	openings     int // how often the breaker opened in a row
	overdue      int // how many leases in a row gave no result
	closedAt     time.Duration
	probes       int // results in a row: successes above, failures below zero
}

func newPool(servers []string, log *slog.Logger) (*pool, error) {
	p := &pool{epoch: time.Now(), log: log}
	for _, raw := range servers {
		u, err := parseServer(raw)
		if err != nil {
			return nil, err
		}
		p.servers = append(p.servers, &server{url: u})
	}
	if len(p.servers) == 0 {
		return nil, fmt.Errorf("servers: none given")
	}
	p.rebuild()
	return p, nil
}

func parseServer(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("parse server: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("server %q: want http://host:port or https://host:port", raw)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		return nil, fmt.Errorf("server %q: only scheme, host and port; paths are forwarded as they come", raw)
	}
	return u, nil
}

// now is the time since the pool was made, never zero.
func (p *pool) now() time.Duration { return time.Since(p.epoch) + 1 }

// pick returns the server for a request, or nil when there is none, and whether
// the request is the trial of an open breaker. While others are ready a brave
// request tries a server as soon as that is due, and any other only when no
// brave one has come for long; when there are no others, any request does. not
// is a server that just failed.
func (p *pool) pick(not *server, brave bool) (s *server, trial bool) {
	ready := *p.ready.Load()
	if p.broken.Load() > 0 {
		by := p.now()
		if !brave && len(ready) > 0 {
			by -= noBraveOne
		}
		if s := p.trial(not, by); s != nil {
			return s, true
		}
	}
	return lessBusy(ready, not), false
}

// lessBusy returns the less busy of two servers drawn at random, never not.
func lessBusy(ready []*server, not *server) *server {
	if len(ready) == 0 {
		return nil
	}
	i, j := 0, 0
	if n := len(ready); n > 1 {
		i, j = rand.IntN(n), rand.IntN(n-1)
		if j >= i {
			j++
		}
	}
	a, b := ready[i], ready[j]
	switch {
	case a == not && b == not:
		return nil
	case a == not:
		return b
	case b == not || a.inFlight.Load() <= b.inFlight.Load():
		return a
	}
	return b
}

// up reports whether a request could go anywhere.
func (p *pool) up() bool {
	return len(*p.ready.Load()) > 0 || p.broken.Load() > 0 && p.trialDue()
}

// rebuild lists the servers that take requests. It is called with mu held.
func (p *pool) rebuild() {
	ready, broken := make([]*server, 0, len(p.servers)), int32(0)
	for _, s := range p.servers {
		switch {
		case s.sick.Load():
		case s.trialAt.Load() != 0:
			broken++
		default:
			ready = append(ready, s)
		}
	}
	p.ready.Store(&ready)
	p.broken.Store(broken)
}
