package disk

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A kept object is what the model knows of one.
type kept struct {
	head, body []byte
	marks      []uint64
	expires    time.Time
	soft       bool
}

// TestAnyHistory plays puts, gets, updates, deletes, purges, evictions, restarts
// and crashes against a map. What is served is byte for byte what was put in last,
// and never what was deleted, purged or replaced; and as long as nothing had to be
// evicted, nothing is missing.
func TestAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		defer h.end()
		t.Repeat(map[string]func(*rapid.T){
			"put":        h.put,
			"get":        h.get,
			"update":     h.update,
			"delete":     h.delete,
			"purge":      func(t *rapid.T) { h.purge(t, false) },
			"purge soft": func(t *rapid.T) { h.purge(t, true) },
			"purge all":  h.purgeAll,
			"drain":      h.drain,
			"hold":       h.hold,
			"leave":      h.leave,
			"restart":    h.restart,
			"crash":      h.crash,
			"":           h.bounded,
		})
	})
}

type history struct {
	folder  string
	size    int64
	x       *Tier
	now     map[int]kept // what was asked for
	written map[int]kept // what is on the disk
	lossy   bool         // something had to be evicted or refused
	updated bool         // since nothing was left to be written
	largest int
	next    uint64
	held    []heldObject
}

type heldObject struct {
	o    *Object
	body []byte
}

func newHistory(t *rapid.T) *history {
	h := &history{folder: scratch(t), size: smallestTier, now: map[int]kept{}, written: map[int]kept{}}
	// Either nearly nothing is evicted, or nearly everything.
	h.largest = rapid.SampledFrom([]int{2 << 10, 40 << 10, 150 << 10}).Draw(t, "largest")
	h.x = opened(t, h.folder, h.size)
	return h
}

func (h *history) end() {
	h.letGo()
	h.x.crash()
}

func (h *history) number(t *rapid.T) int { return rapid.IntRange(0, 15).Draw(t, "object") }

func (h *history) marks(t *rapid.T) []uint64 {
	return rapid.SliceOfN(rapid.Uint64Range(1, 5), 0, 3).Draw(t, "marks")
}

func (h *history) expires(t *rapid.T) time.Time {
	if rapid.Bool().Draw(t, "expires") {
		return time.Unix(time.Now().Unix()+1000, 0)
	}
	return time.Time{}
}

func (h *history) put(t *rapid.T) {
	n := h.number(t)
	h.next++
	object := kept{
		head: fmt.Appendf(nil, "head %d", h.next), body: content(h.next, rapid.IntRange(0, h.largest).Draw(t, "size")),
		marks: h.marks(t), expires: h.expires(t),
	}
	if h.x.Put(Item{Key: key(n), Expires: object.expires, Marks: object.marks, Head: object.head, Body: object.body}) {
		h.now[n] = object
	} else {
		delete(h.now, n)
		h.lossy = true
	}
}

func (h *history) get(t *rapid.T) { h.check(t, h.number(t), false) }

// check compares one object with the model.
func (h *history) check(t *rapid.T, n int, settled bool) {
	want, known := h.now[n]
	o := h.x.Get(key(n))
	if o == nil {
		if known && settled && !h.lossy {
			t.Fatalf("object %d is missing", n)
		}
		return
	}
	defer o.Close()
	body, err := io.ReadAll(o)
	switch {
	case err != nil:
		t.Fatalf("object %d: %v", n, err)
	case !known:
		t.Fatalf("object %d was deleted, and served with head %q", n, o.Head)
	case !bytes.Equal(o.Head, want.head):
		t.Fatalf("object %d has head %q, not %q", n, o.Head, want.head)
	case !bytes.Equal(body, want.body):
		t.Fatalf("object %d has another body", n)
	case o.Soft != want.soft:
		t.Fatalf("object %d: soft is %t", n, o.Soft)
	case !o.Expires.Equal(want.expires):
		t.Fatalf("object %d expires %v, not %v", n, o.Expires, want.expires)
	}
}

func (h *history) update(t *rapid.T) {
	n := h.number(t)
	o := h.x.Get(key(n))
	if o == nil {
		t.Skip("it is not there")
	}
	o.Close()
	h.next++
	object := h.now[n]
	object.head, object.marks, object.expires, object.soft = fmt.Appendf(nil, "head %d", h.next), h.marks(t), h.expires(t), false
	if h.x.Update(Item{Key: key(n), Expires: object.expires, Marks: object.marks, Head: object.head}, o.Version) {
		h.now[n] = object
		h.updated = true
	}
}

func (h *history) delete(t *rapid.T) {
	n := h.number(t)
	h.x.Delete(key(n))
	delete(h.now, n)
}

func (h *history) purge(t *rapid.T, soft bool) {
	mark := rapid.Uint64Range(1, 5).Draw(t, "mark")
	h.lossy = h.lossy || h.updated // an update loses the object if one of its old marks is purged meanwhile
	if soft {
		h.x.PurgeSoft(mark)
	} else {
		h.x.Purge(mark)
	}
	for n, object := range h.now {
		switch {
		case !slices.Contains(object.marks, mark):
		case soft:
			object.soft = true
			h.now[n] = object
		default:
			delete(h.now, n)
		}
	}
}

func (h *history) purgeAll(*rapid.T) {
	h.x.PurgeAll()
	clear(h.now)
}

func (h *history) drain(t *rapid.T) {
	drain(t, h.x)
	h.settled(t)
	h.written = maps.Clone(h.now)
}

// settled compares all objects when nothing is left to be written.
func (h *history) settled(t *rapid.T) {
	c := &h.x.counts
	h.lossy = h.lossy || c.evicted.Load()+c.refusedPinned.Load() > 0
	h.updated = false
	if c.damaged.Load() > 0 {
		t.Fatalf("%d damaged", c.damaged.Load())
	}
	for n := range 16 {
		h.check(t, n, true)
	}
}

// hold begins to read an object and leaves it open.
func (h *history) hold(t *rapid.T) {
	n := h.number(t)
	if o := h.x.Get(key(n)); o != nil {
		h.held = append(h.held, heldObject{o, h.now[n].body})
	}
}

// leave reads what was held to its end, whatever has happened to it meanwhile.
func (h *history) leave(t *rapid.T) {
	if len(h.held) == 0 {
		t.Skip("nothing is held")
	}
	held := h.held[0]
	h.held = h.held[1:]
	defer held.o.Close()
	if body, err := io.ReadAll(held.o); err != nil || !bytes.Equal(body, held.body) {
		t.Fatalf("an object that was held: %d bytes, %v", len(body), err)
	}
}

func (h *history) letGo() {
	for _, held := range h.held {
		held.o.Close()
	}
	h.held = nil
}

func (h *history) restart(t *rapid.T) {
	h.letGo()
	closed(t, h.x)
	h.x = opened(t, h.folder, h.size)
	h.settled(t)
	h.written = maps.Clone(h.now)
}

func (h *history) crash(t *rapid.T) {
	h.letGo()
	h.lossy = h.lossy || h.x.counts.evicted.Load() > 0
	h.x.crash()
	h.x = opened(t, h.folder, h.size)
	h.now = maps.Clone(h.written)
	h.settled(t)
}

func (h *history) bounded(t *rapid.T) {
	if total := h.x.segments.total.Load(); total > h.size {
		t.Fatalf("%d bytes are counted, %d are allowed", total, h.size)
	}
	if bytes := taken(t, h.folder); bytes > h.size {
		t.Fatalf("the files take %d bytes, %d are allowed", bytes, h.size)
	}
}
