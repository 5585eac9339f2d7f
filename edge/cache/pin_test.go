package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// poisoned makes a cache overwrite what it frees.
func poisoned(cfg Config) *Cache {
	c := New(cfg)
	for i := range c.store.shards {
		c.store.shards[i].onFree = poison
	}
	return c
}

// text is a body that tells whose it is at every byte.
func text(seed uint64, size int) []byte {
	b := make([]byte, size+8)
	rng := rand.New(rand.NewPCG(seed, uint64(size)))
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rng.Uint64())
	}
	return b[:size]
}

// keep stores a body under a path, and tells in the header which it is.
func keep(c *Cache, path string, seed uint64, size int) bool {
	r := get(path)
	e, _ := entryAt(r, answer{
		status: 200, header: header(fresh, fmt.Sprintf("Seed: %d", seed)), length: int64(size), requested: epoch0, received: epoch0,
	})
	t := c.target(r)
	return c.keep(&t, e.complete(text(seed, size)), r, c.flights.epoch(t.hash).Load())
}

// checkText fails when a body is not the one that its header tells of.
func checkText(t interface{ Errorf(string, ...any) }, e *Entry) {
	var seed uint64
	fmt.Sscan(e.Header().Get("Seed"), &seed)
	size := len(e.Body())
	if e.Header().Get("Content-Length") != fmt.Sprint(size) || !bytes.Equal(e.Body(), text(seed, size)) {
		t.Errorf("a body of %d bytes is not that of seed %d and length %s", size, seed, e.Header().Get("Content-Length"))
	}
}

// Whatever is stored, found, held, released, invalidated and purged in whatever
// order: what is found is what was stored last, what is held does not change, and
// all memory comes back.
func TestTierAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.IntRange(1<<10, 128<<10).Draw(t, "max_object")
		c := poisoned(Config{
			Memory: rapid.Int64Range(int64(object), 2<<20).Draw(t, "memory"), MaxObject: int64(object),
			CollapseWaiters: 1, CollapseWait: time.Second,
		})
		stored := map[string]uint64{}
		var held []Result
		seed := uint64(0)
		path := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("/", rapid.IntRange(0, 60).Draw(t, "key")) })
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				p, size := path.Draw(t, "path"), rapid.IntRange(0, object).Draw(t, "size")
				if rapid.Bool().Draw(t, "small") {
					size %= 2000
				}
				seed++
				if keep(c, p, seed, size) {
					stored[p] = seed // else the one before stays
				} else if len(held) == 0 && int64(size) < c.State().Limit/2-64<<10 {
					t.Fatalf("%d bytes are not stored, although nothing is held", size)
				}
			},
			"find": func(t *rapid.T) {
				p := path.Draw(t, "path")
				found := c.Lookup(get(p), epoch0)
				if found.State != Fresh {
					return
				}
				if got := found.Entry.Header().Get("Seed"); got != fmt.Sprint(stored[p]) {
					t.Fatalf("%s: found %s, stored %d", p, got, stored[p])
				}
				held = append(held, found)
			},
			"release": func(t *rapid.T) {
				if len(held) > 0 {
					i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
					checkText(t, held[i].Entry)
					held[i].Release()
					held[i].Release() // means nothing
					held = append(held[:i], held[i+1:]...)
				}
			},
			"invalidate": func(t *rapid.T) {
				p := path.Draw(t, "path")
				c.Invalidate(request("POST", p), 200, nil)
				delete(stored, p)
				if looked(c, get(p), epoch0) != Miss {
					t.Fatalf("%s is there after it was invalidated", p)
				}
			},
			"purge": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					c.Purge()
					clear(stored)
				}
			},
			"": func(t *rapid.T) {
				for i := range held {
					checkText(t, held[i].Entry)
				}
				audit(t, c.store)
			},
		})
		for i := range held {
			held[i].Release()
		}
		c.Purge()
		audit(t, c.store)
		if s := c.State(); s.Bytes != 0 || s.Pinned != 0 || s.Entries != 0 || s.FillBytes != 0 {
			t.Fatalf("left behind: %+v", s)
		}
	})
}

