package cache

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// put stores a body of a size under a path, as a finished fetch does.
func put(c *Cache, path string, size int, lines ...string) bool {
	r := get(path)
	e, _ := entryAt(r, answer{
		status: 200, header: header(append(lines, fresh)...), length: int64(size), requested: epoch0, received: epoch0,
	})
	t := c.target(r)
	return c.keep(&t, e.complete(make([]byte, size)), r, c.flights.epoch(t.hash).Load())
}

// audit recounts what the store holds, and fails when a count is wrong.
func audit(t interface{ Fatalf(string, ...any) }, s *store) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		free, taken, apart := auditMemory(t, &sh.arena)
		var indexed, queued, entries int64
		for n, i := range sh.buckets {
			for ; i != 0; i = sh.slots[i].chain {
				s := &sh.slots[i]
				if s.state != inSmall && s.state != inMain || s.hash%uint64(len(sh.buckets)) != uint64(n) {
					t.Fatalf("shard: slot %d in state %d is in bucket %d", i, s.state, n)
				}
				if int64(s.head)+int64(s.body) > int64(s.length)*unit {
					t.Fatalf("shard: slot %d: %d and %d bytes in %d units", i, s.head, s.body, s.length)
				}
				indexed += s.size()
				entries++
			}
		}
		for _, q := range []*queue{&sh.small, &sh.main} {
			var bytes int64
			for i := q.head; i != 0; i = sh.slots[i].next {
				bytes += sh.slots[i].size()
			}
			if bytes != q.bytes {
				t.Fatalf("shard: a queue of %d bytes says %d", bytes, q.bytes)
			}
			queued += bytes
		}
		got := sh.bytes.Load()
		got -= sh.filed
		if got != taken || got != queued+apart || indexed != queued || sh.entries.Load() != entries || sh.taken() > sh.limit {
			t.Fatalf("shard: says %d bytes, %d taken, %d free, %d apart, index %d, queues %d; %d entries, says %d; holds %d of %d",
				got, taken, free, apart, indexed, queued, entries, sh.entries.Load(), sh.taken(), sh.limit)
		}
		sh.mu.Unlock()
	}
}

// The bound holds at every moment, whatever is stored, hit, replaced, refused,
// invalidated and purged at the same time.
func TestBoundHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		memory := rapid.Int64Range(0, 4<<20).Draw(t, "memory")
		object := rapid.Int64Range(1<<10, 256<<10).Draw(t, "max_object")
		c := New(Config{Memory: memory, MaxObject: object, CollapseWaiters: 1, CollapseWait: time.Second})
		type op struct{ kind, key, size, variant int }
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
			return op{
				rapid.IntRange(0, 19).Draw(t, "kind"), rapid.IntRange(0, 40).Draw(t, "key"),
				rapid.IntRange(0, int(object)).Draw(t, "size"), rapid.IntRange(0, 30).Draw(t, "variant"),
			}
		}), 50, 300).Draw(t, "ops")
		var stop atomic.Bool
		var watcher, workers sync.WaitGroup
		over := int64(0)
		watcher.Go(func() {
			for !stop.Load() {
				if b := c.State().Bytes; b > memory || b < 0 {
					over = b
				}
				runtime.Gosched()
			}
		})
		for w := range 4 {
			workers.Go(func() {
				for i := w; i < len(ops); i += 4 {
					o := ops[i]
					r := get(fmt.Sprintf("/%d", o.key), fmt.Sprintf("X: %d", o.variant))
					target := c.target(r)
					switch {
					case o.kind == 0:
						c.Invalidate(request("POST", r.URL.Path), 200, nil)
					case o.kind == 1 && i%50 == 0:
						c.Purge()
					case o.kind < 8:
						if e, _ := c.store.get(&target, r); e != nil {
							if o.kind == 2 {
								c.store.removeEntry(&target, e)
							}
							e.release()
						}
					default:
						vary := "Vary: X"
						if o.kind == 9 {
							vary = "Vary: Y"
						}
						e, _ := entryAt(r, answer{status: 200, header: header(fresh, vary), length: int64(o.size), received: epoch0})
						c.store.put(&target, e.complete(make([]byte, o.size)), r)
					}
				}
			})
		}
		workers.Wait()
		stop.Store(true)
		watcher.Wait()
		if over != 0 {
			t.Fatalf("%d bytes of %d", over, memory)
		}
		audit(t, c.store)
		c.Purge()
		audit(t, c.store)
		if s := c.State(); s.Bytes != 0 || s.Entries != 0 {
			t.Fatalf("after a purge: %+v", s)
		}
	})
}

