package cache

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/synctest"
)

// shelf is what the tables of purges purge from: tags by path, on two hosts.
var shelf = []struct{ host, path, lines string }{
	{"example.com", "/", "Surrogate-Key: home news"},
	{"example.com", "/a/1.jpg", "Surrogate-Key: news|Cache-Tag: picture"},
	{"example.com", "/a/1.jpg?w=1", "Cache-Tag: picture, small one"},
	{"example.com", "/a/b/2.jpg", `Cache-Groups: "g", "h"`},
	{"example.com", "/ab", `Cache-Groups: "g";x`},
	{"example.com", "/%61/3", ""},
	{"other.com", "/a/1.jpg", `Cache-Tag: picture|Cache-Groups: "g"`},
}

func stocked(t *testing.T) *Cache {
	t.Helper()
	c := New(config())
	for _, s := range shelf {
		lines := append(strings.Split(s.lines, "|"), "Cache-Control: max-age=60, stale-if-error=30", `Etag: "1"`)
		if s.lines == "" {
			lines = lines[1:]
		}
		read(t, c, on(s.host, s.path), answers(200, "body", lines...))
	}
	return c
}

// on makes a request as TLS brings it.
func on(host, path string, lines ...string) *http.Request {
	r := request("GET", "https://"+host+path, lines...)
	r.Host, r.RequestURI = host, path
	return r
}

// missing tells which of the shelf are not fresh any more.
func missing(c *Cache) string {
	var gone []string
	for _, s := range shelf {
		if looked(c, on(s.host, s.path), time.Now()) != Fresh {
			gone = append(gone, strings.TrimPrefix(s.host, "example.com")+s.path)
		}
	}
	return strings.Join(gone, " ")
}

func selection(s Selection, err error) Selection {
	if err != nil {
		panic(err)
	}
	return s
}

func TestPurgeBy(t *testing.T) {
	f := func(want string, select_ func(c *Cache) Selection) {
		t.Helper()
		for _, soft := range []bool{false, true} {
			c := stocked(t)
			s := select_(c)
			n := c.PurgeBy(s, soft)
			if got := missing(c); got != want || n != len(strings.Fields(want)) {
				t.Errorf("%+v, soft %t: %d gone, %q, want %q", s, soft, n, got, want)
			}
			if entries := c.State().Entries; !soft && entries != int64(len(shelf)-n) || soft && entries != int64(len(shelf)) {
				t.Errorf("%+v, soft %t: %d entries are left", s, soft, entries)
			}
			if again := c.PurgeBy(s, soft); again != 0 {
				t.Errorf("%+v, soft %t: %d are purged again", s, soft, again)
			}
			audit(t, c.store)
			auditKeys(t, c.store)
		}
	}
	byURL := func(host, path string) func(*Cache) Selection {
		return func(c *Cache) Selection { return c.SelectURL(on(host, path), nil) }
	}
	byPrefix := func(prefix string) func(*Cache) Selection {
		return func(*Cache) Selection { return selection(SelectPrefix(prefix)) }
	}
	byTag := func(tag string) func(*Cache) Selection { return func(*Cache) Selection { return SelectTag(tag) } }
	byGroup := func(origin, group string) func(*Cache) Selection {
		return func(*Cache) Selection { return selection(SelectGroup(origin, group)) }
	}
	f("/a/1.jpg", byURL("example.com", "/a/1.jpg"))
	f("/a/1.jpg?w=1", byURL("EXAMPLE.com:443", "/a/1.jpg?w=1"))
	f("", byURL("example.com", "/a/1.jpg?"))
	f("", byURL("example.com", "/none"))

	f("/ /a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg /ab /%61/3", byPrefix("https://example.com"))
	f("/a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg", byPrefix("https://example.com/a/"))
	f("/a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg /ab", byPrefix("https://Example.com:443/a"))
	f("/a/1.jpg /a/1.jpg?w=1", byPrefix("https://example.com/a/1"))
	f("/%61/3", byPrefix("https://example.com/%61/"))
	f("", byPrefix("http://example.com/"))
	f("", byPrefix("https://example.co"))

	f("/ /a/1.jpg", byTag("news"))
	f("/a/1.jpg /a/1.jpg?w=1 other.com/a/1.jpg", byTag("picture"))
	f("/a/1.jpg?w=1", byTag("small one"))
	f("", byTag("Picture"))
	f("", byTag("g")) // a group is no tag
	f("", byTag(""))

	f("/a/b/2.jpg /ab", byGroup("https://example.com", "g"))
	f("/a/b/2.jpg", byGroup("https://example.com/", "h"))
	f("other.com/a/1.jpg", byGroup("https://other.com", "g"))
	f("", byGroup("https://example.com:8443", "g"))
	f("", byGroup("https://example.com", "G"))

	f("/ /a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg /ab /%61/3 other.com/a/1.jpg", func(*Cache) Selection { return SelectAll() })
	f("", func(*Cache) Selection { return Selection{} })
}

