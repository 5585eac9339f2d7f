package origin

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// sums answers with the body and the trailers that it got, and sends trailers.
var sums = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	announced := slices.Sorted(maps.Keys(r.Trailer))
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Trailer", "X-Answer, Content-Type, Set-Cookie")
	fmt.Fprintf(w, "%s %v %v %d", body, err, announced, r.ContentLength)
	for _, name := range slices.Sorted(maps.Keys(r.Trailer)) {
		fmt.Fprintf(w, " %s=%s", name, r.Trailer.Get(name))
	}
	w.Header().Set("X-Answer", "42")
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Set-Cookie", "a=b")
})

// TestTrailersBothWays: trailers go both ways, over HTTP/1.1 and HTTP/2, with bodies that
// are streamed and that were kept. Those that would change a message's meaning do
// not.
func TestTrailersBothWays(t *testing.T) {
	const announced = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Authorization, X-Forwarded-For, Spillway\r\n\r\n" +
		"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: 1.2.3.4\r\nSpillway: x\r\n\r\n"
	streamed := func(in *http.Request) io.Reader { return in.Body }
	kept := func(in *http.Request) io.Reader {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			t.Error(err)
		}
		return bytes.NewReader(body)
	}
	for _, scheme := range []string{"http", "https", "h2c"} {
		server, c := serverOf(t, scheme, sums)
		c.Servers = []string{server}
		o := newOrigin(t, c)
		f := func(raw string, read func(*http.Request) io.Reader, want string) {
			t.Helper()
			in := incoming(t, raw)
			resp, err := o.Do(Outgoing(t.Context(), in, visitor, read(in)), o.acquire(t))
			if got := bodyOf(t, resp, err); got != want {
				t.Errorf("%s: got %q, want %q", scheme, got, want)
			}
			if len(resp.Trailer) != 1 || resp.Trailer.Get("X-Answer") != "42" {
				t.Errorf("%s: trailers %v", scheme, resp.Trailer)
			}
		}
		f(announced, streamed, "hello <nil> [X-Sum] -1 X-Sum=1")
		f(announced, kept, "hello <nil> [X-Sum] -1 X-Sum=1")
		f(strings.Replace(announced, "POST", "GET", 1), streamed, "hello <nil> [X-Sum] -1 X-Sum=1")
		f(strings.Replace(announced, "5\r\nhello\r\n", "", 1), kept, " <nil> [X-Sum] -1 X-Sum=1")
		f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", kept, "hello <nil> [] 5")
	}
}

// TestUnannouncedTrailers: a client of HTTP/3 need not announce them.
func TestUnannouncedTrailers(t *testing.T) {
	server, _ := serverOf(t, "http", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer)
	}))
	o := newOrigin(t, Config{Servers: []string{server}})
	in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
	in.ProtoMajor, in.ProtoMinor = 3, 0
	resp, err := o.Do(Outgoing(t.Context(), in, visitor, in.Body), o.acquire(t))
	if got := bodyOf(t, resp, err); got != "map[X-Sum:[1]]" {
		t.Errorf("got %q", got)
	}
}
