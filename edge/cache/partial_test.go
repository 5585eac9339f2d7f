package cache

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/synctest"
)

const tag = `Etag: "a"`

// tenBytes answers with some of them.
func tenBytes(first, last int, lines ...string) Func {
	lines = append(lines, fmt.Sprintf("Content-Range: bytes %d-%d/10", first, last))
	return answers(206, "0123456789"[first:last+1], lines...)
}

// hit expects an answer from the store.
func hit(t *testing.T, c *Cache, status int, body string, lines ...string) {
	t.Helper()
	r := get("/", lines...)
	found := lookup(t, c, r, time.Now())
	if found.State != Fresh {
		t.Errorf("%q: %s", lines, found.State)
		return
	}
	if gotStatus, _, got := excerptOf(found.Entry, r); gotStatus != status || got != body {
		t.Errorf("%q: %d %q, want %d %q", lines, gotStatus, got, status, body)
	}
}

// miss expects that what is stored does not do.
func miss(t *testing.T, c *Cache, why Fwd, lines ...string) {
	t.Helper()
	if found := lookup(t, c, get("/", lines...), time.Now()); found.State != Miss || found.Why != why || found.Entry != nil {
		t.Errorf("%q: %s %s", lines, found.State, found.Why)
	}
}

// RFC 9111 section 3.3: a part answers what lies wholly within it.
func TestPartAnswersWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		resp, body := read(t, c, get("/", "Range: bytes=4-8"), tenBytes(4, 8, fresh, tag))
		if resp.Status != 206 || body != "45678" || !resp.Stored || resp.Header.Get("Content-Range") != "bytes 4-8/10" {
			t.Errorf("%+v %q", resp, body)
		}
		synctest.Wait()
		hit(t, c, 206, "45678", "Range: bytes=4-8")
		hit(t, c, 206, "67", "Range: bytes=6-7")
	})
}

func TestPartIsNotTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/", "Range: bytes=4-8"), tenBytes(4, 8, fresh, tag))
		synctest.Wait()
		for _, lines := range [][]string{
			nil,
			{"Range: bytes=3-8"},
			{"Range: bytes=4-9"},
			{"Range: bytes=4-"},
			{"Range: bytes=-1"},
			{"Range: bytes=4-5,0-0"},
			{"Range: bytes=4-5", `If-Range: "b"`},
			{"Range: bytes=20-"},
			{"Range: items=4-5"},
			{"Range: bytes=5-4"},
			{`If-None-Match: "a"`},
		} {
			miss(t, c, FwdPartial, lines...)
		}
		if found := lookup(t, c, request("HEAD", "/", "Range: bytes=4-5"), time.Now()); found.State != Miss {
			t.Errorf("HEAD: %s", found.State)
		}
		if found := lookup(t, c, get("/", "Cache-Control: only-if-cached"), time.Now()); found.State != Unavailable {
			t.Errorf("only-if-cached: %s", found.State)
		}
	})
}

// What cannot be told where it belongs, or is not for all, is not stored.
func TestPartsThatAreNotStored(t *testing.T) {
	f := func(r *http.Request, body string, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			if resp, got := read(t, c, r, answers(206, body, lines...)); resp.Status != 206 || got != body {
				t.Errorf("%q: %d %q", lines, resp.Status, got)
			}
			synctest.Wait()
			if s := c.State(); s.Entries != 0 {
				t.Errorf("%q %q is stored", r.Header, lines)
			}
		})
	}
	ranged := get("/", "Range: bytes=0-1")
	const at = "Content-Range: bytes 0-1/9"
	f(get("/"), "ab", fresh, at) // nobody asked for a part
	f(ranged, "ab", fresh)
	f(ranged, "ab", fresh, "Content-Range: bytes */9")
	f(ranged, "ab", fresh, "Content-Range: bytes 0-1/1")
	f(ranged, "ab", fresh, "Content-Range: items 0-1/9")
	f(ranged, "abc", fresh, at) // more than it says
	f(ranged, "", fresh, at)
	f(ranged, "--x--", fresh, "Content-Type: multipart/byteranges; boundary=x")
	f(ranged, "ab", "Cache-Control: private", at)
	f(ranged, "ab", "Cache-Control: no-store", at)
	f(ranged, "ab", fresh, at, "Set-Cookie: a=b")
	f(ranged, "ab", fresh, at, "Vary: *")
	f(get("/", "Range: bytes=0-1", "Authorization: x"), "ab", fresh, at)
	// A 206 to the visitor's own If-Range has not all fields.
	f(get("/", "Range: bytes=0-1", `If-Range: "a"`), "ab", fresh, tag, at)
}

