package disk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHotObjectsStay lets a scan of objects that nobody asks for again go through
// the tier: those that are asked for stay, though each is evicted with its segment.
func TestHotObjectsStay(t *testing.T) {
	x := opened(t, t.TempDir(), 4<<20)
	defer x.crash()
	for n := range 3 {
		put(x, n, uint64(n+1), 15<<10)
	}
	for n := range 1000 {
		put(x, 100+n, 1, 25<<10)
		drain(t, x)
		if n%20 == 0 {
			for hot := range 3 {
				if read(t, x, hot) != uint64(hot+1) {
					t.Fatalf("object %d is gone after %d others", hot, n)
				}
			}
		}
	}
	s := x.State()
	if s.Moved == 0 || s.Evicted == 0 {
		t.Errorf("%+v", s)
	}
}

// TestMovedWithinABound evicts segments in which all objects are hot. What is
// written again stays within its share, so that the writing is 1.1 times what was
// asked for at most.
func TestMovedWithinABound(t *testing.T) {
	x := opened(t, t.TempDir(), 4<<20)
	defer x.crash()
	for n := range 1000 {
		put(x, n, 1, 25<<10)
		drain(t, x)
		for range 2 {
			x.Get(key(n)).Close()
		}
	}
	s := x.State()
	if amplification := float64(s.Written) / float64(s.Asked); s.Moved == 0 || amplification > 1.1 {
		t.Errorf("%.3f times, %+v", amplification, s)
	}
}

// TestHeadsAlone updates heads of objects with large bodies, which are not written
// again until they are moved.
func TestHeadsAlone(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, 16<<20)
	defer func() { x.crash() }()
	body := content(1, 200<<10)
	is := func(head string) *Object {
		t.Helper()
		o := x.Get(key(1))
		if o == nil {
			t.Fatal("it is gone")
		}
		defer o.Close()
		if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, body) || string(o.Head) != head {
			t.Fatalf("head %q, %d bytes, %v", o.Head, len(got), err)
		}
		return o
	}
	x.Put(Item{Key: key(1), Head: []byte("first"), Body: body, Marks: []uint64{1}})
	drain(t, x)
	before := x.counts.written.Load()
	stale := is("first").Version
	x.Update(Item{Key: key(1), Head: []byte("second"), Marks: []uint64{2}}, stale)
	drain(t, x)
	if x.Update(Item{Key: key(1), Head: []byte("late")}, stale) {
		t.Error("another version was updated")
	}
	x.Update(Item{Key: key(1), Head: []byte("third"), Marks: []uint64{3}}, is("second").Version)
	drain(t, x)
	is("third")
	if wrote := x.counts.written.Load() - before; wrote > 1000 {
		t.Errorf("%d bytes were written for two heads", wrote)
	}
	x.crash()
	x = opened(t, folder, 16<<20)
	is("third")
	// Its body's segment is evicted, and the object is moved as a whole.
	for n := range 40 {
		put(x, 100+n, 1, 700<<10)
		drain(t, x)
		is("third")
	}
	x.crash()
	x = opened(t, folder, 16<<20)
	is("third")
	x.Purge(2) // a mark that it had once
	is("third")
	x.Purge(3)
	if x.Get(key(1)) != nil {
		t.Error("it was purged")
	}
}

// TestSlowReaders hold segments that are evicted. What they read stays, its room is
// counted, and when there is too much of it objects are refused, not the limit
// passed.
func TestSlowReaders(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, 4<<20)
	defer func() { x.crash() }()
	var held []*Object
	for n := range 60 {
		put(x, n, uint64(n+1), 200<<10)
		drain(t, x)
		if o := x.Get(key(n)); o != nil {
			held = append(held, o)
		}
		if s := x.State(); s.Bytes > 4<<20 {
			t.Fatalf("%d bytes", s.Bytes)
		}
	}
	s := x.State()
	// Of four segments one may linger before no other follows it.
	if s.Lingering == 0 || s.Lingering > 2 || s.RefusedPinned == 0 {
		t.Fatalf("%+v", s)
	}
	for n, o := range held {
		if _, err := verify(o, n); err != nil {
			t.Fatalf("object %d: %v", n, err)
		}
		o.Close()
	}
	put(x, 500, 501, 200<<10)
	drain(t, x)
	if s := x.State(); read(t, x, 500) != 501 || s.Lingering != 0 {
		t.Errorf("when all readers have left: %+v", s)
	}
}

