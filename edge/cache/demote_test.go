package cache

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// What is asked for once is not written, what is asked for again is, and outlives
// the process.
func TestDiskKeepsWhatIsAskedForAgain(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	for i := range 50 {
		s.asks(1, get(fmt.Sprint("/once/", i)), answers(200, "once", fresh))
	}
	if n := s.objects(); n != 0 {
		t.Errorf("%d objects that were asked for once", n)
	}
	s.asks(3, get("/a?b"), answers(200, "again", fresh, `Etag: "1"`, "X: y"))
	if n := s.objects(); n != 1 {
		t.Errorf("%d objects, want the one that was asked for again", n)
	}
	s = s.again(folder)
	found := lookup(t, s.Cache, get("/a?b"), time.Now())
	if found.State != Fresh || string(found.Entry.Body()) != "again" || found.Entry.Header().Get("X") != "y" {
		t.Fatalf("%+v", found)
	}
	if st := s.State(); st.Hits != 1 || st.Disk.Recalled != 1 || st.Disk.Read != 5 || st.Entries != 1 {
		t.Errorf("%+v, %+v", st, st.Disk)
	}
	s.mustFind(get("/a?b"), "again") // now from memory
	if st := s.State(); st.Disk.Recalled != 1 {
		t.Errorf("read %d times", st.Disk.Recalled)
	}
	for _, other := range []string{"/a", "/a?", "/a?B", "/A?b"} {
		s.mustMiss(get(other))
	}
}

// A ghost that comes back was asked for again, too.
func TestDiskKeepsGhosts(t *testing.T) {
	c := config()
	c.Memory, c.MaxObject = 1<<20, 64<<10
	s := onShelf(t, t.TempDir(), c)
	body := strings.Repeat("x", 32<<10)
	for range 2 {
		for i := range 40 {
			s.asks(1, get(fmt.Sprint("/", i)), answers(200, body, fresh))
		}
	}
	if s.objects() == 0 {
		t.Error("nothing was written of what came back")
	}
}