// A 416 is for one range, and never for the whole.
func TestUnsatisfiedRangeIsNotStored(t *testing.T) {
	c := New(config())
	read(t, c, get("/", "Range: bytes=9-"), answers(416, "", fresh, "Content-Range: bytes */5"))
	miss(t, c, FwdURIMiss)
}

// The same request gets the answer that the origin gave, even if that is less
// than what was asked for or not what it says.
func TestSameRangeGetsTheSameAnswer(t *testing.T) {
	f := func(asked, said, body string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/", asked), answers(206, body, fresh, said))
			synctest.Wait()
			hit(t, c, 206, body, asked)
			found := lookup(t, c, get("/", asked), time.Now())
			if _, h, _ := excerptOf(found.Entry, get("/", asked)); "Content-Range: "+h.Get("Content-Range") != said {
				t.Errorf("%v, want %s", h, said)
			}
		})
	}
	f("Range: bytes=0-", "Content-Range: bytes 0-4/10", "01234")
	f("Range: bytes=-5", "Content-Range: bytes 4-9/10", "01234")
	f("Range: bytes=-5", "Content-Range: bytes 5-9/*", "56789")
}

// A body that ends before its range does holds what came, and no more.
func TestShortPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/", "Range: bytes=4-9"), answers(206, "45678", fresh, "Content-Range: bytes 4-9/10"))
		synctest.Wait()
		hit(t, c, 206, "678", "Range: bytes=6-8")
		miss(t, c, FwdPartial, "Range: bytes=6-9")
		miss(t, c, FwdPartial, "Range: bytes=6-")
	})
}

// An answer to who asked for all up to the end, which says that it reaches the end,
// ends there, whatever else its Content-Range says.
func TestShortTail(t *testing.T) {
	f := func(asked, said string, tail bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/", asked), answers(206, "45678", fresh, tag, said))
			synctest.Wait()
			hit(t, c, 206, "678", "Range: bytes=6-8")
			if !tail {
				miss(t, c, FwdPartial, "Range: bytes=6-")
				miss(t, c, FwdPartial, "Range: bytes=-1")
				return
			}
			hit(t, c, 206, "678", "Range: bytes=6-")
			hit(t, c, 206, "8", "Range: bytes=-1")
			found := lookup(t, c, get("/", "Range: bytes=6-"), time.Now())
			if _, h, _ := excerptOf(found.Entry, get("/", "Range: bytes=6-")); h.Get("Content-Range") != "bytes 6-8/9" {
				t.Error(h)
			}
			miss(t, c, FwdPartial, "Range: bytes=-6")
			miss(t, c, FwdPartial, "Range: bytes=9-9") // it may be there after all
			// With what says otherwise it is never put together.
			read(t, c, get("/", "Range: bytes=0-3"), tenBytes(0, 3, fresh, tag))
			synctest.Wait()
			hit(t, c, 206, "0123", "Range: bytes=0-3")
			miss(t, c, FwdPartial, "Range: bytes=3-4")
		})
	}
	f("Range: bytes=-5", "Content-Range: bytes 4-9/10", true)
	f("Range: bytes=4-", "Content-Range: bytes 4-9/10", true)
	f("Range: bytes=4-9", "Content-Range: bytes 4-9/10", false)
	f("Range: bytes=4-", "Content-Range: bytes 4-8/10", false) // no more than a part of it
	f("Range: bytes=4-", "Content-Range: bytes 4-9/11", false)
}

// What was cut off is no tail, however it was asked for.
func TestCutTail(t *testing.T) {
	f := func(length int64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			resp, _, err := serve(c, get("/", "Range: bytes=4-"), func(context.Context, *http.Request) (*http.Response, error) {
				resp := response(206, "45678", fresh, tag, "Content-Range: bytes 4-9/10")
				resp.ContentLength = length
				return resp, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%q ended well", body)
			}
			resp.Body.Close()
			synctest.Wait()
			hit(t, c, 206, "678", "Range: bytes=6-8")
			miss(t, c, FwdPartial, "Range: bytes=6-")
			miss(t, c, FwdPartial, "Range: bytes=-1")
		})
	}
	f(6)
	f(-1) // its Content-Range tells
}

func TestPartOfUnknownSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/", "Range: bytes=4-8"), answers(206, "45678", fresh, "Content-Range: bytes 4-8/*"))
		synctest.Wait()
		hit(t, c, 206, "67", "Range: bytes=6-7")
		for _, line := range []string{"bytes=6-9", "bytes=6-", "bytes=-1"} {
			miss(t, c, FwdPartial, "Range: "+line)
		}
		_, h, _ := excerptOf(lookup(t, c, get("/", "Range: bytes=6-7"), time.Now()).Entry, get("/", "Range: bytes=6-7"))
		if h.Get("Content-Range") != "bytes 6-7/*" {
			t.Error(h)
		}
	})
}

// RFC 9111 section 3.4: parts are put together under one strong validator.
func TestPartsAreCombined(t *testing.T) {
	const modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
	f := func(combined bool, first, second []string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/", "Range: bytes=0-4"), tenBytes(0, 4, append(first, fresh, "X: 1", "Y: 1")...))
			synctest.Wait()
			read(t, c, get("/", "Range: bytes=5-7"), tenBytes(5, 7, append(second, fresh, "X: 2")...))
			synctest.Wait()
			hit(t, c, 206, "56", "Range: bytes=5-6")
			if !combined {
				miss(t, c, FwdPartial, "Range: bytes=0-1")
				return
			}
			hit(t, c, 206, "34567", "Range: bytes=3-7")
			// The newer fields stand in, the others stay.
			e := lookup(t, c, get("/", "Range: bytes=0-1"), time.Now()).Entry
			if e == nil || e.Header().Get("X") != "2" || e.Header().Get("Y") != "1" || e.Header().Get("Content-Range") != "" {
				t.Errorf("%+v", e)
			}
			// With the last of it the whole is there.
			read(t, c, get("/", "Range: bytes=-2"), tenBytes(8, 9, append(second, fresh)...))
			synctest.Wait()
			hit(t, c, 200, "0123456789")
			if e := lookup(t, c, get("/"), time.Now()).Entry; e == nil || e.Header().Get("Content-Length") != "10" {
				t.Errorf("%+v", e)
			}
			if s := c.State(); s.Entries != 1 || s.FillBytes != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	q := func(lines ...string) []string { return lines }
	f(true, q(tag), q(tag))
	f(true, q(modified), q(modified))
	f(false, q(tag), q(`Etag: "b"`))
	f(false, q(`Etag: W/"a"`), q(`Etag: W/"a"`))
	f(false, q(tag), q(`Etag: W/"a"`))
	f(false, q(tag), nil)
	f(false, nil, nil)
	f(false, nil, q(tag))
	f(false, q(tag), q(modified))
	f(false, q(modified), q("Last-Modified: Sun, 06 Nov 1994 08:49:38 GMT"))
	f(false, q(tag, modified), q(`Etag: "b"`, modified))
}

// The size is part of what must agree.
func TestPartsOfOtherSizeAreNotCombined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/", "Range: bytes=0-4"), tenBytes(0, 4, fresh, tag))
		synctest.Wait()
		read(t, c, get("/", "Range: bytes=5-9"), answers(206, "56789", fresh, tag, "Content-Range: bytes 5-9/20"))
		synctest.Wait()
		miss(t, c, FwdPartial, "Range: bytes=0-4")
		hit(t, c, 206, "56789", "Range: bytes=5-9")
	})
}

// Parts that come at the same time do not lose each other.
func TestPartsThatComeAtOnce(t *testing.T) {
	c := New(config())
	r := get("/", "Range: bytes=0-")
	target := c.target(r)
	const length, parts = 4 << 10, 60
	var wg sync.WaitGroup
	for i := range int64(parts) {
		s := span{i * length, (i + 1) * length}
		e := entryAtSpan(r, s, 1<<20)
		wg.Go(func() { c.keep(&target, e, r, 0) })
	}
	wg.Wait()
	e, _ := c.store.get(&target, r)
	defer e.release()
	if got := e.spans(); !slices.Equal(got, []span{{0, parts * length}}) {
		t.Errorf("%v", got)
	}
	audit(t, c.store)
}

// entryAtSpan makes the entry of a 206.
func entryAtSpan(r *http.Request, s span, size int64) *Entry {
	e, _ := entryAt(r, answer{
		status: 206, header: header(fresh, tag, "Content-Range: "+contentRange(s, size)), length: s.length(),
		requested: epoch0, received: epoch0,
	})
	return e.stored(make([]byte, s.length()), "")
}

// A part that cannot be told from what is fresh and whole does not push it out.
func TestPartDoesNotReplaceTheWhole(t *testing.T) {
	f := func(stays bool, whole, part []string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/"), answers(200, "0123456789", append(whole, fresh)...))
			synctest.Wait()
			read(t, c, get("/", "Range: bytes=0-1", "Cache-Control: no-cache"),
				answers(206, "ab", append(part, fresh, "Content-Range: bytes 0-1/10")...))
			synctest.Wait()
			if stays {
				hit(t, c, 200, "0123456789")
			} else {
				miss(t, c, FwdPartial)
				hit(t, c, 206, "ab", "Range: bytes=0-1")
			}
		})
	}
	f(true, nil, nil)
	f(true, nil, []string{tag})
	f(true, []string{tag}, nil)
	f(true, []string{tag}, []string{tag})
	f(false, []string{tag}, []string{`Etag: "b"`})
}

// A part is stored under its variant, and forgotten with its key.
func TestPartsObeyVaryAndInvalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/", "Range: bytes=0-4", "X: 1"), tenBytes(0, 4, fresh, tag, "Vary: X"))
		synctest.Wait()
		hit(t, c, 206, "01", "Range: bytes=0-1", "X: 1")
		miss(t, c, FwdVaryMiss, "Range: bytes=0-1", "X: 2")
		read(t, c, get("/", "Range: bytes=5-9", "X: 2"), tenBytes(5, 9, fresh, tag, "Vary: X"))
		synctest.Wait()
		miss(t, c, FwdPartial, "X: 2")
		c.Invalidate(request("POST", "/"), 200, nil)
		miss(t, c, FwdURIMiss, "Range: bytes=0-1", "X: 1")
	})
}

// An answer that is cut short holds what came, and is never taken for the whole.
func TestCutAnswers(t *testing.T) {
	cut := func(status int, length int64, lines ...string) Func {
		return func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(status, "01234", lines...)
			resp.ContentLength = length
			return resp, nil
		}
	}
	f := func(kept bool, status int, length int64, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			var asked []string
			if status == 206 {
				asked = []string{"Range: bytes=0-8"}
			}
			resp, _, err := serve(c, get("/", asked...), cut(status, length, lines...))
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err == nil && resp.Stored {
				t.Errorf("%q ended well", body)
			}
			resp.Body.Close()
			synctest.Wait()
			if state(c, get("/", asked...)) == Fresh || state(c, get("/")) == Fresh {
				t.Error("it answers as if it were whole")
			}
			if !kept {
				miss(t, c, FwdURIMiss, "Range: bytes=0-4")
				return
			}
			hit(t, c, 206, "01234", "Range: bytes=0-4")
			miss(t, c, FwdPartial, "Range: bytes=0-5")
			var out http.Header
			_, body := read(t, c, get("/"), func(_ context.Context, r *http.Request) (*http.Response, error) {
				out = r.Header
				return tenBytes(5, 9, fresh, tag)(nil, r)
			})
			if out.Get("Range") != "bytes=5-" || out.Get("If-Range") != `"a"` || body != "0123456789" {
				t.Errorf("asked %v, got %q", out, body)
			}
			synctest.Wait()
			hit(t, c, 200, "0123456789")
		})
	}
	f(true, 200, 10, fresh, tag)
	f(true, 206, 9, fresh, tag, "Content-Range: bytes 0-8/10")
	f(false, 200, 10, fresh)
	f(false, 200, 10, fresh, `Etag: W/"a"`)
	f(false, 200, 4, fresh, tag) // longer than announced
	f(false, 200, 10, "Cache-Control: no-store", tag)
	f(false, 206, 9, fresh, "Content-Range: bytes 0-8/10")
}

// A 206 without a length that ends too early is cut short, however cleanly.
func TestPartWithoutLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		resp, _, err := serve(c, get("/", "Range: bytes=0-8"), func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(206, "01234", fresh, "Content-Range: bytes 0-8/10")
			resp.ContentLength = -1
			return resp, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != io.ErrUnexpectedEOF {
			t.Errorf("%q, %v", body, err)
		}
		resp.Body.Close()
		synctest.Wait()
		if s := c.State(); s.Entries != 0 || s.FillBytes != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// What visitors ask for does not make an entry larger than the largest object, or
// endlessly many spans.
func TestPartsAreBounded(t *testing.T) {
	f := func(length, most int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			cfg := config()
			cfg.MaxObject = 1 << 10
			c := New(cfg)
			for i := range 2 * maxSpans {
				s := span{int64(5000 * i), int64(5000*i + length)}
				read(t, c, get("/", fmt.Sprintf("Range: bytes=%d-%d", s.first, s.end-1)), answers(206,
					strings.Repeat("x", length), fresh, tag, "Content-Range: "+contentRange(s, 1<<20)))
				synctest.Wait()
			}
			e := lookup(t, c, get("/", "Range: bytes=0-3"), time.Now()).Entry
			if e == nil || len(e.part.spans) != most {
				t.Errorf("%d bytes each: %+v", length, e)
			}
			audit(t, c.store)
		})
	}
	f(4, maxSpans)
	f(100, 10) // the largest object
}

// Parts are put together in the memory that bodies on their way have, and only if
// there is some left.
func TestCombiningIsWithinTheBudget(t *testing.T) {
	c := New(config())
	r := get("/", "Range: bytes=0-")
	target := c.target(r)
	keep := func(first, end int64) bool { return c.keep(&target, entryAtSpan(r, span{first, end}, 1<<20), r, 0) }
	keep(0, 100)
	c.fills.used.Store(c.fills.limit - 199)
	if keep(100, 200) {
		t.Error("200 bytes in 199")
	}
	held := func(want span) {
		t.Helper()
		e, _ := c.store.get(&target, r)
		defer e.release()
		if !slices.Equal(e.spans(), []span{want}) {
			t.Errorf("%v is held, want %v", e.spans(), want)
		}
	}
	held(span{0, 100}) // what was there stays
	c.fills.used.Store(c.fills.limit - 200)
	if !keep(100, 200) {
		t.Error("not 200 bytes in 200")
	}
	held(span{0, 200})
	if n := c.fills.limit - c.fills.used.Load(); n != 200 {
		t.Errorf("%d of 200 bytes were given back", n)
	}
}

func TestUnion(t *testing.T) {
	f := func(a, b, want []span) {
		t.Helper()
		if got := union(a, b); !slices.Equal(got, want) {
			t.Errorf("%v and %v: %v, want %v", a, b, got, want)
		}
	}
	q := func(s ...span) []span { return s }
	f(q(span{0, 5}), q(span{5, 7}), q(span{0, 7}))
	f(q(span{5, 7}), q(span{0, 4}), q(span{0, 4}, span{5, 7}))
	f(q(span{0, 2}, span{4, 6}, span{8, 9}), q(span{1, 8}), q(span{0, 9}))
	f(q(span{0, 9}), q(span{2, 3}), q(span{0, 9}))
	f(nil, q(span{2, 3}), q(span{2, 3}))

	// Any spans of any two entries, against a plain map of bytes.
	rng := rand.New(rand.NewPCG(1, 2))
	whole := []byte("abcdefghijklmnopqrstuvwxyz")
	some := func() *Entry {
		p := &part{size: int64(len(whole))}
		var body []byte
		for at := rng.IntN(4); at < len(whole)-1; at += 1 + rng.IntN(4) {
			end := min(at+1+rng.IntN(5), len(whole)-1)
			p.spans = append(p.spans, span{int64(at), int64(end)})
			body = append(body, whole[at:end]...)
			at = end
		}
		return entryOf(200, tag).holding(body, p)
	}
	for range 2000 {
		a, b := some(), some()
		both, _ := b.combine(a, 1<<10, &budget{limit: 1 << 10})
		for i, c := range whole {
			s := span{int64(i), int64(i + 1)}
			want := a.part.covers(s) || b.part.covers(s)
			if both.part.covers(s) != want || want && both.bytesOf(s)[0] != c {
				t.Fatalf("%v and %v: byte %d of %v", a.part.spans, b.part.spans, i, both.part.spans)
			}
		}
	}
}

// A 304 makes no strong validator of a weak one, by which bytes of two
// representations would be put together.
func TestWeakPartsStayWeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/", "Range: bytes=0-4"), answers(206, "AAAAA", "Cache-Control: max-age=1", `Etag: W/"a"`, "Content-Range: bytes 0-4/10"))
		time.Sleep(2 * time.Second)
		read(t, c, get("/", "Range: bytes=0-4"), answers(304, "", fresh, tag))
		hit(t, c, 206, "AAAAA", "Range: bytes=0-4")
		if resp, body := read(t, c, get("/", "Range: bytes=0-9"), tenBytes(5, 9, fresh, tag)); body != "56789" {
			t.Errorf("%d %q", resp.Status, body)
		}
	})
}
