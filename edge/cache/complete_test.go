package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// turns answer with each of the functions in turn, and note what was asked.
type turns struct {
	fetches []Func
	asked   []http.Header
}

func (s *turns) fetch(ctx context.Context, r *http.Request) (*http.Response, error) {
	if len(s.asked) == len(s.fetches) {
		return nil, errors.New("asked once too often")
	}
	s.asked = append(s.asked, r.Header)
	return s.fetches[len(s.asked)-1](ctx, r)
}

// holdingPart makes a cache that has what a request for a range has brought.
func holdingPart(t *testing.T, asked string, held Func) *Cache {
	c := New(config())
	read(t, c, get("/", asked), held)
	synctest.Wait()
	return c
}

func TestGaps(t *testing.T) {
	f := func(spans []span, want string, lines ...string) {
		t.Helper()
		e := entryOf(200, tag).holding(make([]byte, 10), &part{spans: spans, size: 10})
		r := get("/", append(lines, `If-None-Match: "x"`, "X: 1")...)
		res := Result{partial: e}
		g, ok := res.gap(r)
		if !ok {
			if want != "" {
				t.Errorf("%v for %q: no gap", spans, lines)
			}
			return
		}
		out := g.request(r, e)
		if out.Header.Get("Range") != "bytes="+want || out.Header.Get("If-Range") != `"a"` ||
			out.Header.Get("If-None-Match") != "" || out.Header.Get("X") != "1" {
			t.Errorf("%v for %q: %v", spans, lines, out.Header)
		}
	}
	q := func(s ...span) []span { return s }
	f(q(span{0, 5}), "5-")
	f(q(span{5, 10}), "0-4")
	f(q(span{0, 2}, span{7, 10}), "2-6")
	f(q(span{0, 2}, span{4, 5}), "2-")
	f(q(span{4, 5}), "") // the whole is asked for
	f(q(span{0, 5}), "5-7", "Range: bytes=2-7")
	f(q(span{4, 8}), "2-3", "Range: bytes=2-7")
	f(q(span{0, 3}, span{5, 8}), "3-4", "Range: bytes=0-6")
	f(q(span{0, 5}), "5-", "Range: bytes=2-")
	f(q(span{0, 8}), "8-", "Range: bytes=-5")
	f(q(span{0, 5}), "", "Range: bytes=6-7")
	f(q(span{0, 5}), "", "Range: items=2-7")
	f(q(span{0, 5}), "5-7", "Range: bytes=2-7", `If-Range: "a"`)
	f(q(span{0, 5}), "", "Range: bytes=2-7", `If-Range: "b"`)
}

// What is missing, and nothing else, is asked for; the answer is all that was
// wanted.
func TestPartIsCompleted(t *testing.T) {
	f := func(status int, want, contentRange string, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := holdingPart(t, "Range: bytes=0-4", tenBytes(0, 4, fresh, tag, "Content-Type: a/b"))
			s := &turns{fetches: []Func{tenBytes(5, 9, fresh, tag, "X: 2")}}
			resp, body := read(t, c, get("/", lines...), s.fetch)
			if resp.Status != status || body != want || resp.ContentLength != int64(len(want)) || resp.FwdStatus != 206 ||
				resp.Header.Get("Content-Range") != contentRange || resp.Header.Get("Content-Type") != "a/b" || resp.Header.Get("X") != "2" {
				t.Errorf("%+v %q", resp, body)
			}
			if len(s.asked) != 1 || s.asked[0].Get("Range") != "bytes=5-" || s.asked[0].Get("If-Range") != `"a"` {
				t.Errorf("asked %v", s.asked)
			}
			synctest.Wait()
			hit(t, c, 200, "0123456789")
		})
	}
	f(200, "0123456789", "")
	f(206, "3456789", "bytes 3-9/10", "Range: bytes=3-")
	f(206, "0123456789", "bytes 0-9/10", "Range: bytes=0-")
	f(206, "456789", "bytes 4-9/10", "Range: bytes=-6")
}