// Variants keep apart, whatever makes them, and so do the policies they are of.
func TestDiskVariants(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	for _, lang := range []string{"de", "en", "fr"} {
		s.asks(2, get("/v", "Accept-Language: "+lang), answers(200, lang, fresh, "Vary: Accept-Language"))
	}
	device, err := NewPolicy(PolicyConfig{Key: KeyConfig{Device: true, Query: "none"}})
	if err != nil {
		t.Fatal(err)
	}
	byPolicy := func(s *shelved, agent string) (res Result) {
		res.Policy = device
		s.Find(get("/p?"+agent, "User-Agent: "+agent), time.Now(), &res)
		return res
	}
	for _, agent := range []string{"Mobi", "else"} {
		for range 2 {
			found := byPolicy(s, agent)
			if found.State != Fresh {
				resp, err := s.Fetch(t.Context(), get("/p?"+agent, "User-Agent: "+agent), found, answers(200, agent, fresh))
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			found.Release()
		}
	}
	s.ready()
	s = s.again(folder)
	for _, lang := range []string{"fr", "de", "en"} {
		s.mustFind(get("/v", "Accept-Language: "+lang), lang)
	}
	s.mustMiss(get("/v", "Accept-Language: it"))
	for _, agent := range []string{"else", "Mobi"} {
		found := byPolicy(s, agent)
		if found.State != Fresh || string(found.Entry.Body()) != agent {
			t.Errorf("%s: %s", agent, found.State)
		}
		found.Release()
	}
	s.mustMiss(get("/p"))
}

// What lets a visitor in is not written; what it has no part in choosing is.
func TestDiskHoldsNoCredentials(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	group, err := NewPolicy(PolicyConfig{Key: KeyConfig{Query: "all", Cookies: []string{"group"}}})
	if err != nil {
		t.Fatal(err)
	}
	f := func(objects int, path, field string, lines ...string) {
		t.Helper()
		r := get(path, lines...)
		for range 3 {
			found := Result{Policy: group}
			s.Find(r, time.Now(), &found)
			if found.State != Fresh {
				resp, err := s.Fetch(t.Context(), r, found, answers(200, "x", "Cache-Control: public, max-age=60", field))
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			found.Release()
		}
		s.ready()
		if n := s.objects(); n != objects {
			t.Errorf("%s: %d objects, want %d", path, n, objects)
		}
	}
	f(0, "/cookie", "Vary: Cookie", "Cookie: session=hush")
	f(0, "/authorization", "Vary: Authorization", "Authorization: Bearer hush")
	f(0, "/twice", "X: y", "Cookie: group=1; session=hush; group=2")
	f(1, "/group", "X: y", "Cookie: group=1; session=hush")
	f(2, "/public", "X: y", "Authorization: Bearer hush")
	segments, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	for _, name := range segments {
		if b, err := os.ReadFile(name); err != nil || strings.Contains(string(b), "hush") {
			t.Errorf("%s: %v, or a secret in it", name, err)
		}
	}
}

// A newer response outdates the copy on the disk, be it stored or confirmed.
func TestDiskIsOvertaken(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	s.asks(2, get("/a"), answers(200, "old", fresh, `Etag: "1"`))
	s.asks(1, get("/a", "Cache-Control: no-cache"), answers(200, "new", fresh, `Etag: "2"`))
	empty := s.again(folder)
	empty.mustFind(get("/a"), "new") // the old one had been asked for, so the new one is worth it
	empty.asks(1, get("/a", "Cache-Control: no-cache"), func(_ context.Context, r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") != `"2"` {
			t.Errorf("asked with %q", r.Header)
		}
		return response(304, "", fresh, `Etag: "2"`, "X: told"), nil
	})
	s = empty.again(folder)
	s.mustMiss(get("/a"))
}

// Who asks for validation again and again does not have the body written each time.
func TestValidationWritesNoBody(t *testing.T) {
	s := onShelf(t, t.TempDir(), config())
	const size, times = 10 << 10, 20
	s.asks(3, get("/a"), answers(200, strings.Repeat("x", size), fresh, `Etag: "1"`))
	s.asks(times, get("/a", "Cache-Control: no-cache"), func(_ context.Context, r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") != `"1"` {
			t.Errorf("asked with %q", r.Header)
		}
		return response(304, "", fresh, `Etag: "1"`), nil
	})
	s.ready()
	if n := s.State().Disk.Written; n < size || n > size*times/2 {
		t.Errorf("%d bytes were written for %d validations of %d bytes", n, times, size)
	}
}

// What a 304 forbids to store is not on the disk either.
func TestDiskForgetsWhatMayNotBeStored(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	s.asks(2, get("/a"), answers(200, "old", fresh, `Etag: "1"`))
	s.asks(1, get("/a", "Cache-Control: no-cache"), answers(304, "", "Cache-Control: no-store", `Etag: "1"`))
	s.mustMiss(get("/a"))
	s = s.again(folder)
	s.mustMiss(get("/a"))
}

// That holds as well for what was evicted and has come back from the disk before the 304.
func TestForgetsWhatCameBackMeanwhile(t *testing.T) {
	s := onShelf(t, t.TempDir(), config())
	s.asks(2, get("/a"), answers(200, "old", fresh, `Etag: "1"`))
	s.asks(1, get("/a", "Cache-Control: no-cache"), func(context.Context, *http.Request) (*http.Response, error) {
		found := s.Lookup(get("/a"), time.Now())
		s.store.removeEntry(&found.target, found.Entry)
		found.Release()
		s.mustFind(get("/a"), "old")
		return response(304, "", "Cache-Control: no-store", `Etag: "1"`), nil
	})
	s.mustMiss(get("/a"))
}

