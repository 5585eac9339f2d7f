package origin

import (
	"context"
	"net"
	"net/url"
	"sync"
	"time"
)

// Tried is what came of trying one server.
type Tried struct {
	Server string // as configured
	Took   time.Duration
	Err    error
}

// Try asks every server for its health path, or where there is none connects to it,
// TLS included: whether they can be reached now, whatever is known of them. It
// changes nothing of that. It lasts as long as the health and connect timeouts allow.
func (o *Origin) Try(ctx context.Context) []Tried {
	servers := o.pool.all()
	all := make([]Tried, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			began := time.Now()
			err := o.tryServer(ctx, s)
			all[i] = Tried{Server: s.address.text, Took: time.Since(began), Err: err}
		})
	}
	wg.Wait()
	return all
}

func (o *Origin) tryServer(ctx context.Context, s *server) error {
	l := s.link.Load()
	if l.config.Health.Path != "" {
		return s.probe(ctx)
	}
	d := dialer{dial: o.connect, to: s.address, config: l.config, credentials: l.credentials, alpn: []string{"h2", "http/1.1"}}
	connect := d.plain
	if s.address.scheme == "https" {
		connect = d.tls
	}
	c, err := connect(ctx, "tcp", s.address.dialed())
	if err != nil {
		return err
	}
	return c.Close()
}

// dialed returns the host with the port that the scheme stands for if none is given.
func (a address) dialed() string {
	scheme, host := a.url()
	u := url.URL{Host: host}
	if u.Port() != "" {
		return host
	}
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
