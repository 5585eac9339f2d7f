package crowd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
)

// sources are the UDP sockets that visitors over HTTP/3 come from: one for each
// source address in use. A socket is shared by all visitors behind its address, as
// a carrier's gateway is, and closed with its last one. With own set, each visitor
// has one for itself.
type sources struct {
	own  bool
	mu   sync.Mutex
	open map[netip.Addr]*source
}

type source struct {
	*quic.Transport
	addr  netip.Addr
	users int
}

// acquire returns the socket bound to addr. It must be released.
func (s *sources) acquire(addr netip.Addr) (*source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.open[addr]
	if src == nil || s.own {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		if err != nil {
			return nil, fmt.Errorf("open socket on %s: %w", addr, err)
		}
		src = &source{Transport: &quic.Transport{Conn: conn}, addr: addr}
		if s.open == nil {
			s.open = map[netip.Addr]*source{}
		}
		s.open[addr] = src
	}
	src.users++
	return src, nil
}

func (s *sources) release(src *source) error {
	s.mu.Lock()
	src.users--
	last := src.users == 0
	if last && s.open[src.addr] == src {
		delete(s.open, src.addr)
	}
	s.mu.Unlock()
	if !last {
		return nil
	}
	return errors.Join(src.Close(), src.Conn.Close())
}
