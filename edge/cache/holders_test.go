package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// This file tests that who goes on with what a lookup has found pins it as long as
// that takes, and no longer.

// unpinned fails when somebody still pins, though all that was asked for is over.
func unpinned(t *testing.T, c *Cache, what string) {
	t.Helper()
	synctest.Wait()
	if s := c.State(); s.Pinned != 0 || s.FillBytes != 0 || s.Flights != 0 || s.Background != 0 {
		t.Errorf("%s: left behind: %+v", what, s)
	}
	audit(t, c.store)
	auditKeys(t, c.store)
}

// after is a fetch that answers a second later.
func after(fetch Func) Func {
	return func(ctx context.Context, r *http.Request) (*http.Response, error) {
		time.Sleep(time.Second)
		return fetch(ctx, r)
	}
}

// A gated body begins when its gate is opened.
type gated struct {
	io.Reader
	gate chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	<-g.gate
	return g.Reader.Read(p)
}

func (g *gated) Close() error { return nil }

// A renewal pins what it validates, although the visitor has been answered, and
// whatever comes of it.
func TestRenewalPins(t *testing.T) {
	f := func(what string, fetch Func) {
		synctest.Test(t, func(t *testing.T) {
			c := poisoned(config())
			end := revalidates(t, c)
			read(t, c, get("/"), answers(200, "old", window, tag))
			time.Sleep(11 * time.Second)
			for range 3 { // the first renews it
				found := c.Lookup(get("/"), time.Now())
				if found.State != StaleWhileRevalidate {
					t.Fatalf("%s: %s", what, found.State)
				}
				c.Renew(get("/"), &found, func() Func { return after(fetch) })
				found.Release()
			}
			if c.State().Pinned == 0 {
				t.Errorf("%s: what is validated is not pinned", what)
			}
			time.Sleep(2 * time.Second)
			unpinned(t, c, what)
			// Those who have looked it up before it was renewed or failed renew nothing.
			late := c.Lookup(get("/"), time.Now())
			end()
			late.State = StaleWhileRevalidate
			if late.Entry != nil {
				c.Renew(get("/"), &late, func() Func { return noFetch(t) })
			}
			late.Release()
			unpinned(t, c, what+", without a background")
		})
	}
	f("confirmed", answers(304, "", window, tag))
	f("replaced", answers(200, "new", window, tag))
	f("failing", answers(503, ""))
	f("not for all", answers(200, "new", "Cache-Control: private"))
	f("an error", func(context.Context, *http.Request) (*http.Response, error) { return nil, errors.New("no") })
	f("a panic", func(context.Context, *http.Request) (*http.Response, error) { panic("no") })
}

// What answers in another coding while it is renewed is the visitor's to release, not the
// renewal's as well.
func TestRenewalLeavesTheCodingPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := poisoned(config()), compressing(t)
		end := revalidates(t, c)
		defer end()
		r := get("/", "Accept-Encoding: gzip")
		for range 2 {
			visitCoded(t, c, p, r, answers(200, pageText, window, tag, "Content-Type: text/html"))
			synctest.Wait()
		}
		time.Sleep(11 * time.Second)
		found := Result{Policy: p}
		c.Find(r, time.Now(), &found)
		if found.State != StaleWhileRevalidate || found.recoded == nil {
			t.Fatalf("%s, %v", found.State, found.recoded)
		}
		c.Renew(r, &found, func() Func { return answers(200, pageText+"new", window, tag, "Content-Type: text/html") })
		synctest.Wait()
		c.Purge()
		e := found.Answer(r)
		if got := decoded(t, e.Header(), e.Body()); got != pageText {
			t.Errorf("%d bytes that are not those that were found", len(got))
		}
		found.Release()
		unpinned(t, c, "renewed")
	})
}

// A 304 confirms what was pinned, although it was purged and written over meanwhile.
func TestConfirmedWhilePurged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := poisoned(config())
		read(t, c, get("/"), answers(200, "old", "Cache-Control: max-age=1", tag))
		time.Sleep(2 * time.Second)
		found := c.Lookup(get("/"), time.Now())
		time.AfterFunc(time.Second/2, c.Purge)
		resp, err := c.Fetch(t.Context(), get("/"), found, after(answers(304, "", fresh, tag)))
		found.Release()
		if err != nil {
			t.Fatal(err)
		}
		if body := drain(t, resp); body != "old" {
			t.Errorf("%q", body)
		}
		unpinned(t, c, "confirmed")
	})
}

// The part that is completed may be read when the request is over, and is pinned until
// its bytes are.
func TestPartIsPinnedWhileItIsCompleted(t *testing.T) {
	f := func(what string, leaves bool, lines ...string) {
		synctest.Test(t, func(t *testing.T) {
			c := poisoned(config())
			read(t, c, get("/", "Range: bytes=5-9"), tenBytes(5, 9, fresh, tag))
			unpinned(t, c, what)
			gate := make(chan struct{})
			fetch := func(context.Context, *http.Request) (*http.Response, error) {
				resp := response(206, "01234", fresh, tag, "Content-Range: bytes 0-4/10")
				resp.Body = &gated{strings.NewReader("01234"), gate}
				return resp, nil
			}
			found := c.Lookup(get("/", lines...), time.Now())
			resp, err := c.Fetch(t.Context(), get("/", lines...), found, fetch)
			found.Release()
			if err != nil {
				t.Fatal(err)
			}
			c.Purge()
			put(c, "/other", 100)
			synctest.Wait()
			if c.State().Pinned == 0 {
				t.Errorf("%s: the part is not pinned", what)
			}
			if leaves {
				resp.Body.Close()
				close(gate)
				unpinned(t, c, what)
				return
			}
			close(gate)
			if body, err := io.ReadAll(resp.Body); string(body) != "0123456789" || err != nil {
				t.Errorf("%s: %q, %v", what, body, err)
			}
			resp.Body.Close()
			resp.Body.Close() // means nothing
			unpinned(t, c, what)
		})
	}
	f("for all", false)
	f("for all, unread", true)
	f("for one", false, "Cache-Control: no-store")
	f("for one, unread", true, "Cache-Control: no-store")
}

