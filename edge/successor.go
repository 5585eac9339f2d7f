package edge

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names of sockets that are passed on, as service managers know them
// (sd_listen_fds_with_names).
const (
	nameTCP  = "https"
	nameHTTP = "http"
	nameUDP  = "quic"
)

// StreamNames are those that the files of StreamFiles may have.
var StreamNames = []string{nameTCP, nameHTTP}

// StreamFiles returns duplicates of the stream sockets for a successor beside this
// process, which then has the same queues of newcomers. It gets its own sockets for
// HTTP/3. The caller closes the files.
func (s *Sockets) StreamFiles() ([]*os.File, error) {
	return duplicates([]socket{{nameTCP, s.TCP}, {nameHTTP, s.HTTP}})
}

// Files returns duplicates of all sockets, for whoever keeps them while no process
// does, such as systemd's store. AdoptSockets takes them, and InheritSockets after it.
// The caller closes the files.
func (s *Sockets) Files() ([]*os.File, error) {
	all := []socket{{nameTCP, s.TCP}, {nameHTTP, s.HTTP}}
	for _, conn := range s.UDP {
		all = append(all, socket{nameUDP, conn})
	}
	return duplicates(all)
}

// A socket is a net.Listener or net.PacketConn with the name of its role.
type socket struct {
	name string
	conn any
}

func duplicates(all []socket) (files []*os.File, err error) {
	for _, s := range all {
		if s.conn == nil {
			continue
		}
		f, err := s.duplicate()
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("duplicate socket %s: %w", s.name, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func (s socket) duplicate() (*os.File, error) {
	conn, ok := s.conn.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket of the operating system")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := 0, error(nil)
	if err := raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(fd), s.name), nil
}