func TestSelectionsThatAreRefused(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	prefix := func(text string) error { _, err := SelectPrefix(text); return err }
	f(prefix("example.com/a"), "is not a URL such as")
	f(prefix("/a"), "is not a URL such as")
	f(prefix("ftp://example.com/a"), "is not a URL such as")
	f(prefix("https://u@example.com/a"), "is not a URL such as")
	f(prefix("https:///a"), "is not a URL such as")
	f(prefix("https://example.com/%zz"), "is not a URL: invalid URL escape")
	f(prefix("https://example.com/a?b"), "has a query or a fragment")
	f(prefix("https://example.com?b"), "has a query or a fragment")
	_, err := SelectGroup("https://example.com/a", "g")
	f(err, "an origin is written https://host")
}

// All variants of a URL go with it.
func TestPurgeURLInAllVariants(t *testing.T) {
	c := New(config())
	for _, language := range []string{"de", "fr", "en"} {
		read(t, c, get("/", "Accept-Language: "+language), answers(200, language, fresh, "Vary: Accept-Language"))
	}
	if n := c.PurgeBy(c.SelectURL(request("PURGE", "/"), nil), true); n != 3 {
		t.Errorf("%d variants were softly purged", n)
	}
	if n := c.PurgeBy(c.SelectURL(request("PURGE", "/"), nil), false); n != 3 {
		t.Errorf("%d variants were purged", n)
	}
}

// TestSoftPurge: what was softly purged is validated before it answers, even if the
// request would take something stale, and may stand in for as long as if it had
// expired at the purge.
func TestSoftPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		answer := func(status int) Func {
			return answers(status, "body", "Cache-Control: max-age=3600, stale-if-error=30", `Etag: "1"`, "Surrogate-Key: a")
		}
		read(t, c, get("/"), answer(200))
		time.Sleep(10 * time.Second)
		for range 3 { // so that its head is kept decoded
			looked(c, get("/"), time.Now())
		}
		if n := c.PurgeBy(SelectTag("a"), true); n != 1 {
			t.Fatalf("%d softly purged", n)
		}
		for _, lines := range [][]string{nil, {"Cache-Control: max-stale"}, {"Cache-Control: max-stale=100"}} {
			if g := peek(t, c, get("/", lines...), time.Now(), nil); g.State != Stale || g.Why != FwdStale || !g.Entry.Purged() {
				t.Errorf("%q: %s %s", lines, g.State, g.Why)
			}
		}
		e := lookup(t, c, get("/"), time.Now()).Entry
		for after, want := range map[time.Duration]bool{0: true, 29 * time.Second: true, 30 * time.Second: false} {
			if got := e.StaleFor(time.Now().Add(after), get("/"), 0); got != want {
				t.Errorf("stands in %s after the purge: %t", after, got)
			}
		}
		if age := e.Age(time.Now()); age != 10*time.Second {
			t.Errorf("the age is %s", age)
		}
		if _, body := read(t, c, get("/"), answer(304)); body != "body" {
			t.Errorf("validated: %q", body)
		}
		if g := peek(t, c, get("/"), time.Now(), nil); g.State != Fresh || g.Entry.Purged() {
			t.Errorf("after a 304 it is %s", g.State)
		}
		// And it is found again, since its tags are those of the new entry.
		if n := c.PurgeBy(SelectTag("a"), false); n != 1 {
			t.Errorf("%d purged after the 304", n)
		}
	})
}

