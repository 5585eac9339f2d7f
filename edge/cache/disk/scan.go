package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A window reads a file in pieces, for a walk along its records.
type window struct {
	file  io.ReaderAt
	size  int64
	data  []byte
	start int64
}

// windowBytes is read at once: many small records, or the header of a large one
// and little else.
const windowBytes = 32 << 10

// bytes returns n bytes at the offset, fewer at the end of the file. They are
// valid until the next call.
func (w *window) bytes(offset int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-offset))
	if from := offset - w.start; from >= 0 && from+int64(n) <= int64(len(w.data)) {
		return w.data[from:][:n], nil
	}
	length := min(int64(max(n, windowBytes)), w.size-offset)
	if int64(cap(w.data)) < length {
		w.data = make([]byte, length)
	}
	w.data, w.start = w.data[:length], offset
	if _, err := w.file.ReadAt(w.data, offset); err != nil {
		w.data = nil
		return nil, err
	}
	return w.data[:n], nil
}

// A tornError is a segment that ends in the middle of a record: the process ended
// while it wrote.
type tornError struct{ end int64 }

func (e tornError) Error() string {
	return fmt.Sprintf("the last record is not whole, from %d on", e.end)
}

// walk calls f for each record of a segment. It ends with errRecord where the
// records cannot be followed, with tornError where the last is not whole.
func walk(file io.ReaderAt, size int64, f func(offset int64, h *header, w *window) error) error {
	w := &window{file: file, size: size}
	first, err := w.bytes(0, preambleBytes)
	if err != nil {
		return err
	}
	if len(first) < preambleBytes {
		return tornError{0}
	}
	if err := checkPreamble(first); err != nil {
		return err
	}
	for offset := int64(preambleBytes); offset < size; {
		b, err := w.bytes(offset, headerBytes)
		if err != nil {
			return err
		}
		if len(b) < headerBytes {
			return tornError{offset}
		}
		h, err := parseHeader(b)
		if err != nil {
			return err
		}
		if offset+h.bytes() > size {
			return tornError{offset}
		}
		if err := f(offset, &h, w); err != nil {
			return err
		}
		offset = align(offset + h.bytes())
	}
	return nil
}

// open locks the folder and finds out what is in it.
func (t *Tier) open(ctx context.Context) (err error) {
	if t.lock, err = lock(t.c.Path); err != nil {
		return err
	}
	t.limit.Store(t.c.Size)
	t.full = false
	if t.fresh {
		if err := removeAll(t.c.Path); err != nil {
			return fmt.Errorf("remove old segments: %w", err)
		}
		t.fresh, t.ordinal = false, 0
	}
	last, err := t.scan(ctx)
	if err != nil {
		return err
	}
	if err := t.resume(); err != nil {
		return err
	}
	t.start(last)
	return nil
}

// scan reads all segments and returns the highest sequence. What stands before a
// place that cannot be read is removed: a delete or a purge of it may have stood
// there.
func (t *Tier) scan(ctx context.Context) (last uint64, err error) {
	ordinals, err := segmentNames(t.c.Path)
	if err != nil {
		return 0, err
	}
	for i, n := range ordinals {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if i > 0 && n != ordinals[i-1]+1 {
			if err := t.discard(n-1, errors.New("it is missing")); err != nil {
				return 0, err
			}
		}
		s, err := t.segments.open(n)
		if err != nil {
			return 0, err
		}
		t.ordinal = max(t.ordinal, n)
		highest, err := t.scanSegment(s)
		last = max(last, highest)
		var torn tornError
		switch newest := i == len(ordinals)-1; {
		case err == nil:
		case newest && errors.As(err, &torn):
			if err := t.cut(s, torn.end); err != nil {
				return 0, err
			}
		case errors.As(err, &torn) || errors.Is(err, errRecord):
			if err := t.discard(n, err); err != nil {
				return 0, err
			}
		default:
			return 0, fmt.Errorf("scan %s: %w", s.path, err)
		}
	}
	return last, nil
}

// open opens a segment that is there. A link is none: what it leads to would be cut.
func (l *segments) open(ordinal uint32) (*segment, error) {
	path := filepath.Join(l.folder, segmentName(ordinal))
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	s := &segment{ordinal: ordinal, path: path, file: f, log: l, size: info.Size(), reserved: roundUp(info.Size())}
	l.total.Add(s.reserved)
	s.refs.Store(1)
	s.graves.Store(true) // nobody knows
	l.push(s)
	return s, nil
}

// scanSegment puts what a segment has into the index. The log is in order: what
// comes later under a key replaces what came before.
func (t *Tier) scanSegment(s *segment) (last uint64, err error) {
	now := time.Now()
	first := t.segments.all()[0].ordinal
	err = walk(s.file, s.size, func(offset int64, h *header, w *window) error {
		last = max(last, h.sequence)
		hash := h.key.hash()
		switch h.kind {
		case deleteRecord:
			t.index.remove(hash)
		case purgeRecord:
			return t.scanPurge(s, offset, h, w)
		case objectRecord, headRecord:
			if h.expired(now) || h.kind == headRecord && (h.bodyAt.segment < first || h.bodyAt.segment > s.ordinal) {
				t.index.remove(hash)
				break
			}
			at := place{s.ordinal, uint32(offset)}
			t.index.set(hash, entry{place: at, length: readLength(h.bytes()), split: h.kind == headRecord})
		}
		return nil
	})
	return last, err
}

func (t *Tier) scanPurge(s *segment, offset int64, h *header, w *window) error {
	b, err := w.bytes(offset+headerBytes, h.metaBytes())
	if err != nil {
		return err
	}
	m := meta(b)
	if !m.sound(h) {
		return errRecord
	}
	marks := make([]uint64, h.marks)
	for i := range marks {
		marks[i] = m.mark(i)
	}
	t.purges.add(marks, h.sequence, h.soft)
	s.marks = t.purges.wrote(marks, h.sequence, s.ordinal, s.marks)
	return nil
}

// cut removes the end of the newest segment, which was being written when the
// process ended.
func (t *Tier) cut(s *segment, end int64) error {
	if end < preambleBytes {
		t.ordinal--
		return t.segments.removeLast()
	}
	s.size = end
	return s.seal()
}

// discard removes all that was read until now, and says why.
func (t *Tier) discard(ordinal uint32, why error) error {
	t.log.Warn("disk cache is damaged, older objects are removed", "segment", segmentName(ordinal), "error", why)
	t.counts.damaged.Add(1)
	t.index.clear()
	t.purges.clear()
	return t.removeEverything()
}

// resume evicts what is too much, and goes on with the newest segment or with a
// new one. A disk that takes nothing shows here.
func (t *Tier) resume() error {
	for files := t.segments.all(); len(files) > 0; files = t.segments.all() {
		s := files[len(files)-1]
		missing := max(0, t.segmentBytes-s.reserved)
		if t.segments.total.Load()+missing > t.limit.Load() {
			if _, err := t.evict(); err != nil {
				return err
			}
			continue
		}
		if missing == 0 || s.reserve(t.segmentBytes) != nil {
			break
		}
		t.current, t.from, t.end = s, align(s.size), align(s.size)
		return nil
	}
	return t.turn(true)
}
