package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// preamble is how a segment begins, filled up with zeros to preambleBytes. What
// stands behind the name is the version of its form.
const (
	family        = "spillway cache "
	preamble      = family + "1\n"
	preambleBytes = 64
	suffix        = ".segment"
)

// A segment is a file that records are appended to. It lives as long as it is in
// the log or somebody reads it.
type segment struct {
	ordinal uint32
	path    string
	file    *os.File
	log     *segments

	refs   atomic.Int32 // one is the log's
	graves atomic.Bool  // it has deletes or purges that may not outlive the machine

	// The rest is the writer's alone.
	size     int64 // of what was written
	reserved int64 // of the disk, counted in the log's total
	marks    []uint64
}

// release ends a read, or the log's hold. What was removed is closed with the
// last, and only then the disk has its bytes back.
func (s *segment) release() {
	if s.refs.Add(-1) == 0 {
		s.file.Close()
		s.log.total.Add(-s.reserved)
		s.log.lingering.Add(-1)
	}
}

// reserve takes the bytes on the disk in advance, so that they lie together and
// a full disk shows when a segment begins. The file does not grow by it: its end
// is that of the last write, which tells a scan what is torn. File systems that
// cannot do it are used without.
func (s *segment) reserve(bytes int64) error {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)
	err := syscall.Fallocate(int(s.file.Fd()), keepSize, 0, bytes)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("reserve %s: %w", s.path, err)
	}
	s.log.total.Add(bytes - s.reserved)
	s.reserved = bytes
	return nil
}

// seal gives back what was reserved and not used.
func (s *segment) seal() error {
	if err := s.file.Truncate(s.size); err != nil {
		return fmt.Errorf("seal segment: %w", err)
	}
	used := roundUp(s.size)
	s.log.total.Add(used - s.reserved)
	s.reserved = used
	return nil
}

// pageBytes is what file systems give out at least.
const pageBytes = 4096

func roundUp(n int64) int64 { return (n + pageBytes - 1) &^ (pageBytes - 1) }

// segments are the log: files in the order of their ordinals without a gap, the
// last of which grows. Only the writer changes it; readers hold segments.
type segments struct {
	folder string
	// total is what all files take of the disk, those included that were removed and
	// are still read. These linger.
	total     atomic.Int64
	lingering atomic.Int64

	mu    sync.RWMutex
	files []*segment
}

// hold returns the segment for reading, nil if it was evicted. release must
// follow.
func (l *segments) hold(ordinal uint32) *segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.files) == 0 || ordinal < l.files[0].ordinal {
		return nil
	}
	i := int(ordinal - l.files[0].ordinal)
	if i >= len(l.files) {
		return nil
	}
	s := l.files[i]
	s.refs.Add(1)
	return s
}

// holdGraves returns those with deletes or purges that were not synced yet.
func (l *segments) holdGraves() (held []*segment) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, s := range l.files {
		if s.graves.Swap(false) {
			s.refs.Add(1)
			held = append(held, s)
		}
	}
	return held
}

func (l *segments) all() []*segment {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.files)
}

func (l *segments) push(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = append(l.files, s)
}

// create makes the segment that follows, of so many bytes.
func (l *segments) create(ordinal uint32, bytes int64) (*segment, error) {
	if ordinal > lastOrdinal {
		return nil, errors.New("the numbers of segments are used up")
	}
	path := filepath.Join(l.folder, segmentName(ordinal))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{ordinal: ordinal, path: path, file: f, log: l}
	first := make([]byte, preambleBytes)
	copy(first, preamble)
	if err = s.reserve(bytes); err == nil {
		_, err = f.WriteAt(first, 0)
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		l.total.Add(-s.reserved)
		return nil, err
	}
	s.size = preambleBytes
	s.refs.Store(1)
	l.push(s)
	return s, nil
}

// removeFirst takes the oldest out of the log and its name off the disk, at
// once, however long it is read: a restart must not find what the records behind
// it have killed.
func (l *segments) removeFirst() error {
	l.mu.Lock()
	s := l.files[0]
	l.files = slices.Delete(l.files, 0, 1)
	l.mu.Unlock()
	l.lingering.Add(1)
	err := os.Remove(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	s.release()
	return err
}

// removeLast removes the newest.
func (l *segments) removeLast() error {
	l.mu.Lock()
	s := l.files[len(l.files)-1]
	l.files = l.files[:len(l.files)-1]
	l.mu.Unlock()
	l.lingering.Add(1)
	err := os.Remove(s.path)
	s.release()
	return err
}

// forget closes all segments and leaves their files.
func (l *segments) forget() {
	l.mu.Lock()
	files := l.files
	l.files = nil
	l.mu.Unlock()
	for _, s := range files {
		l.lingering.Add(1)
		s.release()
	}
}

func segmentName(ordinal uint32) string { return fmt.Sprintf("%08x%s", ordinal, suffix) }

// segmentNames returns the ordinals of the segments in the folder.
func segmentNames(folder string) ([]uint32, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var ordinals []uint32
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), suffix)
		n, err := strconv.ParseUint(digits, 16, 32)
		if ok && err == nil && n > 0 && n <= lastOrdinal && segmentName(uint32(n)) == e.Name() {
			ordinals = append(ordinals, uint32(n))
		}
	}
	slices.Sort(ordinals)
	return ordinals, nil
}

// removeAll removes all segments in the folder, the oldest first.
func removeAll(folder string) error {
	ordinals, err := segmentNames(folder)
	for _, n := range ordinals {
		if removed := os.Remove(filepath.Join(folder, segmentName(n))); err == nil {
			err = removed
		}
	}
	return err
}

// checkPreamble tells a segment of another version from one that is damaged.
func checkPreamble(b []byte) error {
	if bytes.HasPrefix(b, []byte(preamble)) {
		return nil
	}
	if version, ok := bytes.CutPrefix(b, []byte(family)); ok {
		if version, _, ok = bytes.Cut(version, []byte("\n")); ok && isNumber(version) {
			return fmt.Errorf("it has version %s, this program knows 1; move the folder away to begin a new one", version)
		}
	}
	return errRecord
}

func isNumber(b []byte) bool {
	_, err := strconv.ParseUint(string(b), 10, 32)
	return err == nil
}

var errTaken = errors.New("another process uses it")

// lock keeps other processes from the folder until the file is closed or the
// process ends. The lock is on the folder, so that no file stays behind.
func lock(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errTaken
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	return f, nil
}