// What does not fit to the stored part is no answer, or takes its place.
func TestPartThatCannotBeCompleted(t *testing.T) {
	whole := answers(200, "abcdefghij", fresh, `Etag: "b"`)
	f := func(asked int, fetches ...Func) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := holdingPart(t, "Range: bytes=0-4", tenBytes(0, 4, fresh, tag))
			s := &turns{fetches: fetches}
			resp, body := read(t, c, get("/"), s.fetch)
			if resp.Status != 200 || body != "abcdefghij" || len(s.asked) != asked {
				t.Errorf("%d %q, asked %v", resp.Status, body, s.asked)
			}
			if asked == 2 && s.asked[1].Get("Range")+s.asked[1].Get("If-Range") != "" {
				t.Errorf("asked again with %v", s.asked[1])
			}
			synctest.Wait()
			hit(t, c, 200, "abcdefghij")
			hit(t, c, 206, "ab", "Range: bytes=0-1")
		})
	}
	f(1, whole) // it has changed
	f(2, tenBytes(5, 9, fresh, `Etag: "b"`), whole)
	f(2, tenBytes(5, 9, fresh), whole)
	f(2, tenBytes(4, 9, fresh, tag), whole) // not what was asked for
	f(2, tenBytes(5, 8, fresh, tag), whole)
	f(2, answers(206, "56789", fresh, tag, "Content-Range: bytes 5-9/11"), whole)
	f(2, answers(206, "5678", fresh, tag, "Content-Range: bytes 5-9/10"), whole)
	f(2, answers(206, "x", fresh, tag, "Content-Type: multipart/byteranges; boundary=x"), whole)
	f(2, answers(416, "", tag), whole)
	f(2, answers(412, "", tag), whole)
	f(2, answers(304, "", tag), whole)
}

// Without a strong validator nothing is joined, and the whole is stored.
func TestPartWithoutValidatorIsNotCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := holdingPart(t, "Range: bytes=-5", tenBytes(0, 4, fresh))
		s := &turns{fetches: []Func{answers(200, "abcdefghij", fresh)}}
		if _, body := read(t, c, get("/"), s.fetch); body != "abcdefghij" || s.asked[0].Get("Range") != "bytes=5-" {
			t.Errorf("%q, asked %v", body, s.asked)
		}
		c = holdingPart(t, "Range: bytes=-5", tenBytes(0, 4, fresh))
		s = &turns{fetches: []Func{tenBytes(5, 9, fresh), answers(200, "abcdefghij", fresh)}}
		if _, body := read(t, c, get("/"), s.fetch); body != "abcdefghij" || len(s.asked) != 2 {
			t.Errorf("%q, asked %v", body, s.asked)
		}
		// A range is asked for as it is.
		c = holdingPart(t, "Range: bytes=0-4", tenBytes(0, 4, fresh))
		s = &turns{fetches: []Func{tenBytes(3, 7, fresh)}}
		if _, body := read(t, c, get("/", "Range: bytes=3-7"), s.fetch); body != "34567" || s.asked[0].Get("Range") != "bytes=3-7" {
			t.Errorf("%q, asked %v", body, s.asked)
		}
	})
}

// An error is an answer like any other, and leaves the part alone.
func TestErrorsWhileCompleting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := holdingPart(t, "Range: bytes=0-4", tenBytes(0, 4, fresh, tag))
		s := &turns{fetches: []Func{answers(503, "busy")}}
		if resp, body := read(t, c, get("/"), s.fetch); resp.Status != 503 || body != "busy" {
			t.Errorf("%d %q", resp.Status, body)
		}
		if _, _, err := serve(c, get("/"), (&turns{}).fetch); err == nil {
			t.Error("no error")
		}
		hit(t, c, 206, "01", "Range: bytes=0-1")
	})
}