// TestOvertaken asks for something newer while an object is being written: what was
// written does not show.
func TestOvertaken(t *testing.T) {
	for name, overtake := range map[string]func(*Tier){
		"deleted":   func(x *Tier) { x.Delete(key(1)) },
		"replaced":  func(x *Tier) { put(x, 1, 2, 100) },
		"purged":    func(x *Tier) { x.Purge(5) },
		"all gone":  (*Tier).PurgeAll,
		"too large": func(x *Tier) { x.Put(Item{Key: key(1), Body: make([]byte, smallestTier)}) },
	} {
		for moment := range 2 {
			t.Run(fmt.Sprintf("%s %d", name, moment), func(t *testing.T) {
				x := opened(t, t.TempDir(), smallestTier)
				defer x.crash()
				put(x, 1, 1, 100, 5)
				o := x.take()[0]
				if moment == 0 { // before it is written
					overtake(x)
				}
				if err := x.do(o); err != nil {
					t.Fatal(err)
				}
				if moment == 1 { // before it takes effect
					overtake(x)
				}
				if err := x.flush(); err != nil {
					t.Fatal(err)
				}
				if seed := read(t, x, 1); seed != 0 {
					t.Errorf("the object of %d is served", seed)
				}
				drain(t, x)
				if seed := read(t, x, 1); seed == 1 || name == "replaced" && seed != 2 {
					t.Errorf("then the object of %d is served", seed)
				}
			})
		}
	}
}

// TestQueueIsBounded puts more than a disk takes that does not move at all. What is
// refused is counted, its old version is gone, and each item is released once.
func TestQueueIsBounded(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, 256<<20)
	put(x, 0, 1, 100)
	drain(t, x)
	released := make([]int, 80)
	took := 0
	for n := range released {
		item := Item{Key: key(n), Body: make([]byte, 1<<20), Release: func() { released[n]++ }}
		if n == 0 {
			item.Body = make([]byte, 200<<20) // larger than a segment
		}
		if x.Put(item) {
			took++
		}
	}
	s := x.State()
	if s.RefusedQueue == 0 || s.RefusedSize != 1 || s.Queued > queueBytes || took != 79-int(s.RefusedQueue) {
		t.Errorf("took %d, %+v", took, s)
	}
	if x.Willing(1) {
		t.Error("it wants more")
	}
	drain(t, x)
	for n, times := range released {
		if times != 1 {
			t.Errorf("item %d was released %d times", n, times)
		}
	}
	x.crash()
	x = opened(t, folder, 256<<20)
	defer x.crash()
	if x.Get(key(0)) != nil {
		t.Error("a version came back whose successor was refused")
	}
}

// TestDeletesAreBounded asks for more deletes than may wait: everything is removed
// instead.
func TestDeletesAreBounded(t *testing.T) {
	x := opened(t, t.TempDir(), smallestTier)
	defer x.crash()
	put(x, 0, 1, 100)
	put(x, 1, 1, 100)
	drain(t, x)
	marks := make([]uint64, 1000)
	for n := range mostSmall/1000 + 1 {
		for i := range marks {
			marks[i] = uint64(n*1000 + i + 10)
		}
		x.Purge(marks...)
	}
	if len(x.queue) > mostSmall/1000 || x.Get(key(1)) != nil {
		t.Errorf("%d operations wait", len(x.queue))
	}
	drain(t, x)
	if read(t, x, 0) != 0 || x.small != 0 || x.purges.len() != 0 {
		t.Errorf("%+v, small %d", x.State(), x.small)
	}
}

// TestIndexIsBounded puts in more small objects than the index may have: the oldest go,
// although there is room for them on the disk.
func TestIndexIsBounded(t *testing.T) {
	x := opened(t, t.TempDir(), smallestTier)
	defer x.crash()
	x.mostObjects = 1000
	const last = 5000
	for n := range last + 1 {
		put(x, n, 1, 200)
		if n%100 == 0 {
			drain(t, x)
		}
	}
	inOne := int(x.segmentBytes) / (headerBytes + 200)
	if s := x.State(); s.Objects > x.mostObjects+inOne || s.Bytes > s.Size*3/4 {
		t.Errorf("%+v", s)
	}
	if read(t, x, last) == 0 || read(t, x, last-x.mostObjects/2) == 0 || read(t, x, 0) != 0 {
		t.Error("it is not the oldest that went")
	}
}

// TestPurgesAreForgotten asks that what was purged is remembered as long as the log
// has its record, and no longer.
func TestPurgesAreForgotten(t *testing.T) {
	x := opened(t, t.TempDir(), smallestTier)
	defer x.crash()
	for n := range 1000 {
		x.Purge(uint64(n))
		put(x, n, 1, 10<<10)
		drain(t, x)
	}
	if n := x.purges.len(); n == 0 || n > 110 {
		t.Errorf("%d purges are remembered", n)
	}
}