// What the response forbids to serve stale does not stand in after a soft purge.
func TestSoftPurgeKeepsProhibitions(t *testing.T) {
	c := New(config())
	read(t, c, get("/"), answers(200, "", "Cache-Control: max-age=60, must-revalidate", `Etag: "1"`))
	c.PurgeBy(SelectAll(), true)
	if e := lookup(t, c, get("/"), time.Now()).Entry; e == nil || e.StaleFor(time.Now(), get("/"), time.Hour) {
		t.Error("it stands in, or is gone")
	}
}

// A softly purged entry keeps its place: what is evicted, and when, does not change.
func TestSoftPurgeKeepsThePolicy(t *testing.T) {
	c := New(Config{Memory: 64 << 10, MaxObject: 8 << 10, CollapseWaiters: 1, CollapseWait: time.Second})
	for i := range 5 {
		put(c, fmt.Sprint("/", i), 1<<10)
		looked(c, get(fmt.Sprint("/", i)), epoch0)
	}
	order := func() (all []string) {
		for _, q := range []*queue{&c.store.shards[0].small, &c.store.shards[0].main} {
			for i := q.head; i != 0; i = c.store.shards[0].slots[i].next {
				sl := &c.store.shards[0].slots[i]
				all = append(all, fmt.Sprint(c.store.shards[0].key(i).path, sl.frequency.Load(), sl.proven))
			}
		}
		return all
	}
	before := order()
	c.PurgeBy(SelectAll(), true)
	if after := order(); !slices.Equal(after, before) {
		t.Errorf("%v, before %v", after, before)
	}
	audit(t, c.store)
	auditKeys(t, c.store)
}

// A 304 may change the tags: the newer ones count.
func TestTagsOfAValidatedEntry(t *testing.T) {
	c := New(config())
	read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=60", `Etag: "1"`, "Surrogate-Key: old"))
	read(t, c, get("/", "Cache-Control: no-cache"), answers(304, "", "Cache-Control: max-age=60", `Etag: "1"`, "Surrogate-Key: new"))
	if n := c.PurgeBy(SelectTag("old"), false); n != 0 {
		t.Errorf("%d found by the old tag", n)
	}
	if n := c.PurgeBy(SelectTag("new"), false); n != 1 {
		t.Errorf("%d found by the new tag", n)
	}
}

// TestGroupInvalidation: RFC 9875 section 3.
func TestGroupInvalidation(t *testing.T) {
	f := func(want, method string, status int, field string) {
		t.Helper()
		c := stocked(t)
		r := on("example.com", "/form")
		r.Method = method
		read(t, c, r, answers(status, "", "Cache-Group-Invalidation: "+field))
		if got := missing(c); got != want {
			t.Errorf("%s -> %d %s: gone %q, want %q", method, status, field, got, want)
		}
	}
	f("/a/b/2.jpg /ab", "POST", 200, `"g"`) // of this origin only
	f("/a/b/2.jpg", "PUT", 201, `"none", "h"`)
	f("/a/b/2.jpg /ab", "FROB", 303, `"h";x, "g"`)
	f("", "GET", 200, `"g"`) // MUST be ignored
	f("", "HEAD", 200, `"g"`)
	f("", "OPTIONS", 200, `"g"`)
	f("", "POST", 500, `"g"`)
	f("", "POST", 200, `g`)
	f("", "POST", 200, `"news"`) // a tag is no group
}

