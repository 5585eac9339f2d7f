package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// revalidates runs the background of a cache until the test ends, or until the
// function is called that it returns.
func revalidates(t *testing.T, c *Cache) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Revalidate(ctx); err != nil {
			t.Error(err)
		}
	}()
	end = func() { cancel(); <-done }
	t.Cleanup(end)
	synctest.Wait()
	return end
}

// visit answers a request as the edge does: an entry that may answer while it is
// revalidated is renewed by renew.
func visit(t *testing.T, c *Cache, r *http.Request, renew Func) (state Freshness, body string) {
	t.Helper()
	found := lookup(t, c, r, time.Now())
	if found.State == StaleWhileRevalidate {
		c.Renew(r, &found, func() Func { return renew })
		return found.State, string(found.Entry.Body())
	}
	_, body = read(t, c, r, renew)
	return found.State, body
}

const window = "Cache-Control: max-age=10, stale-while-revalidate=60"

// TestCrowdInTheWindow: a hundred who come after the end of an entry get it at once,
// and one fetch renews it.
func TestCrowdInTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", window))
		time.Sleep(11 * time.Second)
		var stale atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for range 100 {
			wg.Go(func() {
				if state, body := visit(t, c, get("/"), origin.fetch("new", 200, window)); state == StaleWhileRevalidate && body == "old" {
					stale.Add(1)
				}
			})
		}
		wg.Wait()
		if n := stale.Load(); n != 100 || time.Since(start) != 0 {
			t.Errorf("%d stale answers in %v", n, time.Since(start))
		}
		synctest.Wait()
		if n, s := origin.calls.Load(), c.State(); n != 1 || s.Background != 1 || s.Flights != 1 {
			t.Errorf("%d fetches, %+v", n, s)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if state, body := visit(t, c, get("/"), noFetch(t)); state != Fresh || body != "new" {
			t.Errorf("afterwards %s: %q", state, body)
		}
		if s := c.State(); s.Background != 0 || s.Flights != 0 || s.FillBytes != 0 || s.Renewed != 1 || s.Unrenewed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAfterTheWindow: those who come later wait for a fresh answer.
func TestAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", window))
		time.Sleep(70 * time.Second)
		if state, body := visit(t, c, get("/"), origin.fetch("new", 200, window)); state != Stale || body != "new" {
			t.Errorf("%s: %q", state, body)
		}
	})
}

// TestRenewalValidates: the renewal carries the entry's validators and not the
// visitor's, is a GET whatever it answers, and a 304 renews.
func TestRenewalValidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", window, `Etag: "a"`))
		time.Sleep(11 * time.Second)
		asked := make(chan *http.Request, 1)
		head := request("HEAD", "/", `If-None-Match: "mine"`, "Accept: a/b", "Cache-Control: only-if-cached")
		head.Body, head.ContentLength = io.NopCloser(strings.NewReader("unread")), -1
		head.ProtoMajor = 3
		found := lookup(t, c, head, time.Now())
		c.Renew(head, &found, func() Func {
			return func(_ context.Context, r *http.Request) (*http.Response, error) {
				asked <- r
				return response(304, "", window), nil
			}
		})
		synctest.Wait()
		r := <-asked
		if r.Method != "GET" || r.Header.Get("If-None-Match") != `"a"` || r.Header.Get("Accept") != "a/b" || r.Header.Get("Cache-Control") != "" || r.Body != http.NoBody || r.ContentLength != 0 {
			t.Errorf("asked %s %v", r.Method, r.Header)
		}
		if state, body := visit(t, c, get("/"), noFetch(t)); state != Fresh || body != "old" {
			t.Errorf("afterwards %s: %q", state, body)
		}
	})
}

