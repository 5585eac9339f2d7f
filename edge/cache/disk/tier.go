package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A Tier keeps objects on a disk. All methods may be called by any number of
// goroutines; Run does the work.
type Tier struct {
	c            Config
	log          *slog.Logger
	segmentBytes int64
	mostObjects  int

	index    *index
	purges   purges
	segments segments
	counts   counts
	ready    atomic.Bool   // the phase is on, for Get
	wake     chan struct{} // tells Run that there is work

	mu       sync.Mutex
	phase    phase
	trouble  error // why the tier is not on; nil while it is being opened
	sequence uint64
	queue    []*operation
	queued   int64 // bytes of objects that are to be written
	small    int   // deletes, and marks of purges, that are to be written
	// pending has the newest operation on each hash that is to be written: what is
	// older does not enter the index any more.
	pending map[uint64]uint64
	rate    rate

	writer
}

// phase is what the tier can do.
type phase uint8

const (
	// opening: nothing is known of the disk yet. Deletes and purges wait for it.
	opening phase = iota
	on
	// broken: what is on the disk will be removed before anything is used again.
	broken
)

// What waits to be written is bounded. Not knobs: objects for a third of a second
// of a slow disk, and more deletes than anybody asks for while one hangs.
const (
	queueBytes = 32 << 20
	mostSmall  = 64 << 10
)

// New makes a tier. It touches no disk: Run does, and until it has read what is
// there, everything is a miss and nothing is taken.
func New(c Config, log *slog.Logger) *Tier {
	t := &Tier{
		c: c, log: log.With("folder", c.Path), segmentBytes: c.segmentBytes(), mostObjects: c.mostObjects(),
		index: newIndex(), wake: make(chan struct{}, 1), pending: map[uint64]uint64{},
		rate: rate{limit: float64(c.WriteRate)},
	}
	t.segments.folder = c.Path
	t.purges.clear()
	if !c.on() {
		t.phase, t.trouble = broken, errOff
	}
	return t
}

// An Item is an object to be put in.
type Item struct {
	Key Key
	// Expires is when the object is of no use any more, not even stale. Zero is
	// never.
	Expires time.Time
	// Marks are hashes of what the object can be purged by: its tags, its host, the
	// prefixes of its path. At most 4096 of them.
	Marks []uint64
	// Head and Body are kept as they are. A head has at most 1 MiB.
	Head, Body []byte
	// Release, if set, is called exactly once, by any goroutine, when the item's
	// slices are not read any more, be it because they are written or because the
	// tier did not want them. It must not call the tier.
	Release func()
	// Valid, if set, says at the last moment whether the item is to be taken. What
	// makes it untrue and then deletes or purges is certain that the item is not taken
	// afterwards. It must not call the tier.
	Valid func() bool
}

func (i *Item) release() {
	if i.Release != nil {
		i.Release()
	}
}

// record returns the header of the record that keeps the item, but for its
// sequence.
func (i *Item) record() header {
	return header{
		kind: objectRecord, marks: len(i.Marks), key: i.Key, expires: seconds(i.Expires),
		head: len(i.Head), body: len(i.Body),
	}
}

// fits reports whether a new segment could hold the item beside what is moved to
// it.
func (i *Item) fits(segmentBytes int64) bool {
	h := i.record()
	room := segmentBytes - segmentBytes/movedShare - preambleBytes
	return len(i.Marks) <= maxMarks && len(i.Head) <= maxHead && h.bytes() <= room
}

// Put takes an object, which becomes visible when it was written. What was kept
// under its key is gone at once, whether the object is taken or not. It never
// waits for the disk: when that cannot keep up, or has no room, the object is
// refused and counted.
func (t *Tier) Put(item Item) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := item.record()
	switch {
	case item.Valid != nil && !item.Valid():
		item.release()
		return false
	case t.phase != on:
		t.counts.refusedOff.Add(1)
	case !item.fits(t.segmentBytes):
		t.counts.refusedSize.Add(1)
	case t.queued+h.bytes() > queueBytes && t.queued > 0:
		t.counts.refusedQueue.Add(1)
	default:
		t.rate.add(time.Now(), h.bytes())
		t.enqueue(&operation{kind: putItem, item: item, bytes: h.bytes()})
		return true
	}
	t.enqueue(&operation{kind: deleteKey, item: Item{Key: item.Key}})
	item.release()
	return false
}

