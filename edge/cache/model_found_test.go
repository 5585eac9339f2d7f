package cache

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// What the model has found stays found.

// RFC 9111 section 3: no-cache alone is no ground for storing a response whose status
// is none for guesses.
func TestNoCacheAloneIsNoGroundToStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for status, want := range map[int]Freshness{302: Miss, 500: Miss, 200: Stale, 404: Stale} {
			c := New(config())
			read(t, c, get("/"), answers(status, "body", "Cache-Control: no-cache", `Etag: "a"`))
			if got := state(c, get("/")); got != want {
				t.Errorf("after %d: %s, want %s", status, got, want)
			}
		}
	})
}

// RFC 9111 section 4: of all stored responses that may be used the one with the latest
// Date must be, whatever came last.
func TestTheLatestDateIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dated := func(before time.Duration, lines ...string) []string {
			date := time.Now().Add(-before).UTC().Format(http.TimeFormat)
			return append(lines, "Cache-Control: max-age=60", "Date: "+date)
		}
		c := New(config())
		read(t, c, get("/a"), answers(200, "newer", dated(0, "Vary: A")...))
		read(t, c, get("/a", "A: 1"), answers(200, "older", dated(10*time.Second)...))
		if _, body := read(t, c, get("/a"), noFetch(t)); body != "older" || c.State().Entries != 1 {
			t.Errorf("%q beside what is newer by its Date, %d entries", body, c.State().Entries)
		}
		read(t, c, get("/b", "A: 1"), answers(200, "older", dated(10*time.Second)...))
		read(t, c, get("/b", "A: 2", "Cache-Control: no-cache"), answers(200, "newer", dated(0, "Vary: A")...))
		if _, body := read(t, c, get("/b", "A: 2"), noFetch(t)); body != "newer" {
			t.Errorf("%q, want the newer", body)
		}
	})
}

// RFC 9111 section 3.3: only an answer to a GET may be stored in part.
func TestCutAnswerToPostIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		cut := func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, "body", "Cache-Control: max-age=60", "Content-Location: /", `Etag: "a"`)
			resp.ContentLength = 10
			return resp, nil
		}
		resp, _, err := serve(c, request("POST", "/"), cut)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		synctest.Wait()
		if entries := c.State().Entries; entries != 0 || err == nil {
			t.Errorf("%d entries after %v", entries, err)
		}
	})
}

// RFC 9111 section 3.4: what is put together keeps the fields of what was there. A whole
// answer that was cut short does not bring them, so what it repeats stays as it was.
func TestCutAnswerChangesNoRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		read(t, c, get("/"), answers(200, "body", "Cache-Control: max-age=60", "CDN-Cache-Control: max-age=30", `Etag: "a"`))
		time.Sleep(40 * time.Second)
		cut := func(context.Context, *http.Request) (*http.Response, error) {
			resp := response(200, "bo", "Cache-Control: max-age=60", `Etag: "a"`)
			resp.ContentLength = 4
			return resp, nil
		}
		resp, _, err := serve(c, get("/"), cut)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		synctest.Wait()
		if got := state(c, get("/")); got != Stale {
			t.Errorf("%s, want %s", got, Stale)
		}
	})
}