// TestRenewalFails: the entry goes on answering, and the next attempt is made a second
// later and not at once.
func TestRenewalFails(t *testing.T) {
	cut := func(context.Context, *http.Request) (*http.Response, error) {
		resp := response(200, "new", window)
		resp.ContentLength++
		return resp, nil
	}
	for name, fetch := range map[string]Func{
		"refused connection": func(context.Context, *http.Request) (*http.Response, error) { return nil, errors.New("refused") },
		"500, storable":      answers(500, "broken", fresh),
		"503":                answers(503, "busy"),
		"429":                answers(429, "slow down", fresh),
		"cut body":           cut,
		"panic":              func(context.Context, *http.Request) (*http.Response, error) { panic("fetch") },
		"cookie":             answers(200, "yours", fresh, "Set-Cookie: a=b"),
		// Who asked is not let in: that says nothing about the others.
		"401": answers(401, "who are you", "WWW-Authenticate: Basic"),
		"403": answers(403, "not you", "Cache-Control: no-store"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, tries := New(config()), atomic.Int64{}
				revalidates(t, c)
				failing := func(ctx context.Context, r *http.Request) (*http.Response, error) {
					tries.Add(1)
					return fetch(ctx, r)
				}
				read(t, c, get("/"), answers(200, "old", window))
				time.Sleep(11 * time.Second)
				ask := func(want int64) {
					t.Helper()
					state, body := visit(t, c, get("/"), failing)
					synctest.Wait()
					if state != StaleWhileRevalidate || body != "old" || tries.Load() != want {
						t.Errorf("%s: %q, %d tries", state, body, tries.Load())
					}
				}
				ask(1)
				ask(1)
				time.Sleep(failingFor)
				ask(2)
				if s := c.State(); s.Unrenewed != 2 || s.Background != 0 || s.Flights != 0 || s.FillBytes != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestRenewalBringsWhatMayNotBeStored: then there is a new answer, and the old one is
// none any more (RFC 9111 section 4.3.3).
func TestRenewalBringsWhatMayNotBeStored(t *testing.T) {
	endless := func(ctx context.Context, r *http.Request) (*http.Response, error) {
		resp, err := answers(200, strings.Repeat("x", 2<<20), fresh)(ctx, r)
		resp.ContentLength = -1
		return resp, err
	}
	for _, fetch := range []Func{
		endless, answers(200, "new", "Cache-Control: no-store"), answers(200, "new", "Cache-Control: private"),
		answers(404, "gone"), answers(200, strings.Repeat("x", 2<<20), fresh),
	} {
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			revalidates(t, c)
			read(t, c, get("/"), answers(200, "old", window))
			time.Sleep(11 * time.Second)
			visit(t, c, get("/"), fetch)
			synctest.Wait()
			if got := state(c, get("/")); got != Miss {
				t.Errorf("afterwards %s", got)
			}
		})
	}
}

// TestWhatIsNotRenewed: what forbids to store an answer, is under way already, or has
// been replaced meanwhile.
func TestWhatIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		end := revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", window))
		time.Sleep(11 * time.Second)
		if state, body := visit(t, c, get("/", "Cache-Control: no-store"), noFetch(t)); state != StaleWhileRevalidate || body != "old" {
			t.Errorf("no-store: %s %q", state, body)
		}
		// Somebody who wants a fresh answer waits for it; those who take a stale one ask
		// no more.
		late := lookup(t, c, get("/"), time.Now())
		go visit(t, c, get("/", "Cache-Control: no-cache"), origin.fetch("new", 200, window))
		synctest.Wait()
		visit(t, c, get("/"), noFetch(t))
		time.Sleep(time.Second)
		synctest.Wait()
		c.Renew(get("/"), &late, func() Func { return noFetch(t) })
		synctest.Wait()
		// Without a background nothing is fetched in it.
		time.Sleep(11 * time.Second)
		end()
		if state, body := visit(t, c, get("/"), noFetch(t)); state != StaleWhileRevalidate || body != "new" {
			t.Errorf("without a background: %s %q", state, body)
		}
	})
}

// TestRenewalIsJoined: who needs a fresh answer shares the renewal, and asks itself
// when that fails.
func TestRenewalIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		revalidates(t, c)
		insists := func() *http.Request { return get("/", "Cache-Control: no-cache") }
		read(t, c, get("/"), answers(200, "old", window))
		time.Sleep(11 * time.Second)
		visit(t, c, get("/"), origin.fetch("new", 200, window))
		synctest.Wait()
		if resp, body := read(t, c, insists(), noFetch(t)); !resp.Joined || body != "new" {
			t.Errorf("joined %t, %q", resp.Joined, body)
		}
		time.Sleep(11 * time.Second)
		visit(t, c, get("/"), origin.fetch("broken", 503))
		synctest.Wait()
		if resp, body := read(t, c, insists(), answers(200, "mine", window)); resp.Joined || body != "mine" {
			t.Errorf("joined %t, %q", resp.Joined, body)
		}
	})
}

