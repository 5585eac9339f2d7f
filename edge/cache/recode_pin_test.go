package cache

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// lines is text of some size that does not shrink to nothing.
func lines(size int) string {
	rng := rand.New(rand.NewPCG(uint64(size), 0))
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "<li>%x</li>\n", rng.Uint64())
	}
	return b.String()[:size]
}

// everyCoding are what the visitors of these tests accept.
var everyCoding = []string{"zstd", "br", "gzip", "identity"}

// What is being encoded is pinned until it is, although it was purged meanwhile, and all
// that was found is released.
func TestRecodePinsWhatItReads(t *testing.T) {
	f := func(what string, purge func(*Cache)) {
		synctest.Test(t, func(t *testing.T) {
			c, p := poisoned(config()), compressing(t)
			body := lines(500 << 10)
			fetch := answers(200, body, "Cache-Control: max-age=60", "Content-Type: text/html")
			if _, _, got, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: identity"), fetch); err != nil || string(got) != body {
				t.Fatal(err)
			}
			unpinned(t, c, what)
			for range cap(c.recodings.cores) { // all are at work
				c.recodings.cores <- struct{}{}
			}
			answered := make(chan error)
			go func() {
				_, h, got, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: br"), noFetch(t))
				if err == nil && decoded(t, h, got) != body {
					err = io.ErrUnexpectedEOF
				}
				answered <- err
			}()
			synctest.Wait()
			purge(c)
			for i := range 20 { // takes what came free
				target := fmt.Sprint("/other/", i)
				read(t, c, get(target), answers(200, lines(400<<10), fresh))
			}
			for range cap(c.recodings.cores) {
				<-c.recodings.cores
			}
			if err := <-answered; err != nil {
				t.Errorf("%s: %v", what, err)
			}
			unpinned(t, c, what)
		})
	}
	f("not purged", func(*Cache) {})
	f("purged", (*Cache).Purge)
	f("softly purged", func(c *Cache) { c.PurgeBy(SelectAll(), true) })
}

// An encoder that follows a fetch reads on in the store's copy, and pins it.
func TestRecodePinsWhatItFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := poisoned(config()), compressing(t)
		body := lines(500 << 10)
		for range cap(c.recodings.cores) {
			c.recodings.cores <- struct{}{}
		}
		answered := make(chan error)
		go func() {
			_, h, got, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: gzip"), answers(200, body, "Cache-Control: max-age=60", "Content-Type: text/html"))
			if err == nil && decoded(t, h, got) != body {
				err = io.ErrUnexpectedEOF
			}
			answered <- err
		}()
		synctest.Wait()
		if s := c.State(); s.Entries != 1 || s.Pinned == 0 {
			t.Errorf("%+v", s)
		}
		c.Purge()
		for i := range 20 {
			read(t, c, get(fmt.Sprint("/other/", i)), answers(200, lines(400<<10), fresh))
		}
		for range cap(c.recodings.cores) {
			<-c.recodings.cores
		}
		if err := <-answered; err != nil {
			t.Error(err)
		}
		unpinned(t, c, "followed")
	})
}

// Visitors who leave take nothing with them: what they had encoded is stored, and
// nothing stays pinned.
func TestRecodeReleasesForWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := poisoned(config()), compressing(t)
		fetch := answers(200, lines(300<<10), "Cache-Control: max-age=60", "Content-Type: text/html")
		for _, accept := range everyCoding {
			ctx, leave := context.WithCancel(t.Context())
			r := get("/a", "Accept-Encoding: "+accept)
			found := Result{Policy: p}
			c.Find(r, time.Now(), &found)
			resp := c.Recode(ctx, r, &found)
			if found.State != Fresh {
				var err error
				if resp, err = c.Fetch(ctx, r, found, fetch); err != nil {
					t.Fatal(err)
				}
			}
			leave()
			if resp != nil {
				resp.Body.Close()
			}
			found.Release()
			synctest.Wait()
		}
		if s := c.State(); s.Entries != 4 {
			t.Errorf("%+v", s)
		}
		unpinned(t, c, "left")
	})
}