// TestPurgeDuringFill: a fetch that began before a purge is not stored, whenever its
// tags become known, and answers nobody who asks afterwards.
func TestPurgeDuringFill(t *testing.T) {
	lines := []string{"Cache-Control: max-age=60", "Surrogate-Key: a", `Cache-Groups: "g"`}
	f := func(name string, purged bool, act func(c *Cache)) {
		for _, headed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/headed=%t", name, headed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := New(config())
					head, tail := make(chan struct{}), make(chan struct{})
					fetches := 0
					fetch := func(context.Context, *http.Request) (*http.Response, error) {
						fetches++
						body := fmt.Sprint("answer ", fetches)
						resp := response(200, body, lines...)
						if fetches == 1 {
							<-head
							resp.Body = &held{Reader: strings.NewReader(body), tail: tail}
						}
						return resp, nil
					}
					r := on("example.com", "/dir/file")
					var got [4]string
					var all sync.WaitGroup
					all.Go(func() { _, got[0] = read(t, c, r.Clone(t.Context()), fetch) })
					synctest.Wait()
					if headed {
						close(head)
						synctest.Wait()
					}
					act(c)
					if headed && peek(t, c, r, time.Now(), nil).Joins == purged {
						t.Errorf("would join: %t", !purged)
					}
					for i := range got[1:] {
						all.Go(func() { _, got[1+i] = read(t, c, r.Clone(t.Context()), fetch) })
					}
					synctest.Wait()
					if !headed {
						close(head)
					}
					close(tail)
					all.Wait()
					synctest.Wait()
					want, most := "answer 1", 1
					if purged {
						want, most = "answer 2", 2 // they share one fetch of their own
					}
					if got != [...]string{"answer 1", want, want, want} || fetches != most {
						t.Errorf("got %q in %d fetches, want %s for who came after", got, fetches, want)
					}
					if _, body := read(t, c, r, fetch); body != want {
						t.Errorf("stored is %q, want %q", body, want)
					}
				})
			})
		}
	}
	f("url", true, func(c *Cache) { c.PurgeBy(c.SelectURL(on("example.com", "/dir/file"), nil), false) })
	f("tag", true, func(c *Cache) { c.PurgeBy(SelectTag("a"), false) })
	f("tag softly", true, func(c *Cache) { c.PurgeBy(SelectTag("a"), true) })
	f("group", true, func(c *Cache) { c.PurgeBy(selection(SelectGroup("https://example.com", "g")), false) })
	f("group invalidation", true, func(c *Cache) {
		r := on("example.com", "/form")
		r.Method = "POST"
		c.Invalidate(r, 200, header(`Cache-Group-Invalidation: "g"`))
	})
	f("prefix", true, func(c *Cache) { c.PurgeBy(selection(SelectPrefix("https://example.com/dir/")), false) })
	f("all", true, func(c *Cache) { c.PurgeBy(SelectAll(), false) })
	f("other tag", false, func(c *Cache) { c.PurgeBy(elsewhere(c, lines, SelectTag), false) })
	f("other prefix", false, func(c *Cache) {
		c.PurgeBy(elsewhere(c, lines, func(name string) Selection {
			return selection(SelectPrefix("https://example.com/" + name + "/"))
		}), false)
	})
}

// elsewhere makes a selection whose purge is remembered in another place than those
// of the entry's keys, since what shares a place is taken for purged.
func elsewhere(c *Cache, lines []string, make func(name string) Selection) Selection {
	t := c.target(on("example.com", "/dir/file"))
	keys, _ := entryKeys(&t, response(200, "", lines...).Header)
	places := uint64(len(c.purges.last))
	for n := 0; ; n++ {
		s := make(fmt.Sprint("other", n))
		if !slices.ContainsFunc(keys, func(key uint64) bool { return key%places == s.key%places }) {
			return s
		}
	}
}

// A held body ends when it is let go.
type held struct {
	*strings.Reader
	tail chan struct{}
}

func (h *held) Read(p []byte) (int, error) {
	if h.Len() == 0 {
		<-h.tail
	}
	return h.Reader.Read(p)
}

func (h *held) Close() error { return nil }

