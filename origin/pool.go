package origin

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A pool is the set of servers of one origin. A request goes to the less busy
// of two servers drawn at random: nearly as even as the least busy of all,
// without looking at all of them and without every node choosing the same one.
type pool struct {
	epoch time.Time
	log   *slog.Logger

	// servers lists all, and ready those that take requests. Both are replaced,
	// never changed.
	servers, ready atomic.Pointer[[]*server]
	// broken counts the servers with an open breaker whose probes, if any, find
	// them well.
	broken atomic.Int32
	// slowStart is how long a server is held to less than its share, in
	// nanoseconds.
	slowStart atomic.Int64

	mu sync.Mutex // serialises transitions
}

// A server is one member of a pool.
type server struct {
	address  address
	link     atomic.Pointer[link]
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
	// draining reports that an operator wants the server to get no requests, and
	// resting that it gets none, because there are others.
	draining, resting atomic.Bool
	// cold is since when the server has to come back slowly, in nanoseconds since
	// the pool's epoch: 0 once it takes its share.
	cold atomic.Int64

	// Guarded by pool.mu.
	failingSince time.Duration
	openings     int // how often the breaker opened in a row
	overdue      int // how many leases in a row gave no result
	closedAt     time.Duration
	probes       int // results in a row: successes above, failures below zero
}

func newPool(log *slog.Logger) *pool {
	p := &pool{epoch: time.Now(), log: log}
	p.replace(nil)
	return p
}

// all returns every server of the pool, ready or not.
func (p *pool) all() []*server { return *p.servers.Load() }

// named returns the server of the address, or nil.
func (p *pool) named(text string) *server {
	for _, s := range p.all() {
		if s.address.text == text {
			return s
		}
	}
	return nil
}

// replace makes servers those of the pool. What was known about one that stays
// still holds. The others begin slowly, unless all are new: then there is nobody
// to take the rest.
func (p *pool) replace(servers []*server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.servers.Load() // nil at first, when there are no servers to ask about
	stays := func(s *server) bool { return slices.Contains(*was, s) }
	if slices.ContainsFunc(servers, stays) {
		for _, s := range servers {
			if !stays(s) {
				p.cool(s)
			}
		}
	}
	p.servers.Store(&servers)
	p.rebuild()
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
		if s := p.trial(not, by, nil); s != nil {
			return s, true
		}
	}
	return p.lessBusy(ready, not), false
}

// pickUpgrade is pick for a request that wants the connection for itself, which
// h2c servers cannot give. Among the others it goes as in a pool of their own:
// one that drains still gets it when it is the last, and so does one on trial.
func (p *pool) pickUpgrade(not *server) (s *server, trial bool) {
	h2c := func(s *server) bool { return s.address.scheme == "h2c" }
	if !slices.ContainsFunc(p.all(), h2c) {
		return p.pick(not, false)
	}
	able := slices.DeleteFunc(slices.Clone(*p.ready.Load()), h2c)
	if len(able) > 0 {
		return p.lessBusy(able, not), false
	}
	spare, _ := p.well(true)
	if able = slices.DeleteFunc(spare, h2c); len(able) > 0 {
		return p.lessBusy(able, not), false
	}
	s = p.trial(not, p.now(), func(s *server) bool { return !h2c(s) })
	return s, s != nil
}

// lessBusy returns the less busy of two servers drawn at random, never not. A
// cold one is passed over for the other as often as it is cold.
func (p *pool) lessBusy(ready []*server, not *server) *server {
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
	case b == not || a == b:
		return a
	case a.cold.Load() != 0 && p.passOver(a):
		return b
	case b.cold.Load() != 0 && p.passOver(b), a.inFlight.Load() <= b.inFlight.Load():
		return a
	}
	return b
}

// up reports whether a request could go anywhere.
func (p *pool) up() bool {
	return len(*p.ready.Load()) > 0 || p.broken.Load() > 0 && p.trialDue()
}

// rebuild lists the servers that take requests. Those that drain are among them
// only when there are no others: a visitor's answer comes first. It is called
// with mu held.
func (p *pool) rebuild() {
	ready, broken := p.well(false)
	spare, brokenToo := p.well(true)
	if len(ready) == 0 {
		ready, broken = spare, brokenToo
	}
	for _, s := range p.all() {
		s.resting.Store(s.draining.Load() && !slices.Contains(ready, s) && len(ready) > 0)
	}
	p.ready.Store(&ready)
	p.broken.Store(broken)
}

// well lists the servers that could take requests, and counts those with an open
// breaker.
func (p *pool) well(draining bool) (ready []*server, broken int32) {
	ready = make([]*server, 0, len(p.all()))
	for _, s := range p.all() {
		switch {
		case s.sick.Load(), s.draining.Load() && !draining:
		case s.trialAt.Load() != 0:
			broken++
		default:
			ready = append(ready, s)
		}
	}
	return ready, broken
}
