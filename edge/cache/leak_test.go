package cache

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"spillway/edge/synctest"
)

// Twenty users ask at once, and then in turn. Each must get its own answer: the
// origin echoes who asks.
func TestPersonalAnswersAreNotShared(t *testing.T) {
	f := func(name, field string, lines ...string) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := New(config())
				request := func(i int) *http.Request { return get("/", fmt.Sprintf("%s: user%d", field, i)) }
				echo := func(int) Func {
					return func(_ context.Context, r *http.Request) (*http.Response, error) {
						time.Sleep(time.Second)
						return response(200, r.Header.Get(field), lines...), nil
					}
				}
				for range 2 {
					cr := &crowd{}
					cr.ask(c, 20, request, echo)
					cr.wg.Wait()
					cr.bodies.Range(func(i, body any) bool {
						if body != fmt.Sprintf("user%d", i) {
							t.Errorf("user%d got the answer of %v", i, body)
						}
						return true
					})
				}
				for i := range 3 {
					if _, body := read(t, c, request(i), echo(i)); body != fmt.Sprintf("user%d", i) {
						t.Errorf("in turn: user%d got the answer of %v", i, body)
					}
				}
				if _, body := read(t, c, get("/"), answers(200, "nobody")); body != "nobody" {
					t.Errorf("an anonymous visitor got the answer of %v", body)
				}
			})
		})
	}
	f("private, no-store", "Cookie", "Cache-Control: private, no-store")
	f("private", "Cookie", "Cache-Control: private, max-age=60")
	f("authorization", "Authorization", fresh)
	f("authorization, heuristic", "Authorization", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
	f("set-cookie", "Cookie", fresh, "Set-Cookie: id=1")
	f("cookie, nothing said", "Cookie")
	f("cookie, a date only", "Cookie", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
	f("vary on cookie", "Cookie", fresh, "Vary: Cookie")
	f("vary on everything", "Cookie", fresh, "Vary: *")
	f("vary on what the node writes", "X-Forwarded-For", fresh, "Vary: X-Forwarded-For")
	f("max-age=0", "Cookie", "Cache-Control: max-age=0", `Etag: "a"`)
	f("no-cache with a list", "Cookie", `Cache-Control: max-age=60, no-cache="X-User"`)
}

// A response that RFC 9111 section 3.5 releases is shared among the authorized.
func TestAuthorizationThatMayBeShared(t *testing.T) {
	c := New(config())
	read(t, c, get("/", "Authorization: a"), answers(200, "x", "Cache-Control: public, max-age=60"))
	if got := state(c, get("/", "Authorization: b")); got != Fresh {
		t.Error(got)
	}
	// One that it does not release answers nobody who is authorized.
	read(t, c, get("/y"), answers(200, "x", fresh))
	if got := state(c, get("/y", "Authorization: b")); got != Miss {
		t.Error(got)
	}
}

// With Authorization nobody waits for another's answer, unless a stored response
// has shown that it may be shared.
func TestAuthorizedWaitOnlyForWhatMayBeShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, origin, cr := New(config()), &slow{}, &crowd{}
		user := func(i int) *http.Request { return get("/", fmt.Sprint("Authorization: user", i)) }
		public := func(i int) Func { return origin.fetch("x", 200, "Cache-Control: public, max-age=10", `Etag: "a"`) }
		start := time.Now()
		cr.ask(c, 20, user, public)
		cr.wg.Wait()
		if origin.most.Load() != 20 || time.Since(start) != time.Second {
			t.Errorf("%d at the same time in %v", origin.most.Load(), time.Since(start))
		}
		time.Sleep(time.Minute)
		origin.calls.Store(0)
		cr.ask(c, 20, user, public)
		cr.wg.Wait()
		if origin.calls.Load() != 1 {
			t.Errorf("%d fetches of what may be shared", origin.calls.Load())
		}
	})
}

func TestFatGetDoesNotPoison(t *testing.T) {
	c := New(config())
	fat := get("/")
	fat.Body, fat.ContentLength = io.NopCloser(strings.NewReader("poison")), 6
	read(t, c, fat, answers(200, "poison", fresh))
	if _, body := read(t, c, get("/"), answers(200, "clean", fresh)); body != "clean" {
		t.Errorf("got %q", body)
	}
	// Nor is it answered from the cache.
	if got := state(c, fat); got != Bypass {
		t.Error(got)
	}
}

// What the origin can tell apart, the key tells apart.
func TestKeyIsWhatIsForwarded(t *testing.T) {
	c := New(config())
	for i, target := range []string{
		"/a", "/a?", "/a?x", "/a?x=", "/a?X", "/A", "/a/", "//a", "/%61", "/a%2fb", "/a/b", "/a%2Fb", "/a;b", "/a%3Bb", "/?a", "/a%00",
		"/a?y=1&x=2", "/a?x=2&y=1",
	} {
		want := fmt.Sprint(i)
		if _, body := read(t, c, get(target), answers(200, want, fresh)); body != want {
			t.Errorf("%s was answered with another target's response (%s)", target, body)
		}
	}
	secure := httpsGet("/a")
	if got := state(c, secure); got != Miss {
		t.Errorf("https answered by http: %v", got)
	}
	// Letter case of the host and the scheme's own port mean nothing.
	for _, host := range []string{"EXAMPLE.com", "example.com:80"} {
		r := get("/a")
		r.Host = host
		if got := state(c, r); got != Fresh {
			t.Errorf("%s: %v", host, got)
		}
	}
	for _, host := range []string{"example.com:443", "example.com.", "www.example.com"} {
		r := get("/a")
		r.Host = host
		if got := state(c, r); got != Miss {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func httpsGet(target string) *http.Request {
	r := request("GET", "https://example.com"+target)
	r.URL.Scheme, r.URL.Host = "", ""
	return r
}

// TestKeysAreWhatWasSent asks that two targets that the origin could tell apart
// never share an entry, whatever url.URL makes of them.
func TestKeysAreWhatWasSent(t *testing.T) {
	c := New(config())
	targets := []string{"/caf%C3%A9/menu", "/caf\xc3\xa9%2Fmenu", "/caf\xc3\xa9/menu", "/caf%C3%A9%2Fmenu", "/a|b", "/a%7Cb", "/a?", "/a"}
	sent := func(target string) *http.Request {
		r := get("/")
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		r.URL, r.RequestURI = u, target
		return r
	}
	for _, target := range targets {
		read(t, c, sent(target), answers(200, target, fresh))
	}
	for _, target := range targets {
		if found := lookup(t, c, sent(target), time.Now()); found.State != Fresh || string(found.Entry.Body()) != target {
			t.Errorf("%q: %s", target, found.State)
		}
	}
}
