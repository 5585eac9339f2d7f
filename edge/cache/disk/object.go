package disk

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// An Object is what Get has found. It reads the body; a small one is in memory, of
// a larger one the segment is held, so that it can be read to the end whatever
// happens to the object meanwhile. Close must follow. It is for one goroutine.
type Object struct {
	// Head is as it was put in. It must not be changed, and stays valid.
	Head    []byte
	Expires time.Time // zero is never
	// Soft is true when the object was made stale by a purge.
	Soft bool
	// Version tells this object from all others that were ever kept under the key,
	// for Update.
	Version uint64

	tier    *Tier
	header  header
	meta    meta
	key     Key
	entry   entry
	size    int64
	sums    []byte // of the blocks
	content []byte // the whole body, if it is small
	segment *segment
	from    int64 // of the body in the segment
	offset  int64 // of the next Read
	block   *[blockBytes]byte
	number  int64 // of the block that was read
}

var blocks = sync.Pool{New: func() any { return new([blockBytes]byte) }}

func (e *entry) version() uint64 { return uint64(e.segment)<<32 | uint64(e.offset) }

// Has reports whether the index has an object under the key's hash. It reads
// nothing and counts nothing.
func (t *Tier) Has(key Key) bool {
	_, ok := t.index.get(key.hash())
	return ok && t.ready.Load()
}

// HasAny is Has for several keys.
func (t *Tier) HasAny(keys ...Key) bool {
	return t.ready.Load() && slices.ContainsFunc(keys, t.Has)
}

// Get returns the object under the key, nil if there is none. The checksum of a
// body's block is compared before a byte of it is returned.
func (t *Tier) Get(key Key) *Object {
	hash := key.hash()
	e, ok := t.index.hit(hash)
	if !ok || !t.ready.Load() {
		t.counts.misses.Add(1)
		return nil
	}
	o, err := t.find(key, e)
	if err != nil {
		t.counts.misses.Add(1)
		t.lost(key, e, err)
		return nil
	}
	t.counts.hits.Add(1)
	return o
}

var errOther = errors.New("it is another key's")

func (t *Tier) find(key Key, e entry) (*Object, error) {
	s := t.segments.hold(e.segment)
	if s == nil {
		return nil, errGone
	}
	l, err := t.read(s, e)
	if err == nil && l.key != key {
		err = errOther
	}
	if err == nil && l.content != nil && soundBlocks(l.content, l.meta.sums(&l.header)) != l.body {
		err = ErrDamaged
	}
	if err != nil {
		s.release()
		return nil, err
	}
	o := &Object{
		Head: l.meta.head(&l.header), Soft: l.soft, Version: e.version(), tier: t, header: l.header, meta: l.meta, key: key, entry: e,
		size: int64(l.body), sums: l.meta.sums(&l.header), content: l.content, from: int64(l.from.offset), number: -1,
	}
	if l.expires != 0 {
		o.Expires = time.Unix(l.expires, 0)
	}
	if l.content == nil && l.body > 0 {
		if o.segment = t.segments.hold(l.from.segment); o.segment == nil {
			err = errGone
		}
	}
	s.release()
	return o, err
}

// lost removes an object that turned out not to be there.
func (t *Tier) lost(key Key, e entry, err error) {
	switch {
	case errors.Is(err, errOther):
	case errors.Is(err, errGone) || errors.Is(err, errDead):
		t.index.removeAt(key.hash(), e.place)
	default:
		t.damaged(key, e)
	}
}

// damaged removes an object that cannot be read, also for later: after a restart
// it might be readable again, and deleted meanwhile.
func (t *Tier) damaged(key Key, e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now, ok := t.index.get(key.hash()); ok && now.place == e.place {
		t.counts.damaged.Add(1)
		t.enqueue(&operation{kind: deleteKey, item: Item{Key: key}})
	}
}

// Stands reports whether the object is still what Get would return, and as it was. It
// may say no of one that was moved.
func (t *Tier) Stands(o *Object) bool {
	e, ok := t.index.get(o.key.hash())
	if !ok || e.place != o.entry.place || !t.ready.Load() {
		return false
	}
	dead, soft := t.purges.judge(&o.header, o.meta)
	return !dead && soft == o.Soft
}

// Size returns the length of the body.
func (o *Object) Size() int64 { return o.size }

// Read reads on in the body. Its error is ErrDamaged where the disk has changed
// it; the object is then removed.
func (o *Object) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := o.piece(p, o.offset)
	o.offset += int64(n)
	return n, err
}

// ReadAt reads from anywhere in the body and does not touch the place of Read.
// Whole blocks are read straight into p.
func (o *Object) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, os.ErrInvalid
	}
	for n < len(p) {
		got, err := o.piece(p[n:], offset+int64(n))
		n += got
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// WriteTo writes the rest of the body, a small one in one Write.
func (o *Object) WriteTo(w io.Writer) (written int64, err error) {
	for o.offset < o.size {
		part := o.content
		if part != nil {
			part = part[o.offset:]
		} else if part, err = o.blockAt(o.offset); err != nil {
			return written, err
		}
		n, err := w.Write(part)
		o.offset += int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// Close ends the reading. A second call does nothing.
func (o *Object) Close() error {
	if o.segment != nil {
		o.segment.release()
		o.segment = nil
	}
	if o.block != nil {
		blocks.Put(o.block)
		o.block = nil
	}
	return nil
}

// piece reads at least one byte of the body, unless it is at its end.
func (o *Object) piece(p []byte, offset int64) (int, error) {
	if offset >= o.size {
		return 0, io.EOF
	}
	if o.content != nil {
		return copy(p, o.content[offset:]), nil
	}
	n := min(int64(len(p)), o.size-offset)
	if offset+n < o.size {
		n -= n % blockBytes
	}
	if offset%blockBytes == 0 && n > 0 {
		return o.fetch(p[:n], offset)
	}
	part, err := o.blockAt(offset)
	return copy(p, part), err
}

// blockAt returns what is left of a block from an offset on.
func (o *Object) blockAt(offset int64) ([]byte, error) {
	number := offset / blockBytes
	start := number * blockBytes
	n := min(blockBytes, o.size-start)
	if o.block == nil {
		o.block = blocks.Get().(*[blockBytes]byte)
	}
	if o.number != number {
		o.number = -1
		if _, err := o.fetch(o.block[:n], start); err != nil {
			return nil, err
		}
		o.number = number
	}
	return o.block[offset-start : n], nil
}

// fetch reads from the start of a block to the end of one.
func (o *Object) fetch(p []byte, offset int64) (int, error) {
	if o.segment == nil {
		return 0, os.ErrClosed
	}
	n, err := o.segment.file.ReadAt(p, o.from+offset)
	good := soundBlocks(p[:n], o.sums[4*(offset/blockBytes):])
	if err == nil && good < len(p) {
		err = ErrDamaged
	}
	if err != nil {
		o.tier.damaged(o.key, o.entry)
		return good, err
	}
	return n, nil
}