// Update gives an object a new head and leaves its body where it is, as a 304
// asks for. The version is the Object's; if the tier has another object under the
// key by now, or has moved it, nothing is done. The item's body is ignored.
func (t *Tier) Update(item Item, version uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	item.Body = nil
	h := item.record()
	e, ok := t.index.get(item.Key.hash())
	if t.phase != on || !ok || e.version() != version || !item.fits(t.segmentBytes) || t.queued+h.bytes() > queueBytes {
		item.release()
		return false
	}
	t.enqueue(&operation{kind: updateHead, item: item, was: e, bytes: h.bytes()})
	return true
}

// Delete removes the object at once. That it stays away over a restart is known
// when it was written, which Sync waits for.
func (t *Tier) Delete(key Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enqueue(&operation{kind: deleteKey, item: Item{Key: key}})
}

// DeleteAny is Delete for those of the keys under which there is anything, and
// returns how many objects that were. It is not known while the tier has not read its
// disk: then nothing is done.
func (t *Tier) DeleteAny(keys ...Key) (objects int, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == opening {
		return 0, false
	}
	for _, key := range keys {
		hash := key.hash()
		_, kept := t.index.get(hash)
		if _, coming := t.pending[hash]; kept || coming {
			t.enqueue(&operation{kind: deleteKey, item: Item{Key: key}})
			objects++
		}
	}
	return objects, true
}

// Purge removes at once all objects that were put in before and have one of the
// marks. It takes the same time however many these are.
func (t *Tier) Purge(marks ...uint64) { t.purge(marks, false) }

// PurgeSoft makes these objects stale instead: their Soft is true from now on,
// until they are put in again or updated.
func (t *Tier) PurgeSoft(marks ...uint64) { t.purge(marks, true) }

func (t *Tier) purge(marks []uint64, soft bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(marks) > 0 {
		n := min(len(marks), maxMarks)
		t.enqueue(&operation{kind: purgeMarks, item: Item{Marks: append([]uint64(nil), marks[:n]...)}, soft: soft})
		marks = marks[n:]
	}
}

// PurgeAll removes everything at once.
func (t *Tier) PurgeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.enqueue(&operation{kind: removeEverything})
}

// Sync returns when all that was asked for before is written, and its deletes and
// purges are on the disk itself, so that they outlive a crash of the machine. An
// operator's purge calls it; it may take as long as the disk does.
func (t *Tier) Sync(ctx context.Context) error {
	if err := t.reach(ctx); err != nil {
		return err
	}
	return t.fsync()
}

// reach returns when all that was asked for before is written.
func (t *Tier) reach(ctx context.Context) error {
	done := make(chan error, 1)
	t.mu.Lock()
	t.enqueue(&operation{kind: reached, done: done})
	t.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the disk: %w", ctx.Err())
	}
}

func (t *Tier) fsync() (err error) {
	for _, s := range t.segments.holdGraves() {
		failed := s.file.Sync()
		if failed != nil {
			s.graves.Store(true)
		}
		err = errors.Join(err, failed)
		s.release()
	}
	folder, failed := os.Open(t.c.Path) // the names of the files
	if failed != nil {
		return errors.Join(err, failed)
	}
	defer folder.Close()
	return errors.Join(err, folder.Sync())
}

// Willing is a hint to whoever chooses what is put in: whether an object of so
// many bytes would leave the write rate below WriteRate and the queue less than
// half full.
func (t *Tier) Willing(bytes int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase == on && t.queued+bytes <= queueBytes/2 && t.rate.below(time.Now(), bytes)
}

// A rate is a bucket of one second's bytes that leaks as fast as it may be
// filled.
type rate struct {
	limit float64 // bytes a second; 0 is none
	level float64
	at    time.Time
}

func (r *rate) leak(now time.Time) {
	r.level = max(0, r.level-r.limit*now.Sub(r.at).Seconds())
	r.at = now
}

func (r *rate) add(now time.Time, bytes int64) {
	if r.limit > 0 {
		r.leak(now)
		r.level += float64(bytes)
	}
}

func (r *rate) below(now time.Time, bytes int64) bool {
	if r.limit == 0 {
		return true
	}
	r.leak(now)
	return r.level == 0 || r.level+float64(bytes) <= r.limit
}