// auditKeys compares the inverted index with a naive scan of the store.
func auditKeys(t interface{ Fatalf(string, ...any) }, s *store) {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		want, filed := map[uint64][]uint32{}, int64(0)
		sh.each(func(i uint32, t target, e *Entry) {
			keys, _ := entryKeys(&t, e.header)
			for _, key := range keys {
				want[key] = append(want[key], i)
				filed += keyBytes
			}
		})
		if filed != sh.filed {
			t.Fatalf("shard %d: keys count %d bytes, and are said to count %d", i, filed, sh.filed)
		}
		if len(want) != len(sh.keyed.numbers) {
			t.Fatalf("shard %d: %d keys in the index, %d in the entries", i, len(sh.keyed.numbers), len(want))
		}
		for key, slots := range want {
			got := refsOf(&sh.keyed, key)
			if len(got) != len(slots) || sh.keyed.length(key) != len(slots) {
				t.Fatalf("shard %d: key %x leads to %d slots of %d", i, key, len(got), len(slots))
			}
			for _, n := range slots {
				if !slices.Contains(got, n) {
					t.Fatalf("shard %d: key %x does not lead to %s", i, key, sh.key(n).path)
				}
			}
		}
		sh.mu.Unlock()
	}
}

// each calls f with all slots of the index.
func (sh *shard) each(f func(i uint32, t target, e *Entry)) {
	for _, i := range sh.buckets {
		for ; i != 0; i = sh.slots[i].chain {
			f(i, sh.key(i), sh.entry(i))
		}
	}
}

// TestIndexIsANaiveScan: after any history of stores, evictions, validations and
// purges the index finds what a scan of all entries would, and a purge purges it.
func TestIndexIsANaiveScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New(Config{Memory: rapid.Int64Range(24<<10, 512<<10).Draw(t, "memory"), MaxObject: 8 << 10, CollapseWaiters: 1})
		words := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			path := "/" + words.Draw(t, "folder") + "/" + words.Draw(t, "folder") + "/" + words.Draw(t, "file")
			s := rapid.SampledFrom([]Selection{
				SelectAll(), SelectTag(words.Draw(t, "tag")), c.SelectURL(on("example.com", path), nil),
				selection(SelectGroup("https://example.com", words.Draw(t, "group"))),
				selection(SelectPrefix("https://example.com" + path[:rapid.IntRange(1, len(path)).Draw(t, "cut")])),
			}).Draw(t, "selection")
			switch op := rapid.IntRange(0, 11).Draw(t, "op"); {
			case op > 3:
				tags := strings.Join(rapid.SliceOfN(words, 0, 3).Draw(t, "tags"), " ")
				groups := `"` + strings.Join(rapid.SliceOfN(words, 1, 3).Draw(t, "groups"), `", "`) + `"`
				r := on("example.com", path, "X: "+words.Draw(t, "variant"))
				size := rapid.IntRange(0, 8<<10).Draw(t, "size")
				e, _ := entryAt(r, answer{
					status: 200, length: int64(size), received: time.Now(), requested: time.Now(),
					header: header("Surrogate-Key: "+tags, "Cache-Groups: "+groups, "Vary: X", fresh),
				})
				target := c.target(r)
				c.keep(&target, e.complete(make([]byte, size)), r, c.flights.epoch(target.hash).Load())
			case op == 0:
				want := countNamed(c, &s, false)
				if got := c.PurgeBy(s, false); got != want {
					t.Fatalf("%+v: %d purged, %d found by a scan", s, got, want)
				}
				if left := countNamed(c, &s, false); left != 0 {
					t.Fatalf("%+v: %d are left", s, left)
				}
			case op == 1:
				want := countNamed(c, &s, true)
				if got := c.PurgeBy(s, true); got != want {
					t.Fatalf("%+v: %d softly purged, %d found by a scan", s, got, want)
				}
			case op == 2:
				want := countNamed(c, &s, false)
				if got := len(listAll(t, c, s, rapid.IntRange(1, 5).Draw(t, "limit"))); got != want {
					t.Fatalf("%+v: %d listed, %d found by a scan", s, got, want)
				}
			default:
				r := on("example.com", path)
				r.Method = http.MethodPost
				c.Invalidate(r, 200, nil)
			}
			auditKeys(t, c.store)
			audit(t, c.store)
		}
	})
}

