package origin

import (
	"context"
	"net"
	"net/http"
)

// A link is how a server is reached under one configuration. It is replaced,
// never changed: an exchange keeps to the one that it began with.
type link struct {
	config      *Config
	credentials *credentials
	// usual carries all but upgrades, which HTTP/2 has no place for (RFC 9113
	// section 8.6). upgrade speaks HTTP/1.1 alone; of an h2c server there is none.
	usual, upgrade *http.Transport
}

// A dialFunc connects to a server: network is tcp or unix.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

func newLink(to address, c *Config, k *credentials, dial dialFunc) *link {
	l := &link{config: c, credentials: k}
	d := dialer{dial: dial, to: to, config: c, credentials: k}
	if to.scheme == "h2c" {
		l.usual = newTransport(d, protocols((*http.Protocols).SetUnencryptedHTTP2))
		return l
	}
	l.upgrade = newTransport(d, protocols((*http.Protocols).SetHTTP1))
	l.usual = l.upgrade
	if to.scheme == "https" && c.HTTP2 != "off" {
		l.usual = newTransport(d, protocols((*http.Protocols).SetHTTP1, (*http.Protocols).SetHTTP2))
	}
	return l
}

func protocols(set ...func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	for _, s := range set {
		s(p, true)
	}
	return p
}

// under returns the link under another configuration. Its connections go on if
// nothing changed by which they were made.
func (l *link) under(c *Config, k *credentials, to address, dial dialFunc) *link {
	if !sameLines(l.config, c) {
		return newLink(to, c, k, dial)
	}
	return &link{config: c, credentials: l.credentials, usual: l.usual, upgrade: l.upgrade}
}

func sameLines(a, b *Config) bool {
	return a.Host == b.Host && a.TLS == b.TLS && a.HTTP2 == b.HTTP2 && a.Limit.Max == b.Limit.Max &&
		a.ConnectTimeout == b.ConnectTimeout && a.Timeout == b.Timeout
}

// transport returns what carries a request, or nil if nothing can.
func (l *link) transport(upgrade bool) *http.Transport {
	if upgrade {
		return l.upgrade
	}
	return l.usual
}

// retire closes the connections as they go idle.
func (l *link) retire() {
	l.usual.CloseIdleConnections()
	if l.upgrade != nil {
		l.upgrade.CloseIdleConnections()
	}
}
