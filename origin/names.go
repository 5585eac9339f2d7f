package origin

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// names knows the addresses of the servers that are given by name. When a look-up
// fails, those that were found last stay.
//
// An answer need not be the whole truth: of many addresses resolvers give some,
// and others each time. So an address counts as gone only after a while, or when
// none of those that there may be connections to is left, and however the answers
// change, connections are not given up at each of them.
type names struct {
	ask      func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dialer   net.Dialer
	failures atomic.Uint64
	// kept reports that somebody looks the known names up all the time. Then a new
	// connection need not.
	kept atomic.Bool

	mu    sync.Mutex
	known map[string]*found
}

// found is what was found for a name.
type found struct {
	addrs []netip.Addr // last
	// absent counts for each address, of all since connections were given up last,
	// the answers in a row that were without it.
	absent map[netip.Addr]int
	calm   int // for how many answers connections are not given up again
}

// absentToGo is how many answers in a row an address may be missing from; not a
// knob: one minute with the usual interval. That bounds too how often connections
// are given up, and so how many addresses are known.
const absentToGo = 6

// update takes in an answer. The addresses that it returns are gone, and the
// connections have to be given up.
func (f *found) update(addrs []netip.Addr) (gone []netip.Addr) {
	f.addrs = addrs
	left := false
	for a := range f.absent {
		f.absent[a]++
		left = left || slices.Contains(addrs, a)
	}
	for _, a := range addrs {
		f.absent[a] = 0
	}
	if f.calm > 0 {
		f.calm--
		return nil
	}
	for a, times := range f.absent {
		if times >= absentToGo || times > 0 && !left {
			gone = append(gone, a)
		}
	}
	if len(gone) > 0 {
		f.calm = absentToGo
		maps.DeleteFunc(f.absent, func(_ netip.Addr, times int) bool { return times > 0 })
	}
	return gone
}

func newNames() *names {
	return &names{ask: net.DefaultResolver.LookupNetIP, known: map[string]*found{}}
}

// dial connects to one of the addresses of a server: to the first that answers.
func (n *names) dial(ctx context.Context, network, server string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(server)
	if _, literal := netip.ParseAddr(host); network == "unix" || err != nil || literal == nil {
		return n.dialer.DialContext(ctx, network, server)
	}
	addrs, err := n.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	for i, addr := range spread(addrs) {
		var c net.Conn
		if c, err = n.try(ctx, network, net.JoinHostPort(addr.String(), port), len(addrs)-i); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// try gives an address its part of the time: left addresses share what there is.
func (n *names) try(ctx context.Context, network, addr string, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return n.dialer.DialContext(ctx, network, addr)
}

// spread returns the addresses in the order in which to try them: it begins
// anywhere, so that all get connections, but with the family that the resolver
// prefers (RFC 6724), since the other one may not work here at all.
func spread(addrs []netip.Addr) []netip.Addr {
	first := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() != addrs[0].Is4() })
	if first < 0 {
		first = len(addrs)
	}
	at := rand.IntN(first)
	return slices.Concat(addrs[at:first], addrs[:at], addrs[first:])
}

func (n *names) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if known := n.of(host); n.kept.Load() && len(known) > 0 {
		return known, nil
	}
	_, now, err := n.lookup(ctx, host)
	return now, err
}

func (n *names) of(host string) []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.known[host]; f != nil {
		return f.addrs
	}
	return nil
}

// lookup asks for the addresses of a name and returns those that are gone, and
// those that there are now. An error means that there are none.
func (n *names) lookup(ctx context.Context, host string) (gone, now []netip.Addr, err error) {
	addrs, err := n.ask(ctx, "ip", host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no addresses")
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.known[host]
	if err != nil {
		n.failures.Add(1)
		if f != nil {
			return nil, f.addrs, nil
		}
		return nil, nil, err
	}
	if f == nil {
		f = &found{absent: map[netip.Addr]int{}}
		n.known[host] = f
	}
	return f.update(addrs), addrs, nil
}

// forget drops the names that are not among those given.
func (n *names) forget(but map[string][]*server) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for host := range n.known {
		if but[host] == nil {
			delete(n.known, host)
		}
	}
}

// follow looks the names of the servers up until ctx ends.
func (o *Origin) follow(ctx context.Context, c *Config) {
	o.names.kept.Store(true)
	defer o.names.kept.Store(false)
	ticker := time.NewTicker(c.Resolve)
	defer ticker.Stop()
	for {
		o.resolve(ctx, c)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// resolve looks each name up once. Of a server that has lost an address the
// connections are retired: requests in flight end on them, and new ones go to
// where the name leads now.
func (o *Origin) resolve(ctx context.Context, c *Config) {
	named := map[string][]*server{}
	for _, s := range o.pool.all() {
		if host, ok := s.address.name(); ok {
			named[host] = append(named[host], s)
		}
	}
	o.names.forget(named)
	for host, servers := range named {
		ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
		gone, now, err := o.names.lookup(ctx, host)
		cancel()
		if err != nil || len(gone) == 0 {
			continue
		}
		o.pool.log.Info("origin server has moved", "name", host, "from", gone, "to", now)
		for _, s := range servers {
			o.relink(s)
		}
	}
}

// relink gives a server new connections.
func (o *Origin) relink(s *server) {
	o.changing.Lock()
	defer o.changing.Unlock()
	old := s.link.Load()
	s.link.Store(newLink(s.address, old.config, old.credentials, o.connect))
	old.retire()
}