// Whatever an entry is purged by, all of its codings are: none answers afterwards, or each
// is validated first, by one request, and answers again as it is.
func TestPurgeReachesAllCodings(t *testing.T) {
	prefix, _ := SelectPrefix("http://example.com/shop/")
	group, _ := SelectGroup("http://example.com", "wares")
	for name, selection := range map[string]func(*Cache) Selection{
		"url":    func(c *Cache) Selection { return c.SelectURL(get("/shop/a"), nil) },
		"prefix": func(*Cache) Selection { return prefix },
		"tag":    func(*Cache) Selection { return SelectTag("shop") },
		"group":  func(*Cache) Selection { return group },
		"all":    func(*Cache) Selection { return SelectAll() },
	} {
		for _, soft := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, p := poisoned(config()), compressing(t)
				said := []string{
					"Cache-Control: max-age=60", "Content-Type: text/html", `Etag: "1"`, "Surrogate-Key: shop", `Cache-Groups: "wares"`,
				}
				for _, accept := range everyCoding {
					visitCoded(t, c, p, get("/shop/a", "Accept-Encoding: "+accept), answers(200, pageText, said...))
					synctest.Wait()
				}
				if n := c.PurgeBy(selection(c), soft); n != 4 {
					t.Errorf("%s: %d were purged", name, n)
				}
				audit(t, c.store)
				auditKeys(t, c.store)
				if s := c.State(); !soft && (s.Entries != 0 || s.Bytes != 0) {
					t.Errorf("%s: left: %+v", name, s)
				}
				asked := 0
				validate := func(_ context.Context, r *http.Request) (*http.Response, error) {
					if asked++; r.Header.Get("If-None-Match") == `"1"` {
						return response(304, "", said...), nil
					}
					return response(200, "another "+pageText, said...), nil
				}
				for _, accept := range everyCoding {
					want := "another " + pageText
					if soft {
						want = pageText
					}
					_, h, body, err := visitCoded(t, c, p, get("/shop/a", "Accept-Encoding: "+accept), validate)
					if err != nil || decoded(t, h, body) != want {
						t.Errorf("%s: %s: %v, %v", name, accept, err, h)
					}
					synctest.Wait()
				}
				want := RecodedState{2, 2, 2, 0}
				if soft {
					want = RecodedState{1, 1, 1, 0}
				}
				if asked != 1 || c.State().Recoded != want {
					t.Errorf("%s: asked %d times; %+v", name, asked, c.State().Recoded)
				}
				unpinned(t, c, name)
			})
		}
	}
}

// The answer to HEAD has the fields of that to GET, or leaves out what only the body
// tells.
func TestRecodedHead(t *testing.T) {
	head := func(c *Cache, p *Policy, fetch Func) http.Header {
		t.Helper()
		status, h, _, err := visitCoded(t, c, p, request("HEAD", "/a", "Accept-Encoding: br"), fetch)
		if err != nil || status != 200 {
			t.Fatal(status, err)
		}
		return h
	}
	said := []string{"Cache-Control: max-age=60", "Content-Type: text/html", `Etag: "1"`, "Content-Length: 8400"}
	c, p := poisoned(config()), compressing(t)
	unknown := response(200, "", said...)
	unknown.ContentLength = 8400
	first := head(c, p, func(context.Context, *http.Request) (*http.Response, error) { return unknown, nil })
	if first.Get("Content-Encoding") != "br" || first.Get("Vary") != "Accept-Encoding" || first["Etag"] != nil || first["Content-Length"] != nil {
		t.Errorf("the origin's: %v", first)
	}
	visitCoded(t, c, p, get("/a", "Accept-Encoding: identity"), answers(200, pageText, said...))
	made := head(c, p, noFetch(t)) // while it is made, or made
	allRecoded(t, c)
	_, full, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: br"), noFetch(t))
	if err != nil || made.Get("Etag") != full.Get("Etag") || made.Get("Content-Encoding") != "br" || c.State().Recoded.Brotli != 1 {
		t.Errorf("%v, %v, %v", made, full, err)
	}
	if h := head(c, p, noFetch(t)); h.Get("Content-Length") != fmt.Sprint(len(body)) || h.Get("Etag") != full.Get("Etag") {
		t.Errorf("%v", h)
	}
}

