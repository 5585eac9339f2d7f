package cache

import (
	"context"
	"net/http"
	"testing"
	"time"

	"spillway/edge/synctest"
)

func TestNotModified(t *testing.T) {
	const modified = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
	const since = "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"
	f := func(want bool, request []string, status int, response ...string) {
		t.Helper()
		if got := NotModified(get("/", request...), status, header(response...)); got != want {
			t.Errorf("%q on %d %q: %v, want %v", request, status, response, got, want)
		}
	}
	q := func(lines ...string) []string { return lines }
	f(false, nil, 200, `Etag: "a"`)
	f(true, q(`If-None-Match: "a"`), 200, `Etag: "a"`)
	f(true, q(`If-None-Match: W/"a"`), 200, `Etag: "a"`) // weak comparison
	f(true, q(`If-None-Match: "a"`), 200, `Etag: W/"a"`)
	f(true, q(`If-None-Match: "x" , "a"`), 200, `Etag: "a"`)
	f(true, q(`If-None-Match: "x"`, `If-None-Match: W/"y","a"`), 200, `Etag: "a"`)
	f(true, q(`If-None-Match: "x,y", "a"`), 200, `Etag: "x,y"`)
	f(false, q(`If-None-Match: "x, "a", y"`), 200, `Etag: ", "`)
	f(true, q("If-None-Match: *"), 200, `Etag: "a"`)
	f(true, q("If-None-Match: *"), 200)
	f(false, q(`If-None-Match: "b"`), 200, `Etag: "a"`)
	f(false, q(`If-None-Match: a`), 200, `Etag: "a"`)
	f(false, q(`If-None-Match: "a`), 200, `Etag: "a"`)
	f(false, q(`If-None-Match: ""`), 200)
	f(false, q(`If-None-Match: "A"`), 200, `Etag: "a"`)

	f(true, q(since), 200, modified)
	f(true, q("If-Modified-Since: Mon, 07 Nov 1994 08:49:37 GMT"), 200, modified)
	f(false, q("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT"), 200, modified)
	f(false, q("If-Modified-Since: yesterday"), 200, modified)
	f(false, q(since), 200, "Date: Sun, 06 Nov 1994 08:49:37 GMT") // new, and of no known age
	f(false, q(since), 200)

	// If-None-Match decides alone when it is there.
	f(false, q(`If-None-Match: "b"`, since), 200, `Etag: "a"`, modified)
	f(true, q(`If-None-Match: "a"`, "If-Modified-Since: Sat, 05 Nov 1994 08:49:37 GMT"), 200, `Etag: "a"`, modified)

	for _, status := range []int{301, 304, 404, 500} {
		f(false, q(`If-None-Match: "a"`), status, `Etag: "a"`)
	}
	if NotModified(request("POST", "/", "If-None-Match: *"), 200, nil) {
		t.Error("POST")
	}
}

// What goes forward has the node's conditions, never the visitor's.
func TestForwardedConditions(t *testing.T) {
	entry := entryOf(200, `Etag: "stored"`, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
	r := get("/", `If-None-Match: "mine"`, "If-Modified-Since: Mon, 07 Nov 1994 08:49:37 GMT", "X: 1")
	f := func(stale *Entry, etag, since string) {
		t.Helper()
		out := forwarded(r, stale)
		if out.Header.Get("If-None-Match") != etag || out.Header.Get("If-Modified-Since") != since || out.Header.Get("X") != "1" {
			t.Errorf("forwarded %v", out.Header)
		}
		if r.Header.Get("If-None-Match") != `"mine"` {
			t.Errorf("the visitor's request has changed: %v", r.Header)
		}
	}
	f(nil, "", "")
	f(entry, `"stored"`, "Sun, 06 Nov 1994 08:49:37 GMT")
	f(entryOf(200, `Etag: W/"w"`), `W/"w"`, "")
	f(entryOf(200), "", "")
}

func TestRevalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=10", `Etag: "a"`, "X: old", "Content-Encoding: br",
			"Content-MD5: old", "X-Kept: 1"))
		time.Sleep(11 * time.Second)

		var asked http.Header
		resp, body := read(t, c, get("/"), func(_ context.Context, r *http.Request) (*http.Response, error) {
			asked = r.Header
			return response(304, "", "Cache-Control: max-age=20", `Etag: W/"a"`, "X: new", "X: newer",
				"Content-Encoding: gzip", "Content-MD5: new", "Content-Length: 99", "Connection: X-Hop", "X-Hop: 1", "Age: 3"), nil
		})
		if asked.Get("If-None-Match") != `"a"` {
			t.Errorf("asked with %v", asked)
		}
		if body != "body" || resp.Status != 200 || !resp.Revalidated || !resp.Stored || resp.FwdStatus != 304 || resp.Joined {
			t.Errorf("%q %+v", body, resp)
		}
		time.Sleep(16 * time.Second)
		found := lookup(t, c, get("/"), time.Now())
		if found.State != Fresh || found.Entry.Age(time.Now()) != 19*time.Second {
			t.Fatalf("after the update: %v, age %v", found.State, found.Entry.Age(time.Now()))
		}
		for name, want := range map[string]string{
			"X": "new", "X-Kept": "1", "Content-Encoding": "br", "Content-Md5": "old", "Content-Length": "4", "X-Hop": "", "Connection": "", "Age": "",
		} {
			if got := found.Entry.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if s := c.State(); s.Entries != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestRevalidationBringsANewAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "old", "Cache-Control: max-age=10", `Etag: "a"`))
		time.Sleep(11 * time.Second)
		resp, body := read(t, c, get("/"), answers(200, "new", "Cache-Control: max-age=10", `Etag: "b"`))
		if body != "new" || resp.Revalidated || resp.FwdStatus != 200 {
			t.Errorf("%q %+v", body, resp)
		}
		if _, body := read(t, c, get("/"), noFetch(t)); body != "new" {
			t.Errorf("stored %q", body)
		}
	})
}