// countNamed counts what a selection names by looking at everything; with fresh
// only what is not softly purged.
func countNamed(c *Cache, s *Selection, fresh bool) (n int) {
	for i := range c.store.shards {
		c.store.shards[i].each(func(_ uint32, t target, e *Entry) {
			keys, _ := entryKeys(&t, e.header)
			named := slices.Contains(keys, s.key) && s.names(&t)
			if s.kind == KindURL {
				named = t.equal(&s.target)
			}
			if named && !(fresh && e.purged) {
				n++
			}
		})
	}
	return n
}

// listAll walks all pages, each of which must be within its limit.
func listAll(t interface{ Fatalf(string, ...any) }, c *Cache, s Selection, limit int) (all []Look) {
	for cursor := ""; ; {
		page, next, err := c.List(s, cursor, limit, time.Now())
		if err != nil || len(page) > limit && s.kind != KindURL {
			t.Fatalf("a page of %d, %v", len(page), err)
		}
		all = append(all, page...)
		if cursor = next; cursor == "" {
			return all
		}
	}
}

// TestPurgeAmongWriters: eight writers, readers and purges at once; nothing that was
// asked for before a purge is there after it.
func TestPurgeAmongWriters(t *testing.T) {
	cfg := config()
	cfg.Memory = 1 << 20
	c := poisoned(cfg)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 200 {
				tag := fmt.Sprint("t", i%3)
				r := on("example.com", fmt.Sprintf("/%d/%d", w, i%20))
				read(t, c, r, answers(200, strings.Repeat("x", i*20), fresh, "Surrogate-Key: "+tag+" every"))
				looked(c, on("example.com", fmt.Sprintf("/%d/%d", 7-w, i%20)), time.Now())
			}
		})
	}
	for p := range 4 {
		wg.Go(func() {
			for i := range 100 {
				switch p {
				case 0:
					c.PurgeBy(SelectTag(fmt.Sprint("t", i%3)), i%2 == 0)
				case 1:
					c.PurgeBy(selection(SelectPrefix(fmt.Sprintf("https://example.com/%d/", i%8))), i%2 == 0)
				case 2:
					c.PurgeBy(SelectAll(), i%2 == 0)
				default:
					listAll(t, c, SelectTag("every"), 7)
				}
			}
		})
	}
	wg.Wait()
	audit(t, c.store)
	auditKeys(t, c.store)
	c.Purge()
	if s := c.State(); s.Entries != 0 || s.Bytes != 0 || s.Pinned != 0 || s.Purges.All < 51 || s.Purged == 0 {
		t.Errorf("%+v", s)
	}
}

// What a response says is bounded, what is beyond is counted, and all of it counts
// as the entry's memory.
func TestTagsAreBounded(t *testing.T) {
	c := New(config())
	store := func(path, tags string) int64 {
		before := c.State().Bytes
		read(t, c, on("example.com", path), answers(200, "", fresh, "Surrogate-Key: "+tags))
		return c.State().Bytes - before
	}
	few, many := store("/a", "t0"), ""
	for i := range 200 {
		many += fmt.Sprint(" t", i)
	}
	got := store("/b", many)
	if want := few + (maxTags-1)*keyBytes + int64(len(many)-len("t0")) - 1; max(got-want, want-got) > unit { // records are whole units
		t.Errorf("an entry of %d tags counts %d bytes, want %d", maxTags, got, want)
	}
	if n := c.State().TagsIgnored; n != 200-maxTags {
		t.Errorf("%d tags were ignored", n)
	}
	if c.PurgeBy(SelectTag("t63"), false) != 1 || c.PurgeBy(SelectTag("t64"), false) != 0 {
		t.Error("the first 64 tags count")
	}
}

