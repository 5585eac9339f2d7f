package cache

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const (
		nothing   = ""
		storeOnly = "store"
		both      = "store and share"
		shareOnly = "share"
	)
	f := func(want string, r *http.Request, status int, lines ...string) {
		t.Helper()
		v := judge(r, answer{status: status, header: header(lines...), length: 10, requested: epoch0, received: epoch0}, 100)
		got := nothing
		switch {
		case v.store && v.share:
			got = both
		case v.store:
			got = storeOnly
		case v.share:
			got = shareOnly
		}
		if got != want {
			t.Errorf("%s %q -> %d %q: %q (%s), want %q", r.Method, r.Header, status, lines, got, v.why, want)
		}
	}
	const fresh = "Cache-Control: max-age=60"
	f(both, get("/"), 200, fresh)
	f(both, get("/"), 200, "Cache-Control: s-maxage=60")
	f(both, get("/"), 200, "Expires: Fri, 31 Dec 9999 23:59:59 GMT")
	f(both, get("/"), 200, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")

	// RFC 9111 section 3: methods and statuses.
	f(shareOnly, request("HEAD", "/"), 200, fresh)
	f(nothing, request("POST", "/"), 200, fresh)
	f(nothing, request("OPTIONS", "/"), 200, fresh)
	for _, status := range []int{201, 299, 302, 307, 404, 500, 599, 999} {
		f(both, get("/"), status, fresh)
	}
	for _, status := range []int{101, 103, 206, 304, 416} {
		f(nothing, get("/"), status, fresh)
	}

	// no-store and private.
	f(nothing, get("/"), 200, "Cache-Control: max-age=60, no-store")
	f(nothing, get("/"), 200, "Cache-Control: max-age=60", "Cache-Control: no-store")
	f(nothing, get("/", "Cache-Control: no-store"), 200, fresh)
	f(nothing, get("/"), 200, "Cache-Control: max-age=60, private")
	f(nothing, get("/"), 200, "Cache-Control: public, private, max-age=60")
	f(nothing, get("/"), 200, `Cache-Control: max-age=60, private="x"`)

	// must-understand.
	f(both, get("/"), 200, "Cache-Control: max-age=60, no-store, must-understand")
	f(nothing, get("/"), 599, "Cache-Control: max-age=60, no-store, must-understand")
	f(nothing, get("/"), 599, "Cache-Control: max-age=60, must-understand")
	f(nothing, get("/", "Cache-Control: no-store"), 200, "Cache-Control: max-age=60, must-understand")

	// no-cache: stored for validation, never shared.
	f(storeOnly, get("/"), 200, "Cache-Control: max-age=60, no-cache", `Etag: "a"`)
	f(nothing, get("/"), 200, "Cache-Control: max-age=60, no-cache")

	// Without a life of its own an answer is stored if that is of use, and not shared.
	f(nothing, get("/"), 200)
	f(nothing, get("/"), 200, "Cache-Control: public")
	f(nothing, get("/"), 200, "Cache-Control: max-age=0")
	f(storeOnly, get("/"), 200, "Cache-Control: max-age=0", `Etag: "a"`)
	f(storeOnly, get("/"), 200, `Etag: "a"`)
	f(nothing, get("/"), 302, `Etag: "a"`)
	f(storeOnly, get("/"), 200, "Cache-Control: max-age=0, stale-if-error=60")
	f(storeOnly, get("/"), 200, "Expires: 0", `Etag: "a"`)

	// An age that cannot be read.
	f(nothing, get("/"), 200, fresh, "Age: 1, 1")
	f(storeOnly, get("/"), 200, fresh, "Age: x", `Etag: "a"`)

	// RFC 9111 section 3.5.
	auth := get("/", "Authorization: Basic YTpi")
	f(nothing, auth, 200, fresh)
	f(both, auth, 200, "Cache-Control: max-age=60, public")
	f(both, auth, 200, "Cache-Control: s-maxage=60")
	f(both, auth, 200, "Cache-Control: max-age=60, must-revalidate")
	f(nothing, auth, 200, "Cache-Control: max-age=60, proxy-revalidate")
	f(nothing, auth, 200, "Cache-Control: public, private, max-age=60")

	// Set-Cookie.
	f(nothing, get("/"), 200, fresh, "Set-Cookie: id=1")
	f(nothing, get("/"), 200, "Cache-Control: public, max-age=60", "Set-Cookie: id=1")
	f(nothing, get("/"), 200, fresh, "Set-Cookie: id=1", "Set-Cookie2: id=1")
	f(both, get("/"), 200, fresh, "Set-Cookie2: id=1")

	// Where the operator has asked for it, but never by a guess.
	for want, line := range map[string]string{both: fresh, nothing: "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"} {
		v := judge(get("/"), answer{
			status: 200, header: header(line, "Set-Cookie: id=1"), length: 10, requested: epoch0, received: epoch0, cookies: true,
		}, 100)
		if stored := v.store && v.share; stored != (want == both) {
			t.Errorf("%s with a cookie that may be shared: stored %v (%s)", line, stored, v.why)
		}
	}

	// A cookie in the request: only what is marked as shared.
	cookie := get("/", "Cookie: id=1")
	f(both, cookie, 200, fresh)
	f(nothing, cookie, 200, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Vary: *")
	f(storeOnly, cookie, 200, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")
	f(both, cookie, 200, "Cache-Control: public", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT")

	// Vary.
	f(both, get("/"), 200, fresh, "Vary: Accept, Accept-Language")
	for _, vary := range []string{"*", "Accept, *", "Forwarded", "x-forwarded-for", "Via", "Connection", "a b", `"x"`, "Range"} {
		f(nothing, get("/"), 200, fresh, "Vary:"+vary)
	}

	// Size.
	v := judge(get("/"), answer{status: 200, header: header(fresh), length: 101}, 100)
	if v.store || v.share || v.why != "too-large" {
		t.Errorf("a body over the limit: %+v", v)
	}
}

func TestBypass(t *testing.T) {
	f := func(want Fwd, r *http.Request) {
		t.Helper()
		if got := bypass(r, hasBody(r)); got != want {
			t.Errorf("%s %v: %q, want %q", r.Method, r.Header, got, want)
		}
	}
	f("", get("/"))
	f("", request("HEAD", "/"))
	f("", get("/", "If-None-Match: *", "Cookie: a=b", "Authorization: x"))
	f(FwdMethod, request("POST", "/"))
	f(FwdMethod, request("PURGE", "/"))
	f(FwdMethod, request("OPTIONS", "/"))
	f("", get("/", "Range: bytes=0-1"))
	f(FwdBypass, get("/", "If-Match: *"))
	f(FwdBypass, get("/", "If-Unmodified-Since: x"))

	fat := get("/")
	fat.ContentLength, fat.Body = 3, io.NopCloser(strings.NewReader("abc"))
	f(FwdBypass, fat)
	fat.ContentLength = -1
	f(FwdBypass, fat)
	fat.Body = http.NoBody
	f("", fat)
	chunked := get("/")
	chunked.TransferEncoding = []string{"chunked"}
	f(FwdBypass, chunked)
}

// Over HTTP/3 no header says that there is no body: a lookup must not give up
// for that, and what is fetched must not believe it.
func TestUnknownBodyOfHTTP3(t *testing.T) {
	c := New(config())
	read(t, c, get("/"), answers(200, "a", "Cache-Control: max-age=60"))
	h3 := func() *http.Request {
		r := get("/")
		r.ProtoMajor, r.ContentLength, r.Body = 3, -1, io.NopCloser(strings.NewReader("fat"))
		return r
	}
	if got := state(c, h3()); got != Fresh {
		t.Errorf("hit over HTTP/3: %v", got)
	}
	fat := h3()
	fat.URL.Path = "/fat"
	read(t, c, fat, answers(200, "poison", "Cache-Control: max-age=60"))
	if got := state(c, get("/fat")); got != Miss {
		t.Errorf("the answer to a GET with a body was stored: %v", got)
	}
}

func TestStoredHeader(t *testing.T) {
	e := entryOf(200,
		"Content-Type: a/b", "Age: 5", "Connection: X-Hop, close", "X-Hop: 1", "Keep-Alive: x", "Te: x",
		"Transfer-Encoding: chunked", "Upgrade: x", "Proxy-Authenticate: x", "Proxy-Connection: x",
		"Proxy-Authorization: x", "Proxy-Authentication-Info: x", "Trailer: x", "X-Two: 1", "X-Two: 2").complete([]byte("abc"))
	want := header("Content-Type: a/b", "X-Two: 1", "X-Two: 2", "Content-Length: 3", "Date:"+epoch0.Format(httpDate))
	if got := e.Header(); len(got) != len(want) {
		t.Errorf("stored %v, want %v", got, want)
	}
	for name, values := range want {
		got := e.Header()[name]
		if strings.Join(got, "|") != strings.Join(values, "|") || cap(got) != len(got) {
			t.Errorf("%s: %q (room for %d), want %q", name, got, cap(got), values)
		}
	}
}
