package cache

import (
	"testing"
	"time"

	"spillway/edge/synctest"
)

// TestHeadUpdates: RFC 9111 section 4.3.5.
func TestHeadUpdates(t *testing.T) {
	const (
		updates = "the entry is fresh again, with the new fields"
		expires = "the entry has expired"
		leaves  = "nothing has happened"
		removes = "the entry is gone"
	)
	// after is how old the entry is, of ten seconds that it lives.
	f := func(want string, after time.Duration, status int, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=10", "Etag: \"a\"",
				"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "X: old", "X-Kept: 1"))
			time.Sleep(after)
			resp, _ := read(t, c, request("HEAD", "/", "Cache-Control: no-cache"), answers(status, "", lines...))
			if resp.Status != status {
				t.Errorf("the HEAD itself was answered %d", resp.Status)
			}
			time.Sleep(time.Second)
			found := lookup(t, c, get("/"), time.Now())
			got := leaves
			switch e := found.Entry; {
			case e == nil:
				got = removes
			case e.Header().Get("X") == "new":
				got = updates
				if found.State != Fresh || e.Header().Get("X-Kept") != "1" || string(e.Body()) != "body" || e.Header().Get("Content-Length") != "4" {
					t.Errorf("%q: %s, %v, %q", lines, found.State, e.Header(), e.Body())
				}
			case after < 10*time.Second && found.State == Stale:
				got = expires
			}
			if got != want {
				t.Errorf("%d %q after %v: %s; want that %s", status, lines, after, got, want)
			}
		})
	}
	const old, young = 11 * time.Second, 5 * time.Second
	const fresh, x = "Cache-Control: max-age=60", "X: new"
	for _, after := range []time.Duration{old, young} {
		f(updates, after, 200, fresh, x)
		f(updates, after, 200, fresh, x, `Etag: "a"`, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Length: 4")
		f(removes, after, 200, x, "Cache-Control: no-store")
		f(removes, after, 200, x, "Cache-Control: private, max-age=60")
		f(leaves, after, 404, fresh, x)
		f(leaves, after, 200, fresh, x, "Set-Cookie: a=b")
	}
	for _, other := range []string{`Etag: "b"`, "Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT", "Content-Length: 5"} {
		f(expires, young, 200, fresh, x, other)
		f(leaves, old, 200, fresh, x, other)
	}
}

// A 304 to a HEAD updates the entry as well.
func TestHeadValidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=10", `Etag: "a"`))
		time.Sleep(11 * time.Second)
		read(t, c, request("HEAD", "/"), answers(304, "", `Etag: "a"`))
		if _, body := read(t, c, get("/"), noFetch(t)); body != "body" {
			t.Errorf("the entry has the body %q", body)
		}
	})
}

// What a purge wants to be validated is not made fresh by a HEAD without validators.
func TestHeadDoesNotUndoPurges(t *testing.T) {
	f := func(want Freshness, lines ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := New(config())
			read(t, c, get("/"), answers(200, "body", fresh, tag))
			time.Sleep(time.Second)
			c.PurgeBy(SelectAll(), true)
			read(t, c, request("HEAD", "/"), answers(200, "", append(lines, fresh)...))
			if got := state(c, get("/")); got != want {
				t.Errorf("%q: %s, want %s", lines, got, want)
			}
		})
	}
	f(Fresh, tag)
	f(Stale, "Content-Length: 4")
}
