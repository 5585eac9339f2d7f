package cache

import (
	"bytes"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// excerptOf is what an entry answers, as a visitor sees it.
func excerptOf(e *Entry, r *http.Request) (status int, h http.Header, body string) {
	x, ok := e.Excerpt(r)
	if !ok {
		return e.Status(), e.Header(), string(e.Body())
	}
	h = maps.Clone(e.Header())
	status = x.Apply(h)
	body = string(bytes.Join(x.Pieces(), nil))
	return status, h, body
}

func TestExcerpt(t *testing.T) {
	e := entryOf(200, `Etag: "a"`, "Content-Type: text/plain").complete([]byte("0123456789"))
	f := func(status int, contentRange, body string, lines ...string) {
		t.Helper()
		gotStatus, h, got := excerptOf(e, get("/", lines...))
		if gotStatus != status || got != body || h.Get("Content-Range") != contentRange || h.Get("Content-Length") != strconv.Itoa(len(body)) {
			t.Errorf("%q: %d %q %v", lines, gotStatus, got, h)
		}
	}
	f(206, "bytes 0-1/10", "01", "Range: bytes=0-1")
	f(206, "bytes 8-9/10", "89", "Range: bytes=8-")
	f(206, "bytes 9-9/10", "9", "Range: bytes=-1")
	f(206, "bytes 0-9/10", "0123456789", "Range: bytes=0-")
	f(206, "bytes 0-9/10", "0123456789", "Range: bytes=-99")
	f(206, "bytes 0-5/10", "012345", "Range: bytes=4-5,0-1") // close together: one part
	f(206, "bytes 0-1/10", "01", "Range: bytes=50-60,0-1")
	f(416, "bytes */10", "", "Range: bytes=10-")
	f(416, "bytes */10", "", "Range: bytes=-0")

	// RFC 9110 section 14.2: what is not understood is ignored.
	for _, line := range []string{"bytes=2-1", "items=0-1", "bytes=" + strings.Repeat("0-1,", 17), "bytes=x"} {
		f(200, "", "0123456789", "Range: "+line)
	}
	f(200, "", "0123456789", "Range: bytes=0-1", "Range: bytes=2-3")

	// Section 13.1.5.
	f(206, "bytes 0-1/10", "01", "Range: bytes=0-1", `If-Range: "a"`)
	f(200, "", "0123456789", "Range: bytes=0-1", `If-Range: "b"`)
	f(200, "", "0123456789", "Range: bytes=0-1", `If-Range: W/"a"`)
	f(200, "", "0123456789", "Range: bytes=20-", `If-Range: "b"`) // not 416: the whole is wanted
	f(200, "", "0123456789", `If-Range: "b"`)

	if _, ok := e.Excerpt(request("HEAD", "/", "Range: bytes=0-1")); ok {
		t.Error("HEAD has ranges") // section 14.2: it is defined for GET
	}
	if _, ok := entryOf(404).complete([]byte("none")).Excerpt(get("/", "Range: bytes=0-1")); ok {
		t.Error("404 has ranges")
	}
	if _, ok := entryOf(200).complete(nil).Excerpt(get("/", "Range: bytes=0-1")); ok {
		t.Error("an empty body has ranges")
	}
}

// A range is sent from where it lies.
func TestExcerptIsNotCopied(t *testing.T) {
	e := entryOf(200).complete([]byte("0123456789"))
	x, _ := e.Excerpt(get("/", "Range: bytes=3-5"))
	if pieces := x.Pieces(); len(pieces) != 1 || &pieces[0][0] != &e.body[3] {
		t.Errorf("%q", pieces)
	}
}

// RFC 9110 section 15.3.7: who has the fields does not get them again.
func TestExcerptLeavesOutWhatIfRangeHas(t *testing.T) {
	fields := []string{
		`Etag: "a"`, "Content-Type: a/b", "Content-Encoding: br", "Content-Language: de", "Content-Location: /x", "Vary: Accept",
		"Cache-Control: max-age=60", "Expires: x", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "X: 1",
	}
	e := entryOf(200, fields...).complete([]byte("0123456789"))
	_, all, _ := excerptOf(e, get("/", "Range: bytes=0-1"))
	for name := range e.header {
		if all.Get(name) == "" {
			t.Errorf("without If-Range: no %s", name)
		}
	}
	_, few, _ := excerptOf(e, get("/", "Range: bytes=0-1", `If-Range: "a"`))
	for _, name := range []string{"Content-Encoding", "Content-Language", "Content-Type", "Last-Modified"} {
		if few.Get(name) != "" {
			t.Errorf("with If-Range: %s", name)
		}
	}
	for _, name := range []string{"Date", "Etag", "Cache-Control", "Expires", "Content-Location", "Vary", "Content-Range", "X"} {
		if few.Get(name) == "" {
			t.Errorf("with If-Range: no %s", name)
		}
	}
	if _, ok := few["Content-Type"]; !ok {
		t.Error("a server would guess a type") // net/http does where the field is not there at all
	}
	// A 416 says nothing about the whole, and stays out of caches.
	_, none, _ := excerptOf(e, get("/", "Range: bytes=10-"))
	if none.Get("Cache-Control") != "no-store" || none.Get("Etag") != "" || none.Get("Content-Type") != "" || none.Get("X") != "1" {
		t.Errorf("416: %v", none)
	}
}

func TestMultipart(t *testing.T) {
	body := strings.Repeat("0123456789", 100)
	e := entryOf(200, `Etag: "a"`, "Content-Type: a/b", "Content-Range: from a broken origin").complete([]byte(body))
	f := func(kind string, lines ...string) {
		t.Helper()
		status, h, got := excerptOf(e, get("/", lines...))
		media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
		if status != 206 || err != nil || media != "multipart/byteranges" || h.Get("Content-Length") != strconv.Itoa(len(got)) {
			t.Fatalf("%d %v, %d bytes: %v", status, h, len(got), err)
		}
		if _, ok := h["Content-Range"]; ok {
			t.Error("Content-Range in the header of a multipart answer") // RFC 9110 section 15.3.7.2
		}
		var ranges []string
		reader := multipart.NewReader(strings.NewReader(got), params["boundary"])
		for {
			part, err := reader.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			s, size, ok := parseContentRange(part.Header["Content-Range"])
			content, _ := io.ReadAll(part)
			if !ok || size != 1000 || string(content) != body[s.first:s.end] || part.Header.Get("Content-Type") != kind {
				t.Errorf("part %v: %d bytes", part.Header, len(content))
			}
			ranges = append(ranges, part.Header.Get("Content-Range"))
		}
		if want := []string{"bytes 500-509/1000", "bytes 0-1/1000", "bytes 999-999/1000"}; !slices.Equal(ranges, want) {
			t.Errorf("parts %q, want %q", ranges, want)
		}
	}
	const several = "Range: bytes=500-509, 0-1, 2000-, -1"
	f("a/b", several)
	f("", several, `If-Range: "a"`)

	x, _ := e.Excerpt(get("/", several))
	y, _ := e.Excerpt(get("/", several))
	if x.boundary == y.boundary {
		t.Error("the boundary can be known")
	}
}