// Missing bytes that do not come are never made up for by those behind them.
func TestCutWhileCompleting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := holdingPart(t, "Range: bytes=5-9", tenBytes(5, 9, fresh, tag))
		resp, _, err := serve(c, get("/"), func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(206, "012", fresh, tag, "Content-Range: bytes 0-4/10")
			resp.ContentLength = 5
			return resp, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err == nil || !strings.HasPrefix("012", string(body)) {
			t.Errorf("%q, %v", body, err)
		}
		resp.Body.Close()
		synctest.Wait()
		miss(t, c, FwdPartial)
		hit(t, c, 206, "012", "Range: bytes=0-2") // what came is kept
		hit(t, c, 206, "89", "Range: bytes=8-9")
		miss(t, c, FwdPartial, "Range: bytes=3-3")
	})
}

// A stale part is validated by a request for what it holds, and by one for what it
// lacks.
func TestStalePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		held := func() *Cache {
			c := holdingPart(t, "Range: bytes=0-4", tenBytes(0, 4, "Cache-Control: max-age=10", tag))
			time.Sleep(11 * time.Second)
			return c
		}
		c := held()
		if found := lookup(t, c, get("/", "Range: bytes=1-2"), time.Now()); found.State != Stale || found.Entry == nil {
			t.Errorf("%s", found.State)
		}
		s := &turns{fetches: []Func{answers(304, "", fresh, tag)}}
		resp, body := read(t, c, get("/", "Range: bytes=1-2"), s.fetch)
		if resp.Status != 206 || body != "12" || !resp.Revalidated || resp.Header.Get("Content-Range") != "bytes 1-2/10" ||
			s.asked[0].Get("If-None-Match") != `"a"` || s.asked[0].Get("Range") != "bytes=1-2" {
			t.Errorf("%+v %q, asked %v", resp, body, s.asked)
		}
		synctest.Wait()
		hit(t, c, 206, "01234", "Range: bytes=0-4")
		miss(t, c, FwdPartial)
		if h := lookup(t, c, get("/", "Range: bytes=1-2"), time.Now()).Entry.Header(); h.Get("Content-Length") != "" {
			t.Errorf("a part has the length of a whole: %v", h)
		}

		c = held()
		s = &turns{fetches: []Func{tenBytes(5, 9, fresh, tag)}}
		if _, body := read(t, c, get("/"), s.fetch); body != "0123456789" || s.asked[0].Get("If-Range") != `"a"` {
			t.Errorf("%q, asked %v", body, s.asked)
		}
		synctest.Wait()
		hit(t, c, 200, "0123456789")

		// It has changed.
		c = held()
		s = &turns{fetches: []Func{answers(206, "bc", fresh, `Etag: "b"`, "Content-Range: bytes 1-2/10")}}
		if _, body := read(t, c, get("/", "Range: bytes=1-2"), s.fetch); body != "bc" {
			t.Errorf("%q", body)
		}
		synctest.Wait()
		hit(t, c, 206, "bc", "Range: bytes=1-2")
		miss(t, c, FwdPartial, "Range: bytes=0-0")
	})
}

// A range of a stale whole is one request: either it is confirmed, or the range of
// the new one comes.
func TestRangeOfAStaleWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "0123456789", "Cache-Control: max-age=10", tag))
		time.Sleep(11 * time.Second)
		s := &turns{fetches: []Func{answers(304, "", fresh)}}
		resp, body := read(t, c, get("/", "Range: bytes=1-2"), s.fetch)
		if resp.Status != 206 || body != "12" || s.asked[0].Get("If-None-Match") != `"a"` {
			t.Errorf("%d %q, asked %v", resp.Status, body, s.asked)
		}
		hit(t, c, 200, "0123456789")
		// A part of the same that comes instead of a 304 renews it as well.
		time.Sleep(61 * time.Second)
		s = &turns{fetches: []Func{tenBytes(1, 2, fresh, tag, "X: 1")}}
		read(t, c, get("/", "Range: bytes=1-2"), s.fetch)
		synctest.Wait()
		hit(t, c, 200, "0123456789")
		if h := lookup(t, c, get("/"), time.Now()).Entry.Header(); h.Get("X") != "1" || h.Get("Content-Length") != "10" {
			t.Error(h)
		}
	})
}
