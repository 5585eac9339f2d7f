package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ErrPin means that the maps cannot be pinned where Options.Pin says: there is no BPF
// file system, another node has the folder, or the process may not write there. Load
// without it goes on.
var ErrPin = errors.New("nothing can be pinned")

// pinFile is the name of the File with the folder and its lock.
const pinFile = FilePrefix + "pin"

// pins are the folder in which the state (see there) outlives the process, for the next
// one that runs the same programs. Links are never pinned: whatever ends the process
// frees the interface. Nor are sockets, which end with it, and rules, which stand in the
// configuration or were meant for this process. A nil pins pins nothing.
type pins struct {
	folder string
	lock   *os.File
}

// openPins opens the folder, and makes it where it is not there. One process alone may
// have it, and the one that takes its place: to that it hands the lock over.
func openPins(folder string, inherited []*os.File) (*pins, error) {
	if folder == "" {
		return nil, nil
	}
	lock, err := lockPins(folder, inherited)
	if err != nil {
		return nil, fmt.Errorf("%w in %s: %w", ErrPin, folder, err)
	}
	return &pins{folder, lock}, nil
}

func lockPins(folder string, inherited []*os.File) (*os.File, error) {
	if err := onBPF(folder); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for _, f := range inherited {
		if f.Name() == pinFile && sameFile(f, lock) {
			lock.Close()
			fd, err := duplicate(f)
			return os.NewFile(uintptr(fd), pinFile), err
		}
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another node has it")
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// onBPF looks at what there is of a path.
func onBPF(path string) error {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	for ; errors.Is(err, unix.ENOENT) && path != filepath.Dir(path); err = unix.Statfs(path, &s) {
		path = filepath.Dir(path)
	}
	if err == nil && s.Type != unix.BPF_FS_MAGIC {
		err = fmt.Errorf("%s is on no BPF file system; mount -t bpf bpf /sys/fs/bpf", path)
	}
	return err
}

func sameFile(a, b *os.File) bool {
	one, err := a.Stat()
	if err != nil {
		return false
	}
	other, err := b.Stat()
	return err == nil && os.SameFile(one, other)
}

// FD makes the folder one of what Files hands over.
func (p *pins) FD() int { return int(p.lock.Fd()) }

// file returns where a map is pinned. The name carries a digest of the programs, for the
// words of the state mean something to the same ones only.
func (p *pins) file(name string) string {
	return filepath.Join(p.folder, name+"-"+digest)
}

// take returns the maps that a process before has left. What cannot be read is begun anew.
func (p *pins) take(specs map[string]*ebpf.MapSpec) map[string]*ebpf.Map {
	left := map[string]*ebpf.Map{}
	if p == nil {
		return left
	}
	for _, name := range pinned {
		m, err := ebpf.LoadPinnedMap(p.file(name), nil)
		if err != nil {
			continue
		}
		if specs[name].Compatible(m) != nil {
			m.Close()
			continue
		}
		left[name] = m
	}
	return left
}

// put pins the maps, at the place of those that were there.
func (p *pins) put(maps map[string]*ebpf.Map) error {
	if p == nil {
		return nil
	}
	for _, name := range pinned {
		// One of this process's, which it would take for pinned still, or of another's.
		err := maps[name].Unpin()
		if err == nil {
			err = os.Remove(p.file(name))
		}
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = maps[name].Pin(p.file(name))
		}
		if err != nil {
			return fmt.Errorf("%w in %s: %s: %w", ErrPin, p.folder, name, err)
		}
	}
	return nil
}

// sweep removes what other programs have pinned. It may fail: what stays takes memory,
// and the next one tries again.
func (p *pins) sweep() {
	if p == nil {
		return
	}
	all, _ := os.ReadDir(p.folder)
	for _, entry := range all {
		for _, name := range pinned {
			path := filepath.Join(p.folder, entry.Name())
			if strings.HasPrefix(entry.Name(), name+"-") && path != p.file(name) {
				_ = os.Remove(path)
			}
		}
	}
}

// close may be called again, as Admission.Close may.
func (p *pins) close() error {
	if p == nil {
		return nil
	}
	if err := p.lock.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