// What was stored at the last moment is pinned until the answer is closed, be it whole
// or an excerpt.
func TestAnswerFromTheStoreIsPinned(t *testing.T) {
	f := func(want string, lines ...string) {
		synctest.Test(t, func(t *testing.T) {
			c := poisoned(config())
			found := c.Lookup(get("/", lines...), time.Now())
			read(t, c, get("/"), answers(200, "0123456789", fresh, tag))
			resp, err := c.Fetch(t.Context(), get("/", lines...), found, noFetch(t))
			if err != nil {
				t.Fatal(err)
			}
			c.Purge()
			put(c, "/other", 100)
			if body, err := io.ReadAll(resp.Body); !strings.Contains(string(body), want) || err != nil {
				t.Errorf("%q: %q, %v", lines, body, err)
			}
			if c.State().Pinned == 0 {
				t.Errorf("%q: it is not pinned", lines)
			}
			resp.Body.Close()
			unpinned(t, c, want)
		})
	}
	f("0123456789")
	f("345", "Range: bytes=3-5")
	f("789", "Range: bytes=0-1,7-9")
	f("", "Range: bytes=70-90")
}

// Lookups that look at several entries, or at one without using its body, keep no more
// than they return.
func TestLooksGiveTheirPinsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := poisoned(config())
		varies := "No-Vary-Search: params=(\"u\")"
		for range 2 { // fresh, and expired
			read(t, c, get("/a?u=1"), answers(200, "a", "Cache-Control: max-age=10", varies))
			read(t, c, get("/a?v=1"), answers(200, "a", "Cache-Control: max-age=10", tag))
			read(t, c, get("/a?v=1&u=1"), answers(200, "a", "Cache-Control: max-age=10", varies))
			for _, asked := range []string{"/a", "/a?u=2", "/a?v=1", "/a?v=2", "/a?u=1&v=1"} {
				looked(c, get(asked), time.Now())
				g := c.Peek(get(asked), time.Now(), under(t, PolicyConfig{Key: KeyConfig{IgnoreQuery: []string{"u"}, Device: true}}))
				g.Release()
				unpinned(t, c, asked)
			}
			time.Sleep(11 * time.Second)
		}

		// Expired under its own target, and fresh under another that answers it.
		read(t, c, get("/a?v=1"), answers(200, "a", "Cache-Control: max-age=1"))
		time.Sleep(2 * time.Second)
		read(t, c, get("/a?v=1&u=1"), answers(200, "a", fresh, varies))
		if looked(c, get("/a?v=1"), time.Now()) != Fresh {
			t.Error("what does not vary is not found")
		}
		unpinned(t, c, "fresh under another target")

		read(t, c, get("/b", "A: 1"), answers(200, "page", fresh, "Vary: A", "Link: </a.css>; rel=preload"))
		found := c.Lookup(get("/b", "A: 2"), time.Now())
		if links := c.Hints(get("/b"), &found, time.Now()); len(links) != 1 {
			t.Errorf("%q", links)
		}
		found.Release()
		unpinned(t, c, "hints")

		read(t, c, get("/b", "A: 1", "Cache-Control: no-cache"), answers(304, "", fresh)) // without a validator
		head := request("HEAD", "/b", "A: 1", "Cache-Control: no-cache")
		for _, update := range []string{"Content-Length: 4", "Content-Length: 5"} { // the same, and another one
			read(t, c, head, answers(200, "", fresh, "Vary: A", update))
			unpinned(t, c, update)
		}
		if g := peek(t, c, get("/b", "A: 1"), time.Now(), nil); g.State != Stale || string(g.Entry.Body()) != "page" {
			t.Errorf("after HEAD: %s %q", g.State, g.Entry.Body())
		}
	})
}

// A part takes nothing of the whole away, although so much is pinned that the whole
// would not be found: not even a copy of it has room.
func TestPartWhereNothingMayBePinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const object = 100 << 10
		c := poisoned(Config{Memory: 1 << 20, MaxObject: object, CollapseWaiters: 1, CollapseWait: time.Second})
		whole := strings.Repeat("0123456789", object/10)
		read(t, c, get("/"), answers(200, whole, fresh, tag))
		var slow []Result
		for i := range uint64(6) {
			keep(c, fmt.Sprint("/", i), i, object)
			slow = append(slow, c.Lookup(get(fmt.Sprint("/", i)), time.Now()))
		}
		c.fills.take(c.fills.limit - object/2)
		if state(c, get("/")) != Miss {
			t.Fatal("it may be pinned")
		}
		part := response(206, "01234", fresh, tag, fmt.Sprintf("Content-Range: bytes 0-4/%d", len(whole)))
		resp, _ := read(t, c, get("/", "Range: bytes=0-4"), func(context.Context, *http.Request) (*http.Response, error) {
			return part, nil
		})
		if !resp.Stored {
			t.Errorf("not stored: %+v", resp)
		}
		c.fills.give(c.fills.limit - object/2)
		for i := range slow {
			slow[i].Release()
		}
		if _, body := read(t, c, get("/"), noFetch(t)); body != whole {
			t.Errorf("%d bytes are left of the whole", len(body))
		}
		unpinned(t, c, "read")
	})
}
