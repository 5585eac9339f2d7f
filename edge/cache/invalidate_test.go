package cache

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"spillway/edge/synctest"
)

func TestInvalidate(t *testing.T) {
	const fresh = "Cache-Control: max-age=60"
	f := func(want string, method string, status int, lines ...string) {
		t.Helper()
		c := New(config())
		for _, path := range []string{"/a", "/b", "/c"} {
			read(t, c, get(path), answers(200, "x", fresh))
		}
		other := get("/a")
		other.Host = "other.com"
		read(t, c, other, answers(200, "x", fresh))

		read(t, c, request(method, "/a"), answers(status, "", lines...))
		var gone strings.Builder
		for _, path := range []string{"/a", "/b", "/c"} {
			if state(c, get(path)) != Fresh {
				gone.WriteString(path)
			}
		}
		if state(c, other) != Fresh {
			gone.WriteString("//other")
		}
		if gone.String() != want {
			t.Errorf("%s -> %d %q: gone %q, want %q", method, status, lines, gone.String(), want)
		}
	}
	f("/a", "POST", 200)
	f("/a", "PUT", 204)
	f("/a", "DELETE", 299)
	f("/a", "FROB", 200) // unknown methods may change anything
	f("/a", "POST", 303)
	f("", "POST", 404)
	f("", "POST", 500)
	f("", "OPTIONS", 200)
	f("/a/b", "POST", 201, "Location: /b")
	f("/a/b/c", "POST", 201, "Location: http://example.com/b", "Content-Location: c")
	f("/a/b", "POST", 201, "Location: http://EXAMPLE.com:80/b")
	f("/a", "POST", 201, "Location: https://example.com/b")
	f("/a", "POST", 201, "Location: http://other.com/a")
	f("/a", "POST", 201, "Location: //other.com/a", "Content-Location: mailto:x@example.com")
	f("/a/b", "POST", 201, "Location: //example.com/b")
	f("/a", "POST", 201, "Location: ::", "Content-Location: %zz")
	f("/a", "POST", 201, "Location: https:/b", "Content-Location: urn:/b") // of no host, so of no origin
	f("", "POST", 500, "Location: /b")
}

// A fetch that began before a change must not bring back what was before it.
func TestInvalidateFetchInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		release := make(chan struct{})
		got := make(chan string)
		go func() {
			_, body := read(t, c, get("/"), func(context.Context, *http.Request) (*http.Response, error) {
				<-release
				return response(200, "before", "Cache-Control: max-age=60"), nil
			})
			got <- body
		}()
		synctest.Wait()
		c.Invalidate(request("POST", "/"), 200, nil)

		// Nobody joins it any more.
		if _, body := read(t, c, get("/"), answers(200, "after", "Cache-Control: max-age=60")); body != "after" {
			t.Errorf("joined a fetch from before the change: %q", body)
		}
		close(release)
		if body := <-got; body != "before" {
			t.Errorf("%q", body)
		}
		synctest.Wait()
		if _, body := read(t, c, get("/"), noFetch(t)); body != "after" {
			t.Errorf("stored %q", body)
		}
	})
}