// What is a visitor's own is not written: neither the value by which an answer was chosen,
// nor the answer. What sets a cookie does so no more when the operator has changed his mind.
func TestDiskKeepsNoSecrets(t *testing.T) {
	folder, c := t.TempDir(), config()
	c.ShareCookies = true
	s := onShelf(t, folder, c)
	s.asks(3, get("/own", "Cookie: secret"), answers(200, "body", fresh, "Vary: Cookie"))
	s.asks(3, get("/own", "Authorization: secret"), answers(200, "body", fresh+", public", "Vary: Authorization"))
	if n := s.objects(); n != 0 {
		t.Errorf("%d objects of one visitor", n)
	}
	s.asks(3, get("/set"), answers(200, "body", fresh, "Set-Cookie: a=b"))
	s = s.again(folder)
	s.mustFind(get("/set"), "body")
	s.stop()
	c.ShareCookies = false
	onShelf(t, folder, c).mustMiss(get("/set"))
}

// slicedOnShelf has a disk below it, and slices what is larger than 256 KiB.
func slicedOnShelf(t *testing.T, folder string) (*shelved, *Policy) {
	c, p := slicingCache(t)
	return onShelf(t, folder, c.config), p
}

// Slices stay in memory, also where one answers as if it were the whole.
func TestSlicesStayInMemory(t *testing.T) {
	s, p := slicedOnShelf(t, t.TempDir())
	o := &largeObject{size: 5 * testSlice}
	for range 2 {
		mustAsk(t, s.Cache, p, get("/a"), o.fetch, 200)
	}
	for range 2 {
		mustAsk(t, s.Cache, p, request("HEAD", "/a"), noFetch(t), 200)
		mustAsk(t, s.Cache, p, get("/a", `If-None-Match: "0"`), noFetch(t), 304)
	}
	s.ready()
	if n := s.objects(); n != 0 {
		t.Errorf("%d objects", n)
	}
}

// An object that has outgrown what is stored as one is sliced from then on: what there was
// of it stands in the way neither in memory nor on the disk.
func TestOutgrownObjectsAreSliced(t *testing.T) {
	folder := t.TempDir()
	s, p := slicedOnShelf(t, folder)
	s.asks(2, get("/a"), answers(200, "small", fresh, `Etag: "s"`))
	s.asks(2, get("/b"), answers(200, "small", fresh, `Etag: "s"`))
	o := &largeObject{size: 5 * testSlice}
	mustAsk(t, s.Cache, p, get("/a", "Cache-Control: no-cache"), o.fetch, 200)
	_, body := mustAsk(t, s.Cache, p, get("/a"), o.fetch, 200)
	if o.check(t, body, 0, 0); int64(len(body)) != o.size {
		t.Fatalf("%d bytes", len(body))
	}
	if resp, _ := mustAsk(t, s.Cache, p, get("/a"), noFetch(t), 200); !resp.Hit {
		t.Error("it is not answered out of slices")
	}
	s.ready()
	s = s.again(folder)
	s.mustMiss(get("/a"))

	// The disk may have been late, and come upon it afterwards: then that is validated.
	s.larges.learn(targetAt(s.Cache, "/b").hash, o.size)
	mustAsk(t, s.Cache, p, get("/b", "Cache-Control: no-cache"), func(_ context.Context, r *http.Request) (*http.Response, error) {
		if r.Header.Get("If-None-Match") != `"s"` || r.Header.Get("Range") != "" {
			t.Errorf("asked with %v", r.Header)
		}
		return response(304, "", fresh, `Etag: "s"`), nil
	}, 200)
}

