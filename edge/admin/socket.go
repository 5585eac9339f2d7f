package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// socketMode lets the group of the node's user in, and nobody else.
const socketMode = 0o660

// socket is the listener, and the file of a unix socket.
type socket struct {
	net.Listener
	path string      // of a unix socket
	file os.FileInfo // what stood at path when the socket was made
}

// adopt takes a listener over from the process before, if it is that of the address.
func adopt(address string, l net.Listener) (*socket, bool) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		return &socket{Listener: l}, loopback(address) && l.Addr().Network() == "tcp" && sameAddress(address, l.Addr().String())
	}
	if l.Addr().Network() != "unix" || l.Addr().String() != path {
		return nil, false
	}
	// Where somebody has removed the file, only a new socket can be asked.
	file, err := os.Lstat(path)
	if err != nil {
		return nil, false
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return &socket{Listener: l, path: path, file: file}, true
}

// sameAddress reports whether a listener has the address that is asked for, of which
// port 0 is any.
func sameAddress(asked, has string) bool {
	a, err := net.ResolveTCPAddr("tcp", asked)
	if err != nil {
		return false
	}
	h, err := netip.ParseAddrPort(has)
	return err == nil && a.AddrPort().Addr().Unmap() == h.Addr().Unmap() && (a.Port == 0 || a.Port == int(h.Port()))
}

func listen(address string) (*socket, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path)
	}
	if !loopback(address) {
		return nil, fmt.Errorf("%q is neither unix:PATH nor a loopback address", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return &socket{Listener: l}, nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func listenUnix(path string) (*socket, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	// A node that was started meanwhile may own the path when this one ends.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{Listener: l, path: path, file: file}, nil
}

// removeStale removes the socket that a node left behind when it was killed. A
// socket on which somebody answers stays, and so does any other file.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another process answers on %s", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

func (s *socket) unix() bool { return s.path != "" }

func (s *socket) address() string {
	if s.unix() {
		return "unix:" + s.path
	}
	return s.Addr().String()
}

// remove removes the socket's file if it is still the one that was made here, and no
// process that has the same listener answers there.
func (s *socket) remove() {
	if !s.unix() {
		return
	}
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = removeStale(s.path)
	}
}