// TestRenewalOutlivesItsJoiner: it goes on when those leave who came to wait for it.
func TestRenewalOutlivesItsJoiner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		revalidates(t, c)
		read(t, c, get("/"), answers(200, "old", window))
		time.Sleep(11 * time.Second)
		visit(t, c, get("/"), origin.fetch("new", 200, window))
		ctx, leave := context.WithTimeout(context.Background(), time.Millisecond)
		defer leave()
		if _, _, err := serve(c, get("/", "Cache-Control: no-cache").WithContext(ctx), noFetch(t)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if state, body := visit(t, c, get("/"), noFetch(t)); state != Fresh || body != "new" {
			t.Errorf("%s: %q", state, body)
		}
	})
}

// TestRenewalsOfVariants: each variant is renewed by itself.
func TestRenewalsOfVariants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		revalidates(t, c)
		in := func(language string) *http.Request { return get("/", "Accept-Language: "+language) }
		for _, language := range []string{"de", "fr"} {
			read(t, c, in(language), answers(200, language, window, "Vary: Accept-Language"))
		}
		time.Sleep(11 * time.Second)
		for range 3 {
			for _, language := range []string{"de", "fr"} {
				if _, body := visit(t, c, in(language), origin.fetch("new "+language, 200, window, "Vary: Accept-Language")); body != language {
					t.Errorf("%q for %s", body, language)
				}
			}
		}
		time.Sleep(2 * time.Second)
		if n := origin.calls.Load(); n != 2 {
			t.Errorf("%d fetches", n)
		}
		for _, language := range []string{"de", "fr"} {
			if _, body := visit(t, c, in(language), noFetch(t)); body != "new "+language {
				t.Errorf("%q for %s", body, language)
			}
		}
	})
}

// TestBackgroundIsBounded: however many entries end at once.
func TestBackgroundIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin := New(config()), &slow{}
		revalidates(t, c)
		path := func(i int) *http.Request { return get(fmt.Sprintf("/%d", i)) }
		const entries = backgroundMost + 10
		for i := range entries {
			read(t, c, path(i), answers(200, "old", window))
		}
		time.Sleep(11 * time.Second)
		for i := range entries {
			visit(t, c, path(i), origin.fetch("new", 200, window))
		}
		synctest.Wait()
		if n := origin.most.Load(); n != backgroundMost {
			t.Errorf("%d fetches at once", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s := c.State(); s.Background != 0 || s.Renewed != backgroundMost {
			t.Errorf("%+v", s)
		}
	})
}

// TestBackgroundEnds: what is under way ends with it, header come or not, and
// Revalidate waits for that.
func TestBackgroundEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, d := New(config()), &slow{}, &drip{}
		end := revalidates(t, c)
		for _, path := range []string{"/header", "/body"} {
			read(t, c, get(path), answers(200, "old", window))
		}
		time.Sleep(11 * time.Second)
		visit(t, c, get("/header"), origin.fetch("new", 200, window))
		visit(t, c, get("/body"), d.fetch(10, window))
		synctest.Wait()
		start := time.Now()
		end()
		if s := c.State(); s.Background != 0 || s.Flights != 0 || s.FillBytes != 0 || time.Since(start) != 0 {
			t.Errorf("%+v", s)
		}
		if ctx := d.ctx.Load().(context.Context); ctx.Err() == nil || origin.inFlight.Load() != 0 {
			t.Error("a fetch goes on")
		}
	})
}

// What another policy has stored since the lookup is not renewed for this one.
func TestRenewalKeepsToItsPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		revalidates(t, c)
		before, after := under(t, PolicyConfig{}), under(t, PolicyConfig{Key: KeyConfig{Cookies: []string{"lang"}}})
		r := get("/", "Cookie: lang=en")
		const modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
		readUnder(t, c, after, r, answers(200, "en", window, modified))
		time.Sleep(11 * time.Second)
		found := Result{Policy: after}
		c.Find(r, time.Now(), &found)
		if found.State != StaleWhileRevalidate {
			t.Fatal(found.State)
		}
		readUnder(t, c, before, get("/", "Cookie: lang=de"), answers(200, "de", "Cache-Control: max-age=0, stale-while-revalidate=60", modified))
		c.Renew(r, &found, func() Func { return answers(304, "", window, modified) })
		synctest.Wait()
		if body, hit := readUnder(t, c, after, r, answers(200, "new", window)); hit && body == "de" {
			t.Errorf("answered with %q of another policy", body)
		}
	})
}