// All kinds of purges reach what only the disk has, at once and after a restart.
func TestPurgesReachTheDisk(t *testing.T) {
	f := func(want string, restart, soft bool, select_ func(c *Cache) Selection) {
		t.Helper()
		folder := t.TempDir()
		s := onShelf(t, folder, config())
		for _, on_ := range shelf {
			lines := append(strings.Split(on_.lines, "|"), "Cache-Control: max-age=600", `Etag: "1"`)
			if on_.lines == "" {
				lines = lines[1:]
			}
			s.asks(2, on(on_.host, on_.path), answers(200, "body", lines...))
		}
		s = s.again(folder)
		selected := select_(s.Cache)
		s.PurgeBy(selected, soft)
		if restart {
			s.ready()
			s = s.again(folder)
		}
		if got := missing(s.Cache); got != want {
			t.Errorf("%+v, soft %t, restart %t: gone are %q, want %q", selected, soft, restart, got, want)
		}
		if soft && want != "" {
			for _, on_ := range shelf {
				if found := s.Lookup(on(on_.host, on_.path), time.Now()); found.State != Fresh && found.Entry == nil {
					t.Errorf("%s%s cannot be validated after a soft purge", on_.host, on_.path)
				} else {
					found.Release()
				}
			}
		}
	}
	for i := range 4 {
		restart, soft := i&1 == 1, i&2 == 2
		f("/a/1.jpg", restart, soft, func(c *Cache) Selection { return c.SelectURL(on("example.com", "/a/1.jpg"), nil) })
		f("/a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg", restart, soft, func(*Cache) Selection { return selection(SelectPrefix("https://example.com/a/")) })
		// All of the folder, where a name ends the prefix.
		f("/ /a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg /ab /%61/3", restart, soft, func(*Cache) Selection { return selection(SelectPrefix("https://example.com/a")) })
		f("/ /a/1.jpg", restart, soft, func(*Cache) Selection { return SelectTag("news") })
		f("/a/b/2.jpg /ab", restart, soft, func(*Cache) Selection { return selection(SelectGroup("https://example.com", "g")) })
		f("/ /a/1.jpg /a/1.jpg?w=1 /a/b/2.jpg /ab /%61/3 other.com/a/1.jpg", restart, soft, func(*Cache) Selection { return SelectAll() })
	}
}

// What an unsafe request changes is gone from the disk.
func TestUnsafeRequestsReachTheDisk(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	for _, path := range []string{"/a", "/b", "/c"} {
		s.asks(2, get(path), answers(200, "body", fresh, `Cache-Groups: "`+path+`"`))
	}
	s = s.again(folder)
	s.Invalidate(request("POST", "/a"), 200, header("Location: /b"))
	s.mustMiss(get("/a"))
	s.mustMiss(get("/b"))
	s.mustFind(get("/c"), "body")
	s.Invalidate(request("POST", "/x"), 200, header(`Cache-Group-Invalidation: "/c"`))
	s.mustMiss(get("/c"))
	s.ready()
	s = s.again(folder)
	for _, path := range []string{"/a", "/b", "/c"} {
		s.mustMiss(get(path))
	}
}

// Ranges, HEAD and conditions are answered by the rules of any hit; parts stay in
// memory.
func TestDiskAnswersLikeMemory(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	s.asks(2, get("/a"), answers(200, "0123456789", fresh, `Etag: "1"`))
	for range 3 {
		s.asks(1, get("/part", "Range: bytes=0-3"), answers(206, "0123", fresh, `Etag: "1"`, "Content-Range: bytes 0-3/10"))
	}
	for i, ask := range []struct {
		method string
		line   string
		status int
		body   string
	}{
		{"GET", "Range: bytes=2-4", 206, "234"},
		{"HEAD", "A: b", 200, ""},
		{"GET", `If-None-Match: "1"`, 304, ""},
		{"GET", "Cache-Control: only-if-cached", 200, "0123456789"},
	} {
		s = s.again(folder)
		r := request(ask.method, "/a", ask.line)
		found := lookup(t, s.Cache, r, time.Now())
		if found.State != Fresh {
			t.Errorf("%d: %s", i, found.State)
			continue
		}
		status, body := 200, string(found.Entry.Body())
		if x, ok := found.Entry.Excerpt(r); ok {
			status, body = x.Apply(http.Header{}), string(x.Pieces()[0])
		}
		if found.Entry.NotModified(r) {
			status, body = 304, ""
		}
		if status != ask.status || ask.method == "GET" && body != ask.body {
			t.Errorf("%d: %d %q", i, status, body)
		}
	}
	if n := s.objects(); n != 1 {
		t.Errorf("%d objects", n)
	}
}

