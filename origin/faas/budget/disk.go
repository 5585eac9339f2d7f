package budget

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// A disk is the folder of the ledger. It is an interface so that a test can record
// what is written, and see what a crash leaves of it.
type disk interface {
	// lock keeps other processes from the ledger until unlock is called or the
	// process ends. Its error is errTaken if another has it.
	lock() (unlock func(), err error)
	read(name string) ([]byte, error)
	create(name string) (file, error)
	rename(from, to string) error
	// sync makes names last, as Sync of a file does with its content.
	sync() error
}

type file interface {
	io.WriteCloser
	Sync() error
}

var errTaken = errors.New("another process uses it")

// folder is a disk of the operating system.
type folder string

func (f folder) path(name string) string { return filepath.Join(string(f), name) }

func (f folder) lock() (func(), error) {
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return nil, err
	}
	l, err := os.Open(string(f))
	if err != nil {
		return nil, err
	}
	// The lock is on the folder, so that no file stays behind. The kernel ends it with
	// the process, however that ends.
	err = syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errTaken
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("lock %s: %w", l.Name(), err)
	}
	return func() { l.Close() }, nil
}

func (f folder) read(name string) ([]byte, error) { return os.ReadFile(f.path(name)) }

func (f folder) create(name string) (file, error) {
	return os.OpenFile(f.path(name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (f folder) rename(from, to string) error { return os.Rename(f.path(from), f.path(to)) }

func (f folder) sync() error {
	d, err := os.Open(string(f))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