func TestSelectTags(t *testing.T) {
	c := stocked(t)
	purged := func(lines ...string) (int, error) {
		all, err := c.SelectTags(on("example.com", "/", lines...))
		n := 0
		for _, s := range all {
			n += c.PurgeBy(s, true)
		}
		return n, err
	}
	if all, err := c.SelectTags(on("example.com", "/")); all != nil || err != nil {
		t.Errorf("without fields: %v, %v", all, err)
	}
	if n, err := purged("Surrogate-Key: home none", "Cache-Tag: small one"); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := purged(`Cache-Groups: "g"`); n != 2 || err != nil { // of the request's origin
		t.Errorf("%d, %v", n, err)
	}
	for _, lines := range []string{"Surrogate-Key: ", "Cache-Tag: ,", "Cache-Groups: g", "Surrogate-Key: " + strings.Repeat("t ", 65)} {
		if n, err := purged(lines); n != 0 || err != ErrTags {
			t.Errorf("%q: %d, %v", lines, n, err)
		}
	}
}

func TestList(t *testing.T) {
	c := stocked(t)
	f := func(s Selection, want ...string) {
		t.Helper()
		urls := map[string]bool{}
		for _, l := range listAll(t, c, s, 1) {
			urls[l.URL] = true
		}
		if got := slices.Sorted(maps.Keys(urls)); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(SelectTag("news"), "https://example.com/", "https://example.com/a/1.jpg")
	f(selection(SelectPrefix("https://example.com/a/1")), "https://example.com/a/1.jpg", "https://example.com/a/1.jpg?w=1")
	f(c.SelectURL(on("other.com", "/a/1.jpg"), nil), "https://other.com/a/1.jpg")
	f(SelectTag("none"))
	for _, cursor := range []string{"x", "1", "1.x", "-1.2", "0.99999999999", "."} {
		if _, _, err := c.List(SelectAll(), cursor, 1, time.Now()); err != errCursor {
			t.Errorf("the cursor %q gives %v", cursor, err)
		}
	}
	if page, next, err := c.List(SelectAll(), "999.7", 1, time.Now()); len(page) > 0 || next != "" || err != nil {
		t.Errorf("behind the end: %v, %q, %v", page, next, err)
	}
	page, _, _ := c.List(c.SelectURL(on("example.com", "/a/1.jpg?w=1"), nil), "", 0, time.Now())
	if len(page) != 1 || page[0].Status != 200 || page[0].Bytes != 4 || page[0].Tier != "memory" || page[0].Soft ||
		page[0].TTL <= 0 || !slices.Equal(page[0].Tags, []string{"picture", "small one"}) {
		t.Errorf("%+v", page)
	}
}

func TestLookOfAVariant(t *testing.T) {
	c := New(config())
	lines := []string{"A: x", "Cookie: secret"}
	read(t, c, get("/", lines...), answers(200, "", "Cache-Control: max-age=60, public", "Vary: A, B, Cookie", `Cache-Groups: "g"`))
	found := lookup(t, c, get("/", lines...), time.Now())
	l := found.Look(time.Now())
	if !slices.Equal(l.Vary, []string{"A: x", "B", "Cookie: (hidden)"}) || !slices.Equal(l.Groups, []string{"g"}) {
		t.Errorf("%+v", l)
	}
	if missed := lookup(t, c, get("/none"), time.Now()); missed.Look(time.Now()) != nil {
		t.Error("a look at nothing")
	}
}

// What a policy keeps beside the fields of Vary is told in words, but for the values
// of cookies.
func TestLookUnderAPolicy(t *testing.T) {
	c, p := New(config()), under(t, PolicyConfig{Key: KeyConfig{IgnoreQuery: []string{"utm_*"}, Cookies: []string{"group", "none"}, Device: true}})
	r := get("/", "Cookie: group=secret")
	readUnder(t, c, p, r, answers(200, "x", "Cache-Control: max-age=60"))
	g := c.Peek(r, time.Now(), p)
	l := g.Look(time.Now())
	if !slices.Equal(l.Vary, []string{"cookie:group: (hidden)", "cookie:none", "device: desktop"}) || !strings.Contains(l.Query, "utm_*") {
		t.Errorf("%+v", l)
	}
}

// A part is not shown as if it were the whole.
func TestLookAtAPart(t *testing.T) {
	f := func(status, size int, want int64, lines ...string) {
		t.Helper()
		c := New(config())
		read(t, c, get("/", "Range: bytes=0-2"), answers(status, "abc"[:size], append(lines, "Cache-Control: max-age=60", `Etag: "a"`)...))
		page, _, _ := c.List(SelectAll(), "", 10, time.Now())
		if len(page) != 1 || page[0].Bytes != int64(size) || page[0].Whole != want {
			t.Errorf("%+v, want a whole of %d", page, want)
		}
	}
	f(200, 3, 0)
	f(206, 3, 10, "Content-Range: bytes 0-2/10")
	f(206, 3, -1, "Content-Range: bytes 0-2/*")
}

// BenchmarkPurgeTag purges 10,000 entries of a tag among 100,000 others.
func BenchmarkPurgeTag(b *testing.B) { benchPurge(b, SelectTag("hot"), false) }

// BenchmarkPurgeTagSoftly marks as many as stale.
func BenchmarkPurgeTagSoftly(b *testing.B) { benchPurge(b, SelectTag("hot"), true) }

// BenchmarkPurgePrefix purges as many that lie in a folder.
func BenchmarkPurgePrefix(b *testing.B) {
	benchPurge(b, selection(SelectPrefix("http://example.com/hot/")), false)
}

func benchPurge(b *testing.B, s Selection, soft bool) {
	const hot, cold = 10_000, 100_000
	cfg := config()
	cfg.Memory = 1 << 30
	c := New(cfg)
	fill := func(folder, tag string, n int) {
		for i := range n {
			put(c, fmt.Sprintf("/%s/%d.jpg", folder, i), 100, "Surrogate-Key: "+tag+" all", "Content-Type: image/jpeg")
		}
	}
	fill("cold", "cold", cold)
	b.ReportAllocs()
	var used time.Duration
	for b.Loop() {
		b.StopTimer()
		fill("hot", "hot", hot)
		began := cpu(b)
		b.StartTimer()
		if n := c.PurgeBy(s, soft); n != hot {
			b.Fatalf("%d were purged", n)
		}
		used += cpu(b) - began
	}
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/hot, "ns/entry")
}

