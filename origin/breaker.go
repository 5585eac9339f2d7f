package origin

import (
	"math/rand/v2"
	"slices"
	"time"

	"spillway/origin/limit"
)

// Not knobs: five failures in a row are no accident at any rate, and at a low
// rate nobody should wait for the fifth.
const (
	streakToOpen  = 5
	failingToOpen = time.Second // of nothing but failures, at least two
	openFirst     = time.Second
	openMost      = 30 * time.Second
	// openLast is for a server while no other is well: all that waits for it waits
	// for the origin, and a trial costs one request.
	openLast = openFirst / 2
	// noBraveOne is how long a trial waits for a request that loses nothing by
	// it. An origin that gets none must have its servers back too.
	noBraveOne = openMost
)

// trial claims the trial of a server whose breaker should have let a request
// through at the time by, or before. The claim is a lease: how long the request
// takes may be up to its client, and a server must not stay out for that. Whoever
// gets it calls succeeded, failed or undecided. Only servers that are fit count,
// with nil all.
func (p *pool) trial(not *server, by time.Duration, fit func(*server) bool) *server {
	for _, s := range p.all() {
		if s != not && (fit == nil || fit(s)) && s.due(by) && p.claim(s, by) {
			return s
		}
	}
	return nil
}

// due reports whether a trial of the server was due at the time by.
func (s *server) due(by time.Duration) bool {
	at := s.trialAt.Load()
	return at != 0 && at <= int64(by) && !s.sick.Load() && !s.resting.Load()
}

// claim leases the trial for as long as the breaker stays open at first, and for
// longer each time that a lease has run out without a result.
func (p *pool) claim(s *server, by time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.due(by) { // another request was faster
		return false
	}
	if !s.trying.Load() {
		s.overdue = 0
	}
	s.trialAt.Store(int64(p.now() + min(openFirst<<min(s.overdue, 10), openMost)))
	s.trying.Store(true)
	s.overdue++
	return true
}

func (p *pool) trialDue() bool {
	now := p.now()
	return slices.ContainsFunc(p.all(), func(s *server) bool { return s.due(now) })
}

// answeredBy notes that a server answered with a status. Those by which a
// gateway says that what is behind it is gone or has too much to do count as
// failures, but only while another server is well: a server that fails fast is
// the least busy one and would draw all requests, but to take the last one away
// because it is overloaded is not the breaker's business, the limiter sees to
// that. Other statuses never count, since a client can ask for what gives them.
func (p *pool) answeredBy(s *server, trial bool, status int) {
	if answered(status) == limit.Drop && p.anotherWell(s) {
		p.fail(s, trial, p.mostByStatus(), "status", status)
		return
	}
	p.succeeded(s, trial)
}

// mostByStatus is how many servers may be out for one more to be taken out
// because of its answers. One URL that a client asks for may be all that gives
// them: half of the pool always stays.
func (p *pool) mostByStatus() int { return len(p.all())/2 - 1 }

// alone reports whether no server but this one takes requests.
func (p *pool) alone(s *server) bool {
	return !slices.ContainsFunc(*p.ready.Load(), func(o *server) bool { return o != s })
}

func (p *pool) anotherWell(not *server) bool {
	for _, s := range *p.ready.Load() {
		if s != not && s.streak.Load() == 0 {
			return true
		}
	}
	return false
}

// succeeded notes an answer. Its usual case is one load.
func (p *pool) succeeded(s *server, trial bool) {
	if !trial {
		if s.streak.Load() != 0 {
			s.streak.Store(0)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.streak.Store(0)
	if s.trialAt.Load() == 0 {
		return // a trial whose lease had run out; another one was faster
	}
	s.trialAt.Store(0)
	s.trying.Store(false)
	s.closedAt = p.now()
	p.cool(s)
	p.rebuild()
	p.log.Info("origin server is back", "server", s.address.text, "breaker", "closed")
}

// failed notes that a server could not be reached or did not answer. why is the
// log's key and value of the cause.
func (p *pool) failed(s *server, trial bool, why ...any) {
	p.fail(s, trial, len(p.all()), why...)
}

// fail notes a failure. It opens no breaker while more than most servers are
// out.
func (p *pool) fail(s *server, trial bool, most int, why ...any) {
	s.failures.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if s.trialAt.Load() != 0 {
		if trial {
			p.open(s, now)
		} // else sent before the breaker opened; it says nothing new
		return
	}
	streak := s.streak.Add(1)
	if streak == 1 {
		s.failingSince = now
	}
	if streak < streakToOpen && (streak < 2 || now-s.failingSince < failingToOpen) {
		return
	}
	if out := len(p.all()) - len(*p.ready.Load()); out > most || !slices.Contains(p.all(), s) {
		return // too many are out, or the server was removed meanwhile
	}
	if now-s.closedAt > openMost {
		s.openings = 0
	}
	p.open(s, now)
	p.rebuild()
	p.log.Warn("origin server is down", append([]any{"server", s.address.text, "breaker", "open", "failures", streak}, why...)...)
}

// undecided gives a claimed trial back: the request ended without telling
// anything about the server.
func (p *pool) undecided(s *server, trial bool) {
	if !trial {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.trying.Load() {
		s.trying.Store(false)
		s.trialAt.Store(int64(p.now()))
	}
}

// open keeps requests from a server for 1 s at first and up to 30 s when trial
// after trial fails, give or take a fifth so that nodes do not return as one.
func (p *pool) open(s *server, now time.Duration) {
	d := min(openFirst<<min(s.openings, 10), openMost)
	if p.alone(s) {
		d = openLast
	}
	d = d*4/5 + rand.N(d*2/5)
	s.openings++
	s.trying.Store(false)
	s.trialAt.Store(int64(now + d))
}