// What was encoded answers only while it is of the entry: a 304 or another body that
// somebody else's request brings is what everybody gets.
func TestRecodedFollowsWhatOthersBring(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := poisoned(config()), compressing(t)
		said := []string{"Cache-Control: max-age=10", "Content-Type: text/html", "Surrogate-Key: shop"}
		ask := func(accept string, fetch Func) http.Header {
			t.Helper()
			_, h, body, err := visitCoded(t, c, p, get("/a", "Accept-Encoding: "+accept), fetch)
			if err != nil {
				t.Fatal(err)
			}
			h.Set("Says", decoded(t, h, body))
			synctest.Wait()
			return h
		}
		ask("br", answers(200, pageText, append(said, `Etag: "1"`, "X: old")...))
		time.Sleep(time.Minute)
		ask("identity", answers(304, "", append(said, `Etag: "1"`, "X: new")...))
		if h := ask("br", noFetch(t)); h.Get("X") != "new" || h.Get("Says") != pageText || h.Get("Content-Encoding") != "br" {
			t.Errorf("confirmed: %v", h)
		}

		// The header is newer, and a purge keeps it from being stored: the body is the old
		// one's, and pinned.
		time.Sleep(time.Minute)
		ask("identity", answers(304, "", append(said, `Etag: "1"`, "X: newest")...))
		r := get("/a", "Accept-Encoding: br")
		found := Result{Policy: p}
		c.Find(r, time.Now(), &found)
		c.PurgeBy(SelectTag("shop"), true)
		resp := c.Recode(t.Context(), r, &found)
		if resp == nil || resp.Header.Get("X") != "newest" || c.State().Pinned == 0 {
			t.Fatalf("%+v", resp)
		}
		resp.Body.Close()
		found.Release()
		unpinned(t, c, "purged before it was stored")

		if h := ask("identity", answers(200, "another "+pageText, append(said, `Etag: "2"`)...)); h.Get("Etag") != `"2"` {
			t.Errorf("replaced: %v", h)
		}
		if h := ask("br", noFetch(t)); h.Get("Says") != "another "+pageText || !strings.HasPrefix(h.Get("Etag"), `"2~br~`) {
			t.Errorf("replaced: %v", h)
		}
		if n := c.State().Recoded.Brotli; n != 2 {
			t.Errorf("encoded %d times", n)
		}
		unpinned(t, c, "replaced")
	})
}

// A date may mean any coding: a range by it is no range of the body that comes just now,
// unless the visitor gets no other.
func TestRecodableRangeRidesByTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, d := poisoned(config()), compressing(t), &drip{}
		const date = "Fri, 01 Jan 1999 00:00:00 GMT"
		ask := func(fetch Func, lines ...string) *Response {
			t.Helper()
			r := get("/", lines...)
			found := Result{Policy: p}
			c.Find(r, time.Now(), &found)
			defer found.Release()
			resp, err := c.Fetch(t.Context(), r, found, fetch)
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		first := ask(d.fetch(5000, fresh, tag, "Content-Type: text/html", "Last-Modified: "+date), "Accept-Encoding: identity")
		d.w.Write([]byte("01234"))
		synctest.Wait() // they are in the entry
		f := func(rides bool, lines ...string) {
			t.Helper()
			resp := ask(answers(200, pageText, "Cache-Control: no-store"), append(lines, "Range: bytes=1-2")...)
			if (resp.Status == 206) != rides || resp.Joined != rides {
				t.Errorf("%q: %d, joined %v", lines, resp.Status, resp.Joined)
			}
			resp.Body.Close()
		}
		f(true, "Accept-Encoding: br", `If-Range: "a"`)
		f(true, "If-Range: "+date)
		f(false, "Accept-Encoding: br", "If-Range: "+date)
		d.w.CloseWithError(io.ErrUnexpectedEOF)
		first.Body.Close()
		unpinned(t, c, "ridden")
	})
}
