package edge

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// InheritSockets is OpenSockets for the successor of a process: of the TCP sockets that
// were passed on it takes those that have the addresses of the configuration, closes
// the others, and opens what is missing. It takes the sockets over, also on an error.
//
// A socket that two processes share loses no connection when one of them closes it:
// the kernel's queue belongs to the socket, which is open as long as anybody has it.
func InheritSockets(ctx context.Context, c Config, from Sockets) (Sockets, error) {
	var s Sockets
	if from.TCP != nil && listensOn(from.TCP, c.Listen) {
		s.TCP, from.TCP = from.TCP, nil
	}
	if from.HTTP != nil && listensOn(from.HTTP, c.HTTP) {
		s.HTTP, from.HTTP = from.HTTP, nil
	}
	from.Close()
	if err := s.open(ctx, c); err != nil {
		s.Close()
		return Sockets{}, err
	}
	return s, nil
}

// listensOn reports whether a socket has the address that is asked for, of which port 0
// is any.
func listensOn(l net.Listener, address string) bool {
	want, err := net.ResolveTCPAddr("tcp", address)
	has, ok := l.Addr().(*net.TCPAddr)
	if err != nil || !ok {
		return false
	}
	anywhere := len(want.IP) == 0 || want.IP.IsUnspecified()
	return (want.Port == 0 || want.Port == has.Port) && (anywhere && has.IP.IsUnspecified() || has.IP.Equal(want.IP))
}

// join opens the UDP socket beside a TCP socket that is open.
func (s *Sockets) join(ctx context.Context, c Config) error {
	if !c.HTTP3.Enabled {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	sock, err := listenUDP(ctx, net.JoinHostPort(host, strconv.Itoa(s.TCP.Addr().(*net.TCPAddr).Port)))
	if err != nil {
		return fmt.Errorf("listen: %w", advise(err))
	}
	s.UDP = []net.PacketConn{sock}
	return nil
}

// Sockets returns what the listeners listen on, for a successor.
func (l *Listeners) Sockets() Sockets { return l.socks }

// Started is closed when Run takes visitors in.
func (l *Listeners) Started() <-chan struct{} { return l.started }