// Nothing of an entry is on the heap but its links in the inverted index, whatever
// its header, and what it is said to take bounds what it takes.
func TestEntrySizeIsHonest(t *testing.T) {
	const n, size = 2000, 1000
	const keys, linkSize = 3, int64(unsafe.Sizeof(link[uint32]{})) // all, and two folders
	for _, fields := range []int{0, 5, 6, 12, 26, 40} {
		cfg := config()
		cfg.Memory = 64 << 20
		c := New(cfg)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		text := 0
		for i := range n {
			lines := make([]string, fields) // as parsed from the wire: every string on its own
			for j := range lines {
				lines[j] = fmt.Sprintf("X-Field-%d: some value of a field %d", j, i)
				text += len(lines[j])
			}
			put(c, fmt.Sprintf("/picture/%d.jpg?w=100", i), size, lines...)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		said, least, heap := c.State().Bytes, int64(n*size+text), int64(after.HeapAlloc)-int64(before.HeapAlloc)
		if said < least || said > least+n*(slotSize+3*unit+256+keys*keyBytes) {
			t.Errorf("%d entries of %d bytes in all, with %d fields, are said to take %d", n, least, fields+3, said)
		}
		if heap > n*(50+keys*linkSize) {
			t.Errorf("%d entries of %d fields take %d bytes of the heap", n, fields+3, heap)
		}
		audit(t, c.store)
		runtime.KeepAlive(c)
	}
}

// Neither what requests had beside the key, nor what tells variants apart, makes an
// entry larger than it is said to be.
func TestEntrySizeCountsTheRequest(t *testing.T) {
	const n = 1000
	padding := strings.Repeat("x", 3<<10)
	f := func(name string, p *Policy, ask func(i int) *http.Request, lines ...string) {
		t.Helper()
		cfg := config()
		cfg.Memory = 64 << 20
		c := New(cfg)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			readUnder(t, c, p, ask(i), answers(200, "", append(lines, fresh)...))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if said, took := c.State().Bytes/n, int64(after.HeapAlloc-before.HeapAlloc)/n; took > said {
			t.Errorf("%s: an entry takes %d, and is said to take %d", name, took, said)
		}
		runtime.KeepAlive(c)
	}
	f("query", nil, func(i int) *http.Request { return get(fmt.Sprintf("/?w=%d&utm=%s", i, padding)) }, `No-Vary-Search: params=("utm")`)
	byCookie := under(t, PolicyConfig{Key: KeyConfig{Cookies: []string{"a"}}})
	f("cookie", byCookie, func(i int) *http.Request { return get(fmt.Sprint("/", i), "Cookie: a=1; b="+padding) }, "Cache-Control: public")
}

func TestStoreKeepsWhatIsAskedForAgain(t *testing.T) {
	c := New(Config{Memory: 4 << 20, MaxObject: 64 << 10, CollapseWaiters: 1, CollapseWait: time.Second})
	hot := func(f func(path string)) {
		for i := range 20 {
			f(fmt.Sprintf("/hot/%d", i))
		}
	}
	hot(func(p string) { put(c, p, 10<<10) })
	for range 3 {
		hot(func(p string) { looked(c, get(p), epoch0) })
	}
	for i := range 2000 { // a scan of five times the memory
		put(c, fmt.Sprintf("/scan/%d", i), 10<<10)
	}
	hot(func(p string) {
		if looked(c, get(p), epoch0) != Fresh {
			t.Errorf("%s was pushed out by a scan", p)
		}
	})
}

// To purge everything gives its memory back to the kernel, be it more than goes back
// while the lock is held once.
func TestPurgeGivesMemoryBack(t *testing.T) {
	f := func(cfg Config, objects, size int) {
		c := New(cfg)
		for i := range objects {
			put(c, fmt.Sprint("/", i), size)
		}
		c.Purge()
		for i := range c.store.shards {
			if held := c.store.shards[i].held; held != 0 {
				t.Errorf("%d of %d bytes: shard %d holds %d", objects, size, i, held)
			}
		}
	}
	f(config(), 100, 50<<10)
	f(Config{Memory: 3 * shedBatch, MaxObject: shedBatch, CollapseWaiters: 1, CollapseWait: time.Second}, 2, shedBatch-1<<10)
}

// What was let go and comes back enters the main queue at once.
func TestGhost(t *testing.T) {
	g := ghost{make([][ghostWays]uint32, ghostSets(1<<20))}
	g.add(42)
	if g.take(43<<32) || !g.take(42) || g.take(42) {
		t.Error("a ghost is remembered once")
	}
	for i := range uint64(ghostWays + 1) {
		g.add(i << 40) // one set
	}
	if g.take(0) || !g.take(1<<40) {
		t.Error("the oldest of a set goes first")
	}
	g.add(7)
	g.clear()
	if g.take(7) {
		t.Error("remembered after clear")
	}
}

func TestLargerThanTheStore(t *testing.T) {
	cfg := Config{Memory: 64 << 10, MaxObject: 1 << 20, CollapseWaiters: 1, CollapseWait: time.Second}
	c := New(cfg)
	resp, body := read(t, c, get("/"), answers(200, strings.Repeat("x", 100<<10), fresh))
	if resp.Stored || len(body) != 100<<10 {
		t.Errorf("%+v, %d bytes", resp, len(body))
	}
	if s := c.State(); s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
}

// What a slot cannot tell the length of is not stored, however large the store is.
func TestLargerThanASlotCanTell(t *testing.T) {
	c := New(Config{Memory: 16 << 30, MaxObject: 6 << 30, CollapseWaiters: 1, CollapseWait: time.Second})
	if s := c.store; !s.fits(1<<32-1) || s.fits(1<<32) {
		t.Errorf("4 GiB fit: %t, a byte less: %t", s.fits(1<<32), s.fits(1<<32-1))
	}
}

func TestMarksAreBoundedAndEnd(t *testing.T) {
	var m marks
	now := epoch0
	m.add(1, now.Add(time.Second))
	if !m.has(1, now) || m.has(2, now) || m.has(1, now.Add(time.Second)) {
		t.Error("a mark lasts as long as it says")
	}
	m.add(1, now.Add(time.Millisecond)) // never shorter
	if !m.has(1, now.Add(time.Second/2)) {
		t.Error("shortened")
	}
	for i := range uint64(markWays) {
		m.add(1+(i+1)*markSets, now.Add(time.Minute))
	}
	if m.has(1, now) {
		t.Error("the mark that ends first makes room")
	}
	m.remove(1 + markSets)
	if m.has(1+markSets, now) || !m.has(1+2*markSets, now) {
		t.Error("remove")
	}
}

// A mark that was made while the clock was a day ahead is none when it is set
// right, and keeps no other from being made.
func TestMarksOfAWrongClockEnd(t *testing.T) {
	var m marks
	now := epoch0
	m.add(1, now.Add(24*time.Hour+uncacheableFor))
	if m.has(1, now) {
		t.Error("a mark lasts for a day")
	}
	m.add(1, now.Add(time.Second))
	if !m.has(1, now) || m.has(1, now.Add(time.Second)) {
		t.Error("the new mark does not hold, or for too long")
	}
}
