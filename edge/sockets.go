package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets are what the node listens on. They are bound and take visitors in
// from then on, so that a process can pass them to its successor.
type Sockets struct {
	// UDP is for HTTP/3; all have one address. They must be *net.UDPConn: any
	// wrapper costs quic-go segmentation offload, ECN and batched reads. Tests
	// may put a simulated network here.
	UDP []net.PacketConn
	// TCP is for HTTP/2 and HTTP/1.1. It has the port of UDP.
	TCP net.Listener
	// HTTP is for plain HTTP, which is redirected. Nil redirects nothing.
	HTTP net.Listener
	// Steering says how datagrams find their socket among UDP; see Steer.
	Steering Steering

	unsteered error // why the kernel does not steer
}

// OpenSockets binds the addresses of the configuration. Port 0 of Listen is the
// same free port for UDP and TCP. There is one UDP socket; Steer may add some.
func OpenSockets(ctx context.Context, c Config) (Sockets, error) {
	var s Sockets
	if err := s.open(ctx, c); err != nil {
		s.Close()
		return Sockets{}, err
	}
	return s, nil
}

func (s *Sockets) open(ctx context.Context, c Config) error {
	pair := s.openPair
	if s.TCP != nil { // inherited
		pair = s.join
	}
	if err := pair(ctx, c); err != nil {
		return err
	}
	if c.HTTP == "" || c.HTTP == "off" || s.HTTP != nil {
		return nil
	}
	var err error
	if s.HTTP, err = new(net.ListenConfig).Listen(ctx, "tcp", c.HTTP); err != nil {
		return fmt.Errorf("http: %w", advise(err))
	}
	return nil
}

// openPair binds TCP and UDP to one port. A free TCP port may be taken on UDP,
// so that port 0 is tried some times.
func (s *Sockets) openPair(ctx context.Context, c Config) error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for tries := 10; ; tries-- {
		// TCP first and without SO_REUSEPORT: a second node on the same port is
		// so noticed, and does not silently share the visitors.
		if s.TCP, err = new(net.ListenConfig).Listen(ctx, "tcp", c.Listen); err != nil {
			return fmt.Errorf("listen: %w", advise(err))
		}
		if !c.HTTP3.Enabled {
			return nil
		}
		address := net.JoinHostPort(host, strconv.Itoa(s.TCP.Addr().(*net.TCPAddr).Port))
		if port == "0" {
			err = vacant(ctx, address)
		}
		var sock net.PacketConn
		if err == nil {
			sock, err = listenUDP(ctx, address)
		}
		if err == nil {
			s.UDP = []net.PacketConn{sock}
			return nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) || port != "0" || tries == 0 {
			return fmt.Errorf("listen: %w", advise(err))
		}
		s.TCP.Close()
	}
}

// vacant returns an error unless nobody has the UDP address. A node that drains has left
// its TCP port, and would share the UDP port and the visitors of whoever comes there.
func vacant(ctx context.Context, address string) error {
	sock, err := new(net.ListenConfig).ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	return sock.Close()
}

func listenUDP(ctx context.Context, address string) (net.PacketConn, error) {
	lc := net.ListenConfig{Control: prepareUDP}
	return lc.ListenPacket(ctx, "udp", address)
}

// prepareUDP lets several sockets, and those of a successor, have one address, and gives
// each room for those who come before the node reads.
func prepareUDP(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), enlarge(fd))
	}); cerr != nil {
		return cerr
	}
	return err
}

// advise says what to do about the two errors that operators meet.
func advise(err error) error {
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: ports below 1024 need root, CAP_NET_BIND_SERVICE or socket activation", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another process listens there; see ss -lntup", err)
	}
	return err
}

// AdoptSockets takes over sockets that were passed to the process, as systemd
// does. It duplicates the files' descriptors; the caller closes the files.
//
// Datagram sockets are for HTTP/3. A stream socket whose file is named http is
// the one that redirects; of several without that name the first is for HTTP/2
// and HTTP/1.1 and the second redirects.
func AdoptSockets(files []*os.File) (Sockets, error) {
	var s Sockets
	for _, f := range files {
		if err := s.adopt(f); err != nil {
			s.Close()
			return Sockets{}, fmt.Errorf("adopt socket %s: %w", f.Name(), err)
		}
	}
	if s.TCP == nil {
		s.Close()
		return Sockets{}, errors.New("adopt sockets: no stream socket for HTTP/2 and HTTP/1.1 among those passed")
	}
	return s, nil
}

func (s *Sockets) adopt(f *os.File) error {
	// Fd would put the file into blocking mode, and with it the socket that the
	// duplicates share.
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	kind, kindErr := 0, error(nil)
	if err := raw.Control(func(fd uintptr) {
		kind, kindErr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		if kindErr == nil && kind == unix.SOCK_DGRAM {
			kindErr = enlarge(fd)
		}
	}); err != nil {
		return err
	}
	if kindErr != nil {
		return os.NewSyscallError("getsockopt", kindErr)
	}
	switch kind {
	case unix.SOCK_DGRAM:
		c, err := net.FilePacketConn(f)
		if err != nil {
			return err
		}
		s.UDP = append(s.UDP, c)
		return nil
	case unix.SOCK_STREAM:
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		return s.place(l, f.Name() == "http")
	}
	return fmt.Errorf("socket type %d is neither stream nor datagram", kind)
}

// place gives a stream socket its role.
func (s *Sockets) place(l net.Listener, redirects bool) error {
	switch {
	case s.TCP == nil && !redirects:
		s.TCP = l
	case s.HTTP == nil:
		s.HTTP = l
	default:
		l.Close()
		return errors.New("one stream socket too many")
	}
	return nil
}

// Close closes all sockets.
func (s *Sockets) Close() error {
	var errs []error
	for _, c := range s.UDP {
		errs = append(errs, c.Close())
	}
	for _, l := range []net.Listener{s.TCP, s.HTTP} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}