// TestPurgeThatIsRepeated is remembered when the record of the first is evicted and
// that of the second is not written yet.
func TestPurgeThatIsRepeated(t *testing.T) {
	var p purges
	p.clear()
	marks := []uint64{1}
	dead := func(sequence uint64) bool {
		h := header{marks: 1, sequence: sequence}
		dead, _ := p.judge(&h, appendMarks(nil, marks))
		return dead
	}
	p.add(marks, 5, false)
	listed := p.wrote(marks, 5, 1, nil)
	p.add(marks, 9, false)
	p.evict(listed, 1)
	if !dead(7) || dead(10) {
		t.Error("the second purge was forgotten with the first")
	}
	p.evict(p.wrote(marks, 9, 2, nil), 2)
	if dead(7) || p.len() != 0 {
		t.Error("a purge is remembered whose record is gone")
	}
}

// TestExpiredObjects are not served, and what they had replaced does not come back
// in their place.
func TestExpiredObjects(t *testing.T) {
	folder := t.TempDir()
	x := opened(t, folder, smallestTier)
	put(x, 1, 1, 100)
	put(x, 2, 2, 100)
	drain(t, x)
	expires := time.Unix(time.Now().Unix()-1, 0)
	x.Put(Item{Key: key(1), Expires: expires, Head: heading(1, 3, 0)})
	drain(t, x)
	if x.Get(key(1)) != nil || read(t, x, 2) != 2 {
		t.Error("an expired object is served, or another is not")
	}
	x.crash()
	x = opened(t, folder, smallestTier)
	defer x.crash()
	if x.Get(key(1)) != nil || read(t, x, 2) != 2 {
		t.Error("after a restart")
	}
}

// TestWilling is a hint by the bytes of the last second.
func TestWilling(t *testing.T) {
	now := time.Unix(1000, 0)
	r := rate{limit: 1000}
	if !r.below(now, 5000) {
		t.Error("an object that is larger than the rate is never wanted")
	}
	r.add(now, 800)
	if r.below(now, 300) || !r.below(now, 200) {
		t.Error("800 of 1000 bytes are gone")
	}
	if !r.below(now.Add(500*time.Millisecond), 700) {
		t.Error("500 bytes of them leaked away")
	}
	free := rate{}
	free.add(now, 1<<40)
	if !free.below(now, 1<<40) {
		t.Error("there is no limit")
	}
}

// TestManyAtOnce has callers of all kinds and a disk that turns over under them.
func TestManyAtOnce(t *testing.T) {
	folder := t.TempDir()
	x := New(Config{Path: folder, Size: 8 << 20}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var run, callers sync.WaitGroup
	run.Go(func() {
		if err := x.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	for !x.ready.Load() { // what is put before is not kept
		time.Sleep(time.Millisecond)
	}
	var seeds, served atomic.Uint64
	for caller := range 6 {
		callers.Go(func() {
			source := rand.New(rand.NewPCG(uint64(caller), 7))
			for range 1500 {
				n := source.IntN(200)
				switch source.IntN(12) {
				case 0:
					x.Delete(key(n))
				case 1:
					x.Purge(uint64(n % 50))
				case 2:
					x.PurgeSoft(uint64(n % 50))
				case 3, 4, 5, 6:
					size := source.IntN(30 << 10)
					if source.IntN(4) == 0 {
						size = source.IntN(300 << 10)
					}
					put(x, n, seeds.Add(1), size, uint64(n%50))
				case 7:
					if o := x.Get(key(n)); o != nil {
						x.Update(Item{Key: key(n), Head: o.Head, Marks: []uint64{uint64(n % 50)}}, o.Version)
						o.Close()
					}
				default:
					o := x.Get(key(n))
					if o == nil {
						continue
					}
					if _, err := verify(o, n); err != nil {
						t.Errorf("object %d: %v", n, err)
					}
					o.Close()
					served.Add(1)
				}
				if s := x.State(); s.Bytes > 8<<20 {
					t.Errorf("%d bytes", s.Bytes)
				}
			}
			if caller == 0 {
				x.PurgeAll()
			}
		})
	}
	callers.Wait()
	if err := x.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	run.Wait()
	s := x.State()
	if served.Load() == 0 || s.Queued != 0 || s.Damaged != 0 {
		t.Errorf("%d served, %+v", served.Load(), s)
	}
}

// What is not valid any more at the last moment is not taken, and what is kept stays.
func TestPutAsksAtLast(t *testing.T) {
	x := opened(t, t.TempDir(), smallestTier)
	defer closed(t, x)
	put(x, 1, 1, 1000)
	drain(t, x)
	released := 0
	item := Item{Key: key(1), Body: []byte("late"), Release: func() { released++ }, Valid: func() bool { return false }}
	if x.Put(item) || released != 1 {
		t.Errorf("it is taken, or released %d times", released)
	}
	drain(t, x)
	if seed := read(t, x, 1); seed != 1 {
		t.Errorf("the object is of %d", seed)
	}
}
