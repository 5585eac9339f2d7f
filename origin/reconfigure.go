package origin

import (
	"errors"
	"fmt"
)

// Prepare makes what the configuration c needs, and changes nothing. The returned
// function puts c into force and cannot fail. What was learned about the origin
// and about servers that stay is kept; requests in flight end under the
// configuration that they began with; a server that is gone gets no new ones.
//
// One change at a time may be under way.
func (o *Origin) Prepare(c Config) (apply func(), err error) {
	servers, err := parseServers(c.Servers)
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", o.name, err)
	}
	k, err := newCredentials(c.TLS, o.pool.log)
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", o.name, err)
	}
	follow, err := o.scale.Prepare(c.ScaleOut, len(servers))
	if err != nil {
		return nil, fmt.Errorf("origin %s: scale_out: %w", o.name, err)
	}
	return func() {
		o.apply(&c, servers, k)
		follow()
	}, nil
}

func parseServers(all []string) ([]address, error) {
	if len(all) == 0 {
		return nil, errors.New("servers: none given")
	}
	servers := make([]address, len(all))
	for i, text := range all {
		var err error
		if servers[i], err = parseServer(text); err != nil {
			return nil, fmt.Errorf("servers: %w", err)
		}
	}
	return servers, nil
}

func (o *Origin) apply(c *Config, addresses []address, k *credentials) {
	o.changing.Lock()
	defer o.changing.Unlock()
	o.limiter.SetBounds(c.Limit)
	o.limiter.SetLongLived(c.LongLived)
	o.buffers.total.Store(c.ReadAhead.Total)
	o.retries.share.Store(&c.RetryBudget)
	o.pool.slowStart.Store(int64(c.SlowStart))
	was, servers := o.pool.all(), make([]*server, len(addresses))
	for i, a := range addresses {
		servers[i] = o.serverAt(a, c, k)
	}
	o.pool.replace(servers)
	for _, s := range was {
		if o.pool.named(s.address.text) != s {
			s.link.Load().retire()
		}
	}
	o.config.Store(c)
	select {
	case o.changed <- struct{}{}:
	default: // Run has not seen the last change yet, and will see both
	}
}

// serverAt returns the server at an address with a link for c: the one that
// there is, or a new one.
func (o *Origin) serverAt(a address, c *Config, k *credentials) *server {
	s := o.pool.named(a.text)
	if s == nil {
		s = &server{address: a}
		s.link.Store(newLink(a, c, k, o.connect))
		return s
	}
	old := s.link.Load()
	next := old.under(c, k, a, o.connect)
	s.link.Store(next)
	if next.usual != old.usual {
		old.retire()
	}
	return s
}

// Drain keeps new requests from a server, or gives it requests again. Those in
// flight go on. While no other server takes requests it still gets them, and
// upgrades while no other can take those: a visitor's answer comes first. The server is named as in the configuration; a
// reload keeps what was said, a restart does not.
func (o *Origin) Drain(server string, on bool) error {
	s := o.pool.named(server)
	if s == nil {
		return fmt.Errorf("origin %s has no server %q", o.name, server)
	}
	o.pool.drain(s, on)
	return nil
}

func (p *pool) drain(s *server, on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.draining.Load() == on {
		return
	}
	s.draining.Store(on)
	if !on {
		p.cool(s)
	}
	p.rebuild()
	p.log.Info("origin server is drained by the operator", "server", s.address.text, "draining", on)
}
