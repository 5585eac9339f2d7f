package disk

import (
	"cmp"
	"errors"
	"io"
	"time"
)

// Why an object that the index has is not there after all.
var (
	errGone = errors.New("its segment was evicted")
	errDead = errors.New("it was purged or is expired")
	// ErrDamaged is read in the place of bytes that are not as they were written.
	ErrDamaged = errors.New("object is damaged on the disk")
)

const (
	// Records up to here are read in one piece, and keep no segment from being
	// evicted while they are sent.
	wholeBytes = 64<<10 + firstBytes
	// Of longer ones so much is read at first.
	firstBytes = 4 << 10
)

// A loaded record is an object's header and meta part, and, for one that was read
// in one piece, its body.
type loaded struct {
	header
	entry   entry
	meta    meta
	from    place // of the body
	content []byte
}

// read reads the record of an entry from its segment. The header's soft is what
// purges have made of it.
func (t *Tier) read(s *segment, e entry) (l loaded, err error) {
	b := make([]byte, cmp.Or(int(e.length), firstBytes))
	n, err := s.file.ReadAt(b, int64(e.offset))
	if err != nil && !errors.Is(err, io.EOF) { // it may be the last of the file
		return l, err
	}
	b = b[:n:n]
	h, err := parseHeader(b)
	if err != nil {
		return l, err
	}
	end := headerBytes + h.metaBytes()
	if readLength(h.bytes()) != e.length || (h.kind == headRecord) != e.split {
		return l, errRecord
	}
	if end > len(b) {
		b = append(make([]byte, 0, end), b...)[:end]
		if _, err := s.file.ReadAt(b[n:], int64(e.offset)+int64(n)); err != nil {
			return l, err
		}
	}
	l = loaded{header: h, entry: e, meta: b[headerBytes:end:end], from: h.bodyAt}
	if !l.meta.sound(&h) {
		return l, errRecord
	}
	dead, soft := t.purges.judge(&h, l.meta)
	if dead || h.expired(time.Now()) {
		return l, errDead
	}
	l.soft = soft
	if h.kind == objectRecord {
		l.from = place{e.segment, e.offset + uint32(end)}
		if whole := h.bytes(); whole <= int64(len(b)) {
			l.content = b[end:whole:whole]
		}
	}
	return l, nil
}

// load reads the record of an entry.
func (t *Tier) load(e entry) (loaded, error) {
	s := t.segments.hold(e.segment)
	if s == nil {
		return loaded{}, errGone
	}
	defer s.release()
	return t.read(s, e)
}

// loadBody reads the whole body of a record.
func (t *Tier) loadBody(l *loaded) ([]byte, error) {
	body := l.content
	if body == nil {
		s := t.segments.hold(l.from.segment)
		if s == nil {
			return nil, errGone
		}
		defer s.release()
		body = make([]byte, l.body)
		if _, err := s.file.ReadAt(body, int64(l.from.offset)); err != nil {
			return nil, err
		}
	}
	if soundBlocks(body, l.meta.sums(&l.header)) != l.body {
		return nil, ErrDamaged
	}
	return body, nil
}