// Eight at once, random sizes, and every byte is looked at while the memory that
// comes free is overwritten: outside of the heap as in production, and on it,
// where the race detector sees who reads what is not theirs.
func TestNobodyReadsFreedMemory(t *testing.T) {
	f := func(t *testing.T) {
		const object = 16 << 10
		c := poisoned(Config{Memory: 512 << 10, MaxObject: object, CollapseWaiters: 1, CollapseWait: time.Second})
		var workers sync.WaitGroup
		for w := range uint64(8) {
			workers.Go(func() {
				rng := rand.New(rand.NewPCG(w, 1))
				var held [4]Result
				for n := range 1000 {
					path := fmt.Sprint("/", rng.IntN(200))
					switch rng.IntN(20) {
					case 0:
						c.Invalidate(request("POST", path), 200, nil)
					case 1:
						if n%100 == 0 {
							c.Purge()
						}
					case 2, 3, 4, 5, 6, 7:
						size := rng.IntN(object)
						if rng.IntN(4) > 0 {
							size %= 2000
						}
						keep(c, path, rng.Uint64(), size)
					default:
						h := &held[rng.IntN(len(held))]
						if h.Entry != nil {
							checkText(t, h.Entry)
						}
						h.Release()
						*h = c.Lookup(get(path), epoch0)
						if h.Entry != nil {
							checkText(t, h.Entry)
						}
					}
				}
				for i := range held {
					if held[i].Entry != nil {
						checkText(t, held[i].Entry)
					}
					held[i].Release()
				}
			})
		}
		workers.Wait()
		audit(t, c.store)
		if s := c.State(); s.Pinned != 0 || s.FillBytes != 0 || s.Bytes > 512<<10 {
			t.Errorf("%+v", s)
		}
	}
	t.Run("mapped", f)
	t.Run("heap", func(t *testing.T) {
		heapOnly(t)
		f(t)
	})
}

// Readers of an entry that has left the store read on, and its memory counts until
// they have released it; then it is overwritten.
func TestRemovedEntryStaysReadable(t *testing.T) {
	c := poisoned(config())
	keep(c, "/", 1, 100<<10)
	found, again := c.Lookup(get("/"), epoch0), c.Lookup(get("/"), epoch0)
	body := found.Entry.Body()
	c.Purge()
	put(c, "/other", 200<<10)
	checkText(t, found.Entry)
	if s := c.State(); state(c, get("/")) != Miss || s.Entries != 1 || s.Bytes < 300<<10 || s.Pinned < 100<<10 {
		t.Errorf("%+v", s)
	}
	found.Release()
	checkText(t, again.Entry)
	again.Release()
	if s := c.State(); s.Pinned != 0 || s.Bytes > 201<<10 {
		t.Errorf("%+v", s)
	}
	if want := bytes.Repeat([]byte{0xdb}, len(body)); !bytes.Equal(body, want) {
		t.Error("what is freed is not overwritten: the tests above show nothing")
	}
	audit(t, c.store)
}

// What is being sent is not evicted: its memory would not come free.
func TestEvictionPassesOverWhatIsSent(t *testing.T) {
	c := poisoned(Config{Memory: 256 << 10, MaxObject: 32 << 10, CollapseWaiters: 1, CollapseWait: time.Second})
	keep(c, "/", 1, 1000)
	found := c.Lookup(get("/"), epoch0)
	for i := range 200 {
		put(c, fmt.Sprint("/", i), 10<<10)
	}
	if looked(c, get("/"), epoch0) != Fresh {
		t.Error("evicted")
	}
	checkText(t, found.Entry)
	found.Release()
	for i := range 1000 {
		put(c, fmt.Sprint("/", i), 10<<10)
	}
	if looked(c, get("/"), epoch0) != Miss {
		t.Error("it is never evicted any more")
	}
}

