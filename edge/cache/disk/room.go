package disk

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// movedShare bounds what of an evicted segment is written again: a sixteenth of
// a segment, so that each byte is written 1.07 times at most. Not a knob.
const movedShare = 16

// lingerShare bounds the segments that are removed and still read: a quarter.
// Beyond it nothing is evicted for new objects, or slow readers of old ones
// could turn the whole tier into files that nobody finds any more.
const lingerShare = 4

var errNoRoom = errors.New("evicted segments are still being read")

// turn ends the segment that is written to and begins another, for which it
// makes room. A record that has to be written forces it even when many of the
// evicted segments are still read.
func (t *Tier) turn(force bool) error {
	t.movable = t.segmentBytes / movedShare
	moved, err := t.makeRoom(force)
	if err != nil { // what is written to stays open, for records that are small
		t.giveUp(moved)
		return err
	}
	if err := t.seal(); err != nil {
		return err
	}
	more, err := t.begin()
	if err != nil {
		return err
	}
	for _, l := range append(moved, more...) {
		h := l.header
		h.kind, h.bodyAt = objectRecord, place{}
		t.counts.moved.Add(uint64(h.bytes()))
		at := entry{hits: l.entry.hits - 1}
		if err := t.write(h, l.meta, l.content, commit{kind: h.kind, hash: h.key.hash(), was: l.entry.place, at: at}); err != nil {
			return err
		}
	}
	return nil
}

// seal ends the segment that is written to.
func (t *Tier) seal() error {
	if t.current == nil {
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	s := t.current
	t.current = nil
	return s.seal()
}

// begin makes the next segment. On a full disk it takes the room of old ones, and
// the tier stays as small as that for a time.
func (t *Tier) begin() (moved []loaded, err error) {
	for {
		s, err := t.segments.create(t.ordinal+1, t.segmentBytes)
		if err == nil {
			t.ordinal++
			t.current, t.from, t.end = s, s.size, s.size
			t.counts.written.Add(uint64(s.size))
			t.fits()
			return moved, nil
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) || len(t.segments.all()) == 0 {
			return nil, err
		}
		more, failed := t.evict()
		if failed != nil {
			return nil, failed
		}
		moved = append(moved, more...)
		t.shrink(err)
	}
}

func (t *Tier) shrink(err error) {
	t.limit.Store(t.segments.total.Load() + t.segmentBytes)
	t.shrunk = time.Now()
	if !t.full {
		t.full = true
		t.log.Warn("disk cache has to be smaller than configured", "bytes", t.limit.Load(), "error", err)
	}
}

// fits notes that the disk had room for another segment.
func (t *Tier) fits() {
	if t.full && t.limit.Load() == t.c.Size {
		t.full = false
		t.log.Info("disk cache has room again")
	}
}

// grow lets a tier that had to shrink try again.
func (t *Tier) grow(now time.Time) {
	if t.full && now.Sub(t.shrunk) >= growAfter {
		t.limit.Store(t.c.Size)
	}
}

// makeRoom evicts the oldest segments until there is room for another, in the index as
// well. It returns what is to be written again.
func (t *Tier) makeRoom(force bool) (moved []loaded, err error) {
	lingering := max(1, t.limit.Load()/t.segmentBytes/lingerShare)
	for t.segments.total.Load()+t.segmentBytes > t.limit.Load() || t.index.len() > t.mostObjects {
		files, held := t.segments.all(), t.segments.lingering.Load()
		last := len(files) == 1 && t.current != nil
		if len(files) == 0 || !force && (held > lingering || last && held > 0) {
			return moved, errNoRoom
		}
		if last {
			if err := t.seal(); err != nil {
				return moved, err
			}
			continue
		}
		more, err := t.evict()
		if err != nil {
			return moved, err
		}
		moved = append(moved, more...)
	}
	return moved, nil
}

// giveUp forgets objects that were to be moved.
func (t *Tier) giveUp(moved []loaded) {
	for i := range moved {
		t.index.removeAt(moved[i].key.hash(), moved[i].entry.place)
	}
}

// removeEverything removes all segments.
func (t *Tier) removeEverything() error {
	if err := t.seal(); err != nil {
		return err
	}
	for range t.segments.all() {
		if err := t.segments.removeFirst(); err != nil {
			return fmt.Errorf("remove segment: %w", err)
		}
	}
	return nil
}

// evict removes the oldest segment. Of its objects, those that were asked for most
// since they were written are returned, to be written again: the segment is a FIFO
// queue with a second chance, as the main queue of S3-FIFO (Yang et al., SOSP
// 2023).
func (t *Tier) evict() ([]loaded, error) {
	s := t.segments.all()[0]
	hot, err := t.survivors(s)
	if err != nil { // what cannot be read is not kept
		hot = nil
		t.counts.damaged.Add(1)
		t.counts.evicted.Add(uint64(t.index.drop(s.ordinal)))
	}
	if err := t.segments.removeFirst(); err != nil {
		return nil, fmt.Errorf("evict segment: %w", err)
	}
	t.purges.evict(s.marks, s.ordinal)
	return hot, nil
}

// survivors takes the objects of a segment out of the index, but for those that
// it returns.
func (t *Tier) survivors(s *segment) ([]loaded, error) {
	var hot []candidate
	err := walk(s.file, s.size, func(offset int64, h *header, _ *window) error {
		if c, ok := t.candidate(s, offset, h); ok && c.hits > 0 {
			hot = append(hot, c)
		} else if ok {
			t.drop(c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(hot, func(a, b candidate) int { return cmp.Compare(b.hits, a.hits) })
	var kept []loaded
	for _, c := range hot {
		if c.bytes > t.movable {
			t.drop(c)
			continue
		}
		l, err := t.load(c.entry)
		if err == nil {
			l.content, err = t.loadBody(&l)
		}
		if err != nil { // purged, expired or damaged
			t.drop(c)
			continue
		}
		t.movable -= c.bytes
		kept = append(kept, l)
	}
	return kept, nil
}

// A candidate is an object whose body is in a segment that is evicted.
type candidate struct {
	hash uint64
	entry
	bytes int64
}

// candidate returns the object that a record is a part of, if it still is one. A
// head of its own needs no look: the record of its body came before it.
func (t *Tier) candidate(s *segment, offset int64, h *header) (candidate, bool) {
	hash := h.key.hash()
	e, ok := t.index.get(hash)
	if !ok || h.kind != objectRecord {
		return candidate{}, false
	}
	if e.split {
		l, err := t.load(e)
		body := place{s.ordinal, uint32(offset) + headerBytes + uint32(h.metaBytes())}
		return candidate{hash, e, align(h.bytes())}, err != nil || l.from == body
	}
	return candidate{hash, e, align(h.bytes())}, e.place == place{s.ordinal, uint32(offset)}
}

func (t *Tier) drop(c candidate) {
	if t.index.removeAt(c.hash, c.place) {
		t.counts.evicted.Add(1)
	}
}
