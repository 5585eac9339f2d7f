package exercise

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// fields makes a header of names and values.
func fields(lines ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(lines); i += 2 {
		h.Add(lines[i], lines[i+1])
	}
	return h
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

func answer(status int, h http.Header, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
}

func TestCompare(t *testing.T) {
	standard := []string{"content-type", "Location", "Cache-Control"}
	f := func(what, how string, origin, function *http.Response, want Difference) {
		t.Helper()
		r := NewRules(standard, how)
		body, _ := io.ReadAll(origin.Body)
		got, err := r.Compare(&Answer{origin.StatusCode, origin.Header, body}, function)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
		}
	}
	html, same := fields("Content-Type", "text/html; charset=utf-8"), Difference{}
	f("equal", Exact, answer(200, html, "a"), answer(200, html, "a"), same)
	f("another status", Exact, answer(200, html, "a"), answer(404, html, "a"), Difference{Status, "200 and 404"})
	f("another body", Exact, answer(200, html, "a"), answer(200, html, "b"), Difference{Kind: Body})
	f("a body with more at its end", Exact, answer(200, html, "a"), answer(200, html, "ab"), Difference{Kind: Body})
	f("no body", Exact, answer(200, html, "a"), answer(200, html, ""), Difference{Kind: Body})
	f("bodies do not count", Off, answer(200, html, "a"), answer(200, html, "b"), same)
	f("another field", Exact, answer(200, html, "a"), answer(200, fields("Content-Type", "image/png"), "a"), Difference{Header, "Content-Type"})
	f("none and another", Exact,
		answer(200, fields("Content-Type", "a/b", "Cache-Control", "no-store"), "a"), answer(200, fields(), "a"),
		Difference{Header, "Content-Type, Cache-Control"})
	f("fields that nobody listed", Exact, answer(200, fields("Etag", `"1"`, "Date", "now"), "a"), answer(200, fields("Server", "f"), "a"), same)
	f("a way of writing", Exact,
		answer(200, fields("Content-Type", "text/html;charset=UTF-8", "Cache-Control", "max-age=60, public"), "a"),
		answer(200, fields("Content-Type", "Text/HTML; charset=utf-8", "Cache-Control", "Public", "Cache-Control", "max-age=60"), "a"), same)
	f("a redirect elsewhere", Exact, answer(302, fields("Location", "/a"), ""), answer(302, fields("Location", "/b"), ""), Difference{Header, "Location"})
	f("the text of a redirect", Exact, answer(302, fields("Location", "/a"), "see"), answer(302, fields("Location", "/a"), "moved"), same)
	gz := fields("Content-Encoding", "gzip")
	f("compressed at one end", Exact, answer(200, gz, zipped("text")), answer(200, fields(), "text"), same)
	f("compressed at the other", Exact, answer(200, fields(), "text"), answer(200, fields("Content-Encoding", "X-GZIP"), zipped("text")), same)
	f("compressed, and another", Exact, answer(200, gz, zipped("text")), answer(200, gz, zipped("texts")), Difference{Kind: Body})
	f("not what it says", Exact, answer(200, fields(), "text"), answer(200, gz, "text"), Difference{Body, "unknown or broken encoding"})
	f("cut in its middle", Exact, answer(200, fields(), "text"), answer(200, gz, zipped("text")[:12]), Difference{Body, "unknown or broken encoding"})
	f("unasked for", Exact, answer(200, fields(), "text"), answer(200, fields("Content-Encoding", "br"), "text"), Difference{Body, "unknown or broken encoding"})
	f("empty and compressed", Exact, answer(200, fields(), "text"), answer(200, gz, ""), Difference{Body, "unknown or broken encoding"})
	f("a bomb", Exact, answer(200, fields(), "text"), answer(200, gz, zipped(strings.Repeat("x", maxDecoded+1))), Difference{Body, "too long"})
	f("the same value", JSON, answer(200, fields(), `{"a":1,"b":[1.50,null]}`), answer(200, fields(), ` { "b":[15e-1 ,null], "a":1 } `), same)
	f("the same value, as bytes", Exact, answer(200, fields(), `{"a":1}`), answer(200, fields(), `{ "a":1}`), Difference{Kind: Body})
	f("another value", JSON, answer(200, fields(), `{"a":1}`), answer(200, fields(), `{"a":2}`), Difference{Kind: Body})
	f("not JSON at one end", JSON, answer(200, fields(), `{"a":1}`), answer(200, fields(), `<html>`), Difference{Body, "not JSON"})
	f("text of another encoding", JSON, answer(200, fields(), "{\"a\":\"\xe9\"}"), answer(200, fields(), "{\"a\":\"\xe8\"}"), Difference{Kind: Body})
	f("not JSON, and equal", JSON, answer(200, fields(), `<html>`), answer(200, fields(), `<html>`), same)
	f("not JSON, and another", JSON, answer(200, fields(), `<html>`), answer(200, fields(), `1`), Difference{Kind: Body})
}

