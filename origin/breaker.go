package origin

import (
	"math"
	"math/rand/v2"
	"time"
)

// Not knobs: five failures in a row are no accident at any rate, and at a low
// rate nobody should wait for the fifth.
const (
	streakToOpen  = 5
	failingToOpen = time.Second // of nothing but failures, at least two
	openFirst     = time.Second
	openMost      = 30 * time.Second
)

// claimed stands in trialAt while a trial is under way.
const claimed = math.MaxInt64

// trial claims the trial of a server whose breaker has been open long enough.
// Whoever gets it must call succeeded, failed or undecided.
func (p *pool) trial(not *server) *server {
	now := int64(p.now())
	for _, s := range p.servers {
		at := s.trialAt.Load()
		if s != not && at != 0 && at <= now && !s.sick.Load() && s.trialAt.CompareAndSwap(at, claimed) {
			return s
		}
	}
	return nil
}

func (p *pool) trialDue() bool {
	now := int64(p.now())
	for _, s := range p.servers {
		if at := s.trialAt.Load(); at != 0 && at <= now && !s.sick.Load() {
			return true
		}
	}
	return false
}

// answeredBy notes that a server answered with a status. A 5xx counts as a
// failure only while another server is well: a server that fails fast is the
// least busy one and would draw all requests, but to take the last one away
// because it is overloaded is not the breaker's business, the limiter sees to
// that.
func (p *pool) answeredBy(s *server, trial bool, status int) {
	if status >= 500 && p.anotherWell(s) {
		p.failed(s, trial, "status", status)
		return
	}
	p.succeeded(s, trial)
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
	s.trialAt.Store(0)
	s.closedAt = p.now()
	p.rebuild()
	p.log.Info("origin server is back", "server", s.url.String(), "breaker", "closed")
}

// failed notes that a server could not be reached, did not answer or answered
// with an error. why is the log's key and value of the cause.
func (p *pool) failed(s *server, trial bool, why ...any) {
	s.failures.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if trial {
		p.open(s, now)
		return
	}
	if s.trialAt.Load() != 0 {
		return // sent before the breaker opened; it says nothing new
	}
	streak := s.streak.Add(1)
	if streak == 1 {
		s.failingSince = now
	}
	if streak < streakToOpen && (streak < 2 || now-s.failingSince < failingToOpen) {
		return
	}
	if now-s.closedAt > openMost {
		s.openings = 0
	}
	p.open(s, now)
	p.rebuild()
	p.log.Warn("origin server is down", append([]any{"server", s.url.String(), "breaker", "open", "failures", streak}, why...)...)
}

// undecided gives a claimed trial back: the request ended without telling
// anything about the server.
func (p *pool) undecided(s *server, trial bool) {
	if trial {
		s.trialAt.CompareAndSwap(claimed, int64(p.now()))
	}
}

// open keeps requests from a server for 1 s at first and up to 30 s when trial
// after trial fails, give or take a fifth so that nodes do not return as one.
func (p *pool) open(s *server, now time.Duration) {
	d := min(openFirst<<min(s.openings, 10), openMost)
	d = d*4/5 + rand.N(d*2/5)
	s.openings++
	s.trialAt.Store(int64(now + d))
}
