package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"syscall"
)

// InheritSockets is OpenSockets for the successor of a process: of the sockets that
// were passed on it takes those that have the addresses of the configuration, closes
// the others, and opens what is missing. It takes the sockets over, also on an error.
//
// A stream socket that two processes share loses no connection when one of them closes
// it: the kernel's queue belongs to the socket, which is open as long as anybody has
// it. UDP sockets must come from a process that has ended, for two that read one take
// each other's packets. While the other lives its successor opens its own, which joins
// the other's if both are of one user. Who else is at the address is noticed by TCP.
func InheritSockets(ctx context.Context, c Config, from Sockets) (Sockets, error) {
	var s Sockets
	if from.TCP != nil && hasAddress(from.TCP.Addr(), c.Listen) {
		s.TCP, from.TCP = from.TCP, nil
	}
	if from.HTTP != nil && hasAddress(from.HTTP.Addr(), c.HTTP) {
		s.HTTP, from.HTTP = from.HTTP, nil
	}
	if c.HTTP3.Enabled && s.TCP != nil {
		at := s.TCP.Addr().String()
		s.UDP, from.UDP = from.UDP, nil
		s.UDP = slices.DeleteFunc(s.UDP, func(conn net.PacketConn) bool {
			elsewhere := !hasAddress(conn.LocalAddr(), at)
			if elsewhere {
				conn.Close()
			}
			return elsewhere
		})
	}
	from.Close()
	if err := s.open(ctx, c); err != nil {
		s.Close()
		return Sockets{}, err
	}
	return s, nil
}

// hasAddress reports whether a socket has the address that is asked for, of which port
// 0 is any.
func hasAddress(a net.Addr, address string) bool {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || address == "" {
		return false // to open it says why
	}
	has := addrPort(a)
	if want.Port != 0 && want.Port != int(has.Port()) {
		return false
	}
	if len(want.IP) == 0 || want.IP.IsUnspecified() {
		return has.Addr().IsUnspecified()
	}
	return want.IP.Equal(has.Addr().AsSlice())
}

// join opens the UDP socket beside a TCP socket that is open.
func (s *Sockets) join(ctx context.Context, c Config) error {
	if !c.HTTP3.Enabled || len(s.UDP) > 0 {
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

// Retake asks for new QUIC flows again, when a successor that came to nothing may have
// asked for them, and steers them: its program, which it may have left at the sockets,
// goes by keys that nobody changes any more.
func (l *Listeners) Retake() error {
	var err error
	if l.socks.steered() == steeredByKernel && len(l.socks.UDP) > 0 {
		err = l.socks.Steering.Kernel.Steer(l.socks.UDP[0].(syscall.Conn))
	}
	return errors.Join(err, l.socks.draw())
}

// Started is closed when Run takes visitors in. Where a socket cannot be served it is
// not, and Run returns the reason.
func (l *Listeners) Started() <-chan struct{} { return l.started }