func TestCompareCannot(t *testing.T) {
	r, broken := NewRules(nil, Exact), errors.New("broken off")
	function := answer(200, nil, "")
	function.Body = io.NopCloser(io.MultiReader(strings.NewReader("te"), iotest.ErrReader(broken)))
	if d, err := r.Compare(&Answer{200, nil, []byte("text")}, function); !errors.Is(err, broken) {
		t.Errorf("the function's answer broke off: %+v, %v", d, err)
	}
	r = NewRules(nil, JSON)
	function.Body = io.NopCloser(io.MultiReader(strings.NewReader("[1,"), iotest.ErrReader(broken)))
	if d, err := r.Compare(&Answer{200, nil, []byte("[1]")}, function); !errors.Is(err, broken) {
		t.Errorf("the function's JSON broke off: %+v, %v", d, err)
	}
	gz := fields("Content-Encoding", "gzip")
	if d, err := r.Compare(&Answer{200, gz, []byte("text")}, answer(200, nil, "text")); !errors.Is(err, ErrUnreadable) {
		t.Errorf("the origin's answer is broken: %+v, %v", d, err)
	}
}

func TestProves(t *testing.T) {
	f := func(method, how string, status int, length int64, h http.Header, want bool) {
		t.Helper()
		r := NewRules(nil, how)
		if got := r.Proves(method, &http.Response{StatusCode: status, Header: h, ContentLength: length}); got != want {
			t.Errorf("%s %d of %d bytes, %v: %t", method, status, length, h, got)
		}
	}
	for status, want := range map[int]bool{
		200: true, 204: true, 301: true, 308: true,
		206: false, 300: false, 304: false, 400: false, 404: false, 429: false, 500: false, 503: false,
	} {
		f("GET", Exact, status, 10, fields(), want)
	}
	f("POST", Off, 200, 10, fields(), false)
	f("HEAD", Exact, 200, 10, fields(), false)
	f("HEAD", JSON, 301, 10, fields(), false)
	f("GET", Exact, 200, MaxBody, fields(), true)
	f("GET", Exact, 200, MaxBody+1, fields(), false)
	f("GET", Exact, 200, -1, fields(), true)
	f("GET", Off, 200, MaxBody+1, fields(), true)
	f("HEAD", Off, 200, MaxBody+1, fields("Content-Encoding", "br"), true)
	f("GET", Exact, 200, 10, fields("Content-Encoding", "br"), false)
	f("GET", Exact, 200, 10, fields("Content-Encoding", "GZIP"), true)
	f("GET", Exact, 200, 10, fields("Content-Encoding", "identity"), true)
	f("GET", Exact, 200, 10, fields("Content-Encoding", "gzip", "Content-Encoding", "br"), false)
	f("GET", Off, 200, -1, fields("Content-Type", "text/event-stream; charset=utf-8"), false)
}

func TestAsk(t *testing.T) {
	h := fields("If-None-Match", `"1"`, "Range", "bytes=0-1", "If-Range", `"1"`, "If-Modified-Since", "now", "Cookie", "a=b",
		"Authorization", "x", "Accept-Encoding", "br, gzip;q=0.5")
	Ask(h)
	if len(h) != 3 || h.Get("Accept-Encoding") != "gzip" || h.Get("Cookie") != "a=b" || h.Get("Authorization") != "x" {
		t.Errorf("asks with %v", h)
	}
	f := func(accept, want string) {
		t.Helper()
		h := fields("Accept-Encoding", accept)
		if Ask(h); h.Get("Accept-Encoding") != want {
			t.Errorf("%q: asks for %s", accept, h.Get("Accept-Encoding"))
		}
	}
	f("gzip", "gzip")
	f("br, X-GZIP ; q=1.0", "gzip")
	f("br, zstd", "identity")
	f("gzip;q=0", "identity")
	f("gzip; q=0.000, br", "identity")
	f("", "identity")
}