// TestPurgeURLByAllItsKeys: what a policy or No-Vary-Search keeps under another key
// is purged by the URL as it was asked for, or as it could have been.
func TestPurgeURLByAllItsKeys(t *testing.T) {
	p := under(t, PolicyConfig{Key: KeyConfig{IgnoreQuery: []string{"utm_*"}}})
	f := func(asked, purged string, lines ...string) {
		t.Helper()
		for _, soft := range []bool{false, true} {
			c := New(config())
			readUnder(t, c, p, get(asked), answers(200, "x", append(lines, "Cache-Control: max-age=60")...))
			s := c.SelectURL(request("PURGE", purged), p)
			if page, _, err := c.List(s, "", 0, time.Now()); err != nil || len(page) != 1 {
				t.Errorf("%s by %s: %d in the list, %v", asked, purged, len(page), err)
			}
			if n := c.PurgeBy(s, soft); n != 1 {
				t.Errorf("%s by %s: purged %d", asked, purged, n)
			}
			if g := peek(t, c, get(asked), time.Now(), p); g.State == Fresh {
				t.Errorf("%s by %s: still a hit", asked, purged)
			}
		}
	}
	f("/a?w=1", "/a?w=1")
	f("/a?w=1&utm_source=x", "/a?w=1&utm_source=y")
	f("/a?w=1&v=1", "/a?w=1&v=2", `No-Vary-Search: params=("v")`)
	f("/a?w=1&v=1&utm_source=x", "/a?v=2&w=1", `No-Vary-Search: params=("v")`)
}