// A 304 for something else than what was asked about is no answer.
func TestWrong304IsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "old", "Cache-Control: max-age=10", `Etag: "a"`))
		time.Sleep(11 * time.Second)
		calls := 0
		_, body := read(t, c, get("/"), func(_ context.Context, r *http.Request) (*http.Response, error) {
			if calls++; calls == 1 {
				return response(304, "", `Etag: "b"`), nil
			}
			if r.Header.Get("If-None-Match") != "" {
				t.Error("asked again with a condition")
			}
			return response(200, "new", `Etag: "b"`), nil
		})
		if body != "new" || calls != 2 {
			t.Errorf("%q after %d calls", body, calls)
		}
	})
}

// TestValidates: RFC 9111 section 4.3.4 has a 304 speak of the entry whose
// validators it has.
func TestValidates(t *testing.T) {
	const modified, later = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT"
	f := func(want bool, stored, told []string) {
		t.Helper()
		if got := validates(entryOf(200, stored...), header(told...)); got != want {
			t.Errorf("%q validated by %q: %v, want %v", stored, told, got, want)
		}
	}
	q := func(lines ...string) []string { return lines }
	f(true, q(`Etag: "a"`), q(`Etag: "a"`))
	f(true, q(`Etag: W/"a"`), q(`Etag: W/"a"`))
	f(true, q(`Etag: W/"a"`), q(`Etag: "a"`)) // as servers do that compress
	f(false, q(`Etag: "a"`), q(`Etag: "b"`))
	f(false, q(modified), q(`Etag: "b"`, modified))
	f(true, q(`Etag: "a"`, modified), q(`Etag: "a"`, later)) // the tag is the stronger one
	f(true, q(modified), q(modified))
	f(false, q(modified), q(later))
	f(false, q(`Etag: "a"`, modified), q(later))
	f(true, q(`Etag: "a"`), q(modified))
	f(true, q(`Etag: "a"`, modified), nil)
}

func TestRevalidationThatForbidsToShare(t *testing.T) {
	f := func(gone bool, line string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=10", `Etag: "a"`))
			time.Sleep(11 * time.Second)
			resp, body := read(t, c, get("/"), answers(304, "", line))
			if body != "body" || resp.Stored || !resp.Revalidated {
				t.Errorf("%s: %q %+v", line, body, resp)
			}
			found := lookup(t, c, get("/"), time.Now())
			if (found.Entry == nil) != gone || found.State == Fresh {
				t.Errorf("%s: then %v", line, found.State)
			}
			if found.Entry != nil && found.Entry.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s: stored a cookie", line)
			}
		})
	}
	f(true, "Cache-Control: no-store")
	f(true, "Cache-Control: private, max-age=10")
	f(false, "Set-Cookie: id=1")
}

func TestHeadFromGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=10", `Etag: "a"`))
		if found := lookup(t, c, request("HEAD", "/"), time.Now()); found.State != Fresh || found.Entry.Header().Get("Content-Length") != "4" {
			t.Errorf("%+v", found)
		}
		time.Sleep(11 * time.Second)
		// A 304 to a HEAD refreshes the entry as one to a GET does.
		read(t, c, request("HEAD", "/"), answers(304, ""))
		if _, body := read(t, c, get("/"), noFetch(t)); body != "body" {
			t.Errorf("%q", body)
		}
		// The answer to a HEAD is never taken for one to a GET.
		read(t, c, request("HEAD", "/x"), func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, "", "Cache-Control: max-age=10")
			resp.ContentLength = 4
			return resp, nil
		})
		if got := state(c, get("/x")); got != Miss {
			t.Errorf("GET after HEAD: %v", got)
		}
	})
}

func TestNotModifiedByDate(t *testing.T) {
	f := func(want bool, date string) {
		t.Helper()
		e := &Entry{status: 200, header: header("Date: " + date)}
		if got := e.NotModified(get("/", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")); got != want {
			t.Errorf("stored on %s: %v, want %v", date, got, want)
		}
	}
	f(true, "Sun, 06 Nov 1994 08:49:37 GMT")
	f(false, "Mon, 07 Nov 1994 08:49:37 GMT")
}

// After a 304 with another Last-Modified, If-Range may want the whole, and of that
// there is a part only.
func TestConfirmedPartIsNoWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const date = "Sun, 06 Nov 1994 08:49:37 GMT"
		c := New(config())
		read(t, c, get("/", "Range: bytes=0-4"), tenBytes(0, 4, "Cache-Control: max-age=1", tag, "Last-Modified: "+date))
		time.Sleep(2 * time.Second)
		resp, body := read(t, c, get("/", "Range: bytes=0-1", "If-Range: "+date), func(_ context.Context, r *http.Request) (*http.Response, error) {
			if len(r.Header["If-None-Match"]) > 0 {
				return response(304, "", tag, "Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT"), nil
			}
			return response(200, "0123456789", tag), nil
		})
		if resp.Status != 200 || body != "0123456789" {
			t.Errorf("%d %q", resp.Status, body)
		}
	})
}
