package process

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// listen opens the socket. It is made in a folder that only the host's user can
// enter and moved to its place when its mode is set, so that nobody can connect
// before. A socket that another host listens on is left alone.
func listen(path string) (net.Listener, fs.FileInfo, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, err
	}
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, nil, errors.New("another function host is running there")
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".new")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(private)
	temporary := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	var inode fs.FileInfo
	if err = os.Chmod(temporary, 0o660); err == nil {
		inode, err = os.Lstat(temporary)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, inode, nil
}

// unlisten removes the socket, unless it is that of a host which has started
// since this one stopped to listen.
func unlisten(path string, inode fs.FileInfo) error {
	unlock, err := lockFolder(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	now, err := os.Lstat(path)
	if err == nil && os.SameFile(now, inode) {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lockFolder keeps hosts that start or stop together from taking each other's
// socket away. It leaves no file behind; the kernel drops the lock of a host that
// is killed.
func lockFolder(folder string) (unlock func() error, err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