// However many read slowly, memory is bounded: large objects are refused first,
// are then copied within the budget of fills, and are not found after that; small
// ones are still served, and what somebody reads already costs nothing.
func TestSlowReadersAreBounded(t *testing.T) {
	const object = 256 << 10
	c := poisoned(Config{Memory: 4 << 20, MaxObject: object, CollapseWaiters: 1, CollapseWait: time.Second})
	for i := range 13 {
		keep(c, fmt.Sprint("/large/", i), uint64(i), object)
	}
	for i := range 20 {
		keep(c, fmt.Sprint("/small/", i), uint64(i), 1000)
	}
	var slow []Result
	missed := 0
	for i := range 13 {
		path := fmt.Sprint("/large/", i)
		found := c.Lookup(get(path), epoch0)
		if found.State != Fresh {
			missed++
			continue
		}
		slow = append(slow, found)
		if s := c.State(); s.Pinned > 4<<20 || s.FillBytes > s.FillLimit {
			t.Errorf("%d read: %+v", len(slow), s)
		}
		if found.Entry.hold.lent == nil {
			for range 100 {
				again := c.Lookup(get(path), epoch0)
				if again.Entry == nil || again.Entry.hold.lent != nil {
					t.Error("what is read already cannot be read again")
				}
				again.Release()
			}
		}
	}
	copies := 0
	for _, found := range slow {
		if found.Entry.hold.lent != nil {
			copies++
		}
	}
	if s := c.State(); copies == 0 || missed == 0 || s.FillBytes != int64(copies*object) {
		t.Errorf("%d copies, %d missed: %+v", copies, missed, c.State())
	}
	for i := range 20 {
		if looked(c, get(fmt.Sprint("/small/", i)), epoch0) != Fresh {
			t.Errorf("small %d is not served", i)
		}
	}
	for i := range slow {
		checkText(t, slow[i].Entry)
		slow[i].Release()
	}
	if s := c.State(); s.Pinned != 0 || s.FillBytes != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// A hit on a copy counts for the record that it is of, and for no other that has
// come into its slot.
func TestHitOnACopyCountsForItsRecord(t *testing.T) {
	const object = 100 << 10
	c := poisoned(Config{Memory: 1 << 20, MaxObject: object, CollapseWaiters: 1, CollapseWait: time.Second})
	for i := range 7 {
		keep(c, fmt.Sprint("/", i), uint64(i), object)
		if i < 6 {
			lookup(t, c, get(fmt.Sprint("/", i)), epoch0)
		}
	}
	e := lookup(t, c, get("/6"), epoch0).Entry
	if e.hold.lent == nil {
		t.Fatal("it is no copy")
	}
	s := &e.hold.shard.slots[e.hold.slot]
	if n := s.frequency.Load(); n != 1 {
		t.Errorf("a hit counts %d", n)
	}
	c.Invalidate(request("POST", "/6"), 200, nil)
	keep(c, "/other", 7, object)
	if s.id == e.hold.id || s.state == free {
		t.Fatal("nothing has come into the slot")
	}
	e.touch()
	if n := s.frequency.Load(); n != 0 {
		t.Errorf("another's hit counts %d", n)
	}
}

// Fetches leave no pins, however they end: confirmed, joined, found at the last
// moment, given up by their leader, and read by many from the store's copy.
func TestFetchesGiveTheirPinsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := poisoned(config())
		tagged := answers(200, "body", "Cache-Control: max-age=1", `Etag: "a"`)
		confirm := answers(304, "", "Cache-Control: max-age=1", `Etag: "a"`)
		settle := func(what string) {
			t.Helper()
			synctest.Wait()
			if s := c.State(); s.Pinned != 0 || s.FillBytes != 0 || s.Flights != 0 {
				t.Errorf("%s: %+v", what, s)
			}
			audit(t, c.store)
		}
		whole := func(what string, cr *crowd) {
			t.Helper()
			cr.wg.Wait()
			if n := cr.failures(); n > 0 {
				t.Errorf("%s: %d failed", what, n)
			}
			cr.bodies.Range(func(i, body any) bool {
				if body != "body" {
					t.Errorf("%s: %v got %q", what, i, body)
				}
				return true
			})
			settle(what)
		}
		read(t, c, get("/"), tagged)
		settle("stored")
		time.Sleep(2 * time.Second)
		if resp, body := read(t, c, get("/"), confirm); !resp.Revalidated || body != "body" {
			t.Errorf("%+v, %q", resp, body)
		}
		settle("confirmed")
		time.Sleep(2 * time.Second)

		// A crowd whose leader leaves waits for a confirmation; each reads when it likes.
		cr := &crowd{}
		cr.ask(c, 10, same(get("/")), func(int) Func {
			return func(ctx context.Context, r *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return confirm(ctx, r)
			}
		})
		whole("joined a confirmation", cr)

		// An entry is purged while it is validated, and whoever wanted that has left. The
		// answer comes all the same, and is of no use.
		time.Sleep(2 * time.Second)
		ctx, leave := context.WithTimeout(t.Context(), time.Second/2)
		defer leave()
		serve(c, get("/").WithContext(ctx), func(context.Context, *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return response(304, "", `Etag: "a"`, "Cache-Control: max-age=60"), nil
		})
		c.Purge()
		time.Sleep(time.Second)
		settle("purged")
		if state(c, get("/")) != Miss {
			t.Error("what was purged is there")
		}

		// Readers of a fill go on in the store's copy after it is purged.
		src := &endless{size: 100 << 10, gate: make(chan struct{})}
		first, _, _ := serve(c, get("/fill"), src.fetch(fresh))
		second, _, _ := serve(c, get("/fill"), noFetch(t))
		close(src.gate)
		synctest.Wait()
		if s := c.State(); s.Pinned == 0 || s.FillBytes != 0 {
			t.Errorf("the readers do not read the store's copy: %+v", s)
		}
		c.Purge()
		for _, resp := range []*Response{first, second} {
			if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, src.whole()) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			resp.Body.Close()
			resp.Body.Close() // means nothing
		}
		settle("read from the copy")
	})
}