// One read serves all who ask at the same time, and who waits longer than is sane
// goes on without.
func TestDiskIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		s := onShelf(t, folder, config())
		s.asks(2, get("/a"), answers(200, strings.Repeat("x", 300<<10), fresh))
		s = s.again(folder)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, ok := s.finds(get("/a")); !ok {
					t.Error("a miss")
				}
			})
		}
		wg.Wait()
		if n := s.State().Disk.Hits; n != 1 {
			t.Errorf("read %d times", n)
		}

		s = s.again(folder)
		target := s.target(get("/a"))
		s.recalls.reads = map[diskKeys]chan struct{}{keysOnDisk(&target): make(chan struct{})} // a disk that hangs
		begun := time.Now()
		s.mustMiss(get("/a"))
		if took := time.Since(begun); took != s.recalls.patience || s.State().Disk.Late != 1 {
			t.Errorf("waited %v, %d late", took, s.State().Disk.Late)
		}
		s.stop()
	})
}

// What a flipped bit makes of an object is no answer.
func TestDamagedObjectsAreMisses(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	want := map[string]string{}
	for i := range 40 {
		path, body := fmt.Sprint("/", i), strings.Repeat(fmt.Sprint("body ", i), 1000*(i+1))
		want[path] = body
		s.asks(2, get(path), answers(200, body, fresh))
	}
	s.stop()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		files, _ := filepath.Glob(filepath.Join(folder, "*"))
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil || len(data) == 0 {
				continue
			}
			data[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s = onShelf(t, folder, config())
		for path, body := range want {
			if got, ok := s.finds(get(path)); ok && got != body {
				t.Fatalf("round %d: %s is another", round, path)
			}
		}
		s.stop()
	}
}

// Whatever moves between memory and disk: after a purge nobody gets what was there
// before it.
func TestNothingOldComesBack(t *testing.T) {
	c := config()
	c.Memory, c.MaxObject = 512<<10, 64<<10
	s := onShelf(t, t.TempDir(), c)
	const keys = 48
	var truth, purged [keys]atomic.Int64 // versions: of the origin, and the oldest that may be seen
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				n := rand.IntN(keys)
				least := purged[n].Load()
				resp, _, err := serve(s.Cache, get(fmt.Sprint("/", n)), func(context.Context, *http.Request) (*http.Response, error) {
					body := fmt.Sprintf("%020d", truth[n].Load()) + strings.Repeat("x", 16<<10)
					return response(200, body, fresh, fmt.Sprint("Surrogate-Key: k", n)), nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				got, _ := strconv.ParseInt(strings.TrimRight(string(body), "x"), 10, 64)
				if err != nil || got < least {
					t.Errorf("key %d: version %d after %d was purged: %v", n, got, least, err)
					return
				}
			}
		})
	}
	for i := 0; i < 2000 || s.State().Disk.Recalled == 0 && i < 1<<20; i++ {
		n := rand.IntN(keys)
		v := truth[n].Add(1)
		r := get(fmt.Sprint("/", n))
		switch i % 6 {
		case 0:
			s.PurgeBy(s.SelectURL(r, nil), false)
		case 1:
			s.PurgeBy(s.SelectURL(r, nil), true)
		case 2:
			s.PurgeBy(SelectTag(fmt.Sprint("k", n)), false)
		case 3:
			s.PurgeBy(SelectTag(fmt.Sprint("k", n)), true)
		case 4:
			s.Invalidate(request("POST", r.URL.Path), 200, nil)
		default:
			s.PurgeBy(selection(SelectPrefix("http://example.com/")), i%12 == 5)
		}
		purged[n].Store(v)
	}
	close(ended)
	wg.Wait()
}

// While a purge is under way nothing is moved, neither way: it may have been at the one
// place, and not at the other yet.
func TestNothingMovesDuringAPurge(t *testing.T) {
	folder := t.TempDir()
	s := onShelf(t, folder, config())
	s.asks(2, get("/there"), answers(200, "body", fresh))
	s = s.again(folder)
	s.purging.Add(1)
	s.mustMiss(get("/there"))
	s.asks(5, get("/here"), answers(200, "body", fresh))
	if n := s.objects(); n != 1 {
		t.Errorf("%d objects", n)
	}
	s.purging.Add(-1)
	s.mustFind(get("/there"), "body")
}
