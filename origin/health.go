package origin

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Not knobs: one lost probe is no proof, and three would double the time that a
// dead server goes unnoticed.
const (
	probesToFail    = 2
	probesToRecover = 2
)

// probeBodyMost is read of a probe's body so that its connection can be used
// again.
const probeBodyMost = 16 << 10

// watch probes a server until ctx ends.
func (o *Origin) watch(ctx context.Context, s *server, c HealthConfig) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		err := s.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if !exhausted(err) {
			o.pool.probed(s, err)
		}
		// Give or take a tenth, so that the probes of many nodes do not meet.
		timer.Reset(c.Interval*9/10 + rand.N(c.Interval/5))
	}
}

// probe fetches the health path. It goes the way of requests, through the same
// connections, but does not count as load and asks for no permit: a saturated
// server must not look dead.
func (s *server) probe(ctx context.Context) error {
	l := s.link.Load()
	ctx, cancel := context.WithTimeout(ctx, l.config.Health.Timeout)
	defer cancel()
	path, query, _ := strings.Cut(l.config.Health.Path, "?")
	req := blank.WithContext(ctx)
	req.Method = http.MethodGet
	req.URL = &url.URL{Opaque: path, RawQuery: query}
	req.URL.Scheme, req.URL.Host = s.address.url()
	req.Host = l.config.Host
	req.Header = http.Header{"User-Agent": {"spillway-health"}}
	resp, err := l.usual.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, probeBodyMost); err != nil && err != io.EOF {
		return fmt.Errorf("read body: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// probed notes the result of a probe.
func (p *pool) probed(s *server, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		s.probes = min(s.probes, 0) - 1
	} else {
		s.probes = max(s.probes, 0) + 1
	}
	switch sick := s.sick.Load(); {
	case !sick && s.probes <= -probesToFail:
		s.sick.Store(true)
		p.rebuild()
		p.log.Warn("origin server is down", "server", s.address.text, "probe", err.Error())
	case sick && s.probes >= probesToRecover:
		s.sick.Store(false)
		p.cool(s)
		p.rebuild()
		p.log.Info("origin server is back", "server", s.address.text, "probe", "ok")
	}
	// A server that answers probes need not wait for its breaker's time, but a
	// request must still prove it: probes ask one path only.
	now := int64(p.now())
	if s.probes >= probesToRecover && s.trialAt.Load() > now && !s.trying.Load() {
		s.trialAt.Store(now)
	}
}

// forgetProbes makes nothing of probes that were sent before.
func (p *pool) forgetProbes() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.all() {
		s.probes = 0
		if s.sick.Swap(false) {
			p.cool(s)
		}
	}
	p.rebuild()
}
