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

// TestPostAnswersGet: RFC 9110 section 9.3.3 has two conditions for an answer to a
// POST, and the rules for all others hold besides.
func TestPostAnswersGet(t *testing.T) {
	const fresh, itself = "Cache-Control: max-age=60", "Content-Location: /form"
	f := func(want Freshness, status int, lines ...string) {
		t.Helper()
		c := New(config())
		_, body := read(t, c, request("POST", "/form", "X-Tenant: a"), answers(status, "made", lines...))
		if body != "made" {
			t.Errorf("%q: the POST itself was answered %q", lines, body)
		}
		if got := state(c, get("/form", "X-Tenant: a")); got != want {
			t.Errorf("%d %q: then a GET finds %s, want %s", status, lines, got, want)
		}
	}
	f(Fresh, 200, fresh, itself)
	f(Fresh, 201, fresh, itself)
	f(Fresh, 200, "Cache-Control: s-maxage=60", itself)
	f(Fresh, 200, "Expires: Fri, 31 Dec 9999 23:59:59 GMT", itself)
	f(Fresh, 200, fresh, "Content-Location: form")
	f(Fresh, 200, fresh, "Content-Location: http://EXAMPLE.com:80/form")
	f(Fresh, 200, fresh, itself, "Vary: X-Tenant")

	f(Miss, 200, fresh)                                                                      // of what it is, it does not say
	f(Miss, 200, fresh, "Content-Location:")                                                 // the same
	f(Miss, 200, fresh, "Content-Location: /form/1")                                         // another resource
	f(Miss, 200, fresh, "Content-Location: /form?")                                          // the same
	f(Miss, 200, fresh, "Content-Location: https://example.com/form")                        // another origin
	f(Miss, 200, fresh, itself, itself)                                                      // a field with one value only
	f(Miss, 200, itself)                                                                     // without explicit freshness
	f(Miss, 200, "Cache-Control: public", "Last-Modified: "+epoch0.Format(httpDate), itself) // the same
	f(Miss, 404, fresh, itself)
	f(Miss, 500, fresh, itself)
	f(Miss, 200, "Cache-Control: max-age=60, no-store", itself)
	f(Miss, 200, "Cache-Control: max-age=60, private", itself)
	f(Miss, 200, fresh, itself, "Set-Cookie: a=b")
	f(Miss, 200, fresh, itself, "Vary: *")
}

// What a POST is answered with is never an answer to another POST, nor is it what
// another method has brought.
func TestOnlyPostAnswersGet(t *testing.T) {
	c := New(config())
	lines := []string{"Cache-Control: max-age=60", "Content-Location: /form"}
	for _, method := range []string{"PUT", "PATCH", "QUERY"} {
		read(t, c, request(method, "/form"), answers(200, "made", lines...))
		if got := state(c, get("/form")); got != Miss {
			t.Errorf("after a %s: %s", method, got)
		}
	}
	read(t, c, request("POST", "/form"), answers(200, "one", lines...))
	if _, body := read(t, c, request("POST", "/form"), answers(200, "two", lines...)); body != "two" {
		t.Errorf("a POST was answered by another's answer: %q", body)
	}
	resp, _ := read(t, c, request("HEAD", "/form"), noFetch(t))
	if resp.Header.Get("Content-Length") != "3" {
		t.Errorf("HEAD: %v", resp.Header)
	}
	if _, body := read(t, c, get("/form"), noFetch(t)); body != "two" {
		t.Errorf("a GET got %q", body)
	}
	// RFC 9111 section 3.5.
	read(t, c, request("POST", "/mine", "Authorization: Basic YTpi"), answers(200, "mine", lines[0], "Content-Location: /mine"))
	if got := state(c, get("/mine")); got != Miss {
		t.Errorf("what was authorized is shared: %s", got)
	}
}

// A GET that was on its way when the POST changed what it asks for brings what was
// before: it must not take the place of what the POST has brought.
func TestPostOvertakesGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(config())
		late := make(chan struct{})
		go serve(c, get("/form"), func(context.Context, *http.Request) (*http.Response, error) {
			<-late
			return response(200, "before", "Cache-Control: max-age=60"), nil
		})
		synctest.Wait()
		read(t, c, request("POST", "/form"), answers(200, "after", "Cache-Control: max-age=60", "Content-Location: /form"))
		close(late)
		synctest.Wait()
		if _, body := read(t, c, get("/form"), noFetch(t)); body != "after" {
			t.Errorf("the cache has %q", body)
		}
	})
}

// What a POST has brought may be from before a purge that came while it was at work.
func TestPurgeOvertakesPost(t *testing.T) {
	for name, purge := range map[string]func(c *Cache){
		"tag": func(c *Cache) { c.PurgeBy(SelectTag("a"), false) },
		"url": func(c *Cache) { c.PurgeBy(c.SelectURL(get("/form"), nil), false) },
	} {
		c := New(config())
		read(t, c, request("POST", "/form"), func(context.Context, *http.Request) (*http.Response, error) {
			purge(c)
			return response(200, "before", fresh, "Content-Location: /form", "Surrogate-Key: a"), nil
		})
		if got := state(c, get("/form")); got != Miss {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Changes of other URLs are none of its business.
func TestOthersDoNotOvertakePost(t *testing.T) {
	c := New(config())
	read(t, c, request("POST", "/form"), func(context.Context, *http.Request) (*http.Response, error) {
		for n := range 3 {
			c.Invalidate(request("POST", fmt.Sprintf("/other/%d", n)), 200, nil)
		}
		return response(200, "after", fresh, "Content-Location: /form"), nil
	})
	if got := state(c, get("/form")); got != Fresh {
		t.Error(got)
	}
}

// What is cut short is not stored, nor what was never sent.
func TestBrokenPostIsNotStored(t *testing.T) {
	c := New(config())
	failure := errors.New("no origin")
	if _, _, err := serve(c, request("POST", "/form"), func(context.Context, *http.Request) (*http.Response, error) {
		return nil, failure
	}); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	resp, _, err := serve(c, request("POST", "/form"), func(context.Context, *http.Request) (*http.Response, error) {
		short := response(200, "12345", "Cache-Control: max-age=60", "Content-Location: /form")
		short.Body = io.NopCloser(strings.NewReader("123"))
		return short, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reading ended with %v", err)
	}
	resp.Body.Close()
	if found := lookup(t, c, get("/form"), time.Now()); found.State != Miss {
		t.Errorf("then %v", found.State)
	}
}
