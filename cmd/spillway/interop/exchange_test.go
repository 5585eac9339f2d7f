package interop

import (
	"bytes"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// odd is a target that means something else to whoever decodes it, or cleans it
// up.
const odd = "/odd%2Fpath/%41//b?x=%2F&y=a+b&&z=%e4&q"

// TestSameBytes sends the same requests by every client, and asks that the
// origin and the client see the same ones.
func TestSameBytes(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	sent := 0
	for _, c := range clients(t, n) {
		t.Run(c.name, func(t *testing.T) {
			send := func(a ask) reply { sent++; return c.send(t, a) }
			for _, size := range []string{"1024", "1048576"} {
				testDownload(t, send, size)
			}
			testHead(t, send)
			testUpload(t, o, send)
			testFields(t, o, send)
			testOddTarget(t, o, send)
			testEncoded(t, send)
			testConditional(t, send)
			testRange(t, send)
		})
	}
	lines := n.logged(t)
	if total := int(n.metric(t, "spillway_requests_total")); total != sent || len(lines) != sent {
		t.Errorf("%d requests were sent, the node counts %d and logs %d", sent, total, len(lines))
	}
	for _, line := range lines {
		if line.Client != "127.0.0.0/24" {
			t.Errorf("a line of the log names the client %q", line.Client)
		}
	}
}

func testDownload(t *testing.T, send func(ask) reply, size string) {
	t.Helper()
	got := send(ask{method: "GET", target: "/bytes/" + size})
	want := pattern(len(got.body))
	if got.status != "200" || !bytes.Equal(got.body, want) || got.header.Get("Content-Length") != size || got.header.Get("Etag") != `"`+size+`"` {
		t.Errorf("%s bytes: %s, %d bytes, %v", size, got.status, len(got.body), got.header)
	}
}

func testHead(t *testing.T, send func(ask) reply) {
	t.Helper()
	got := send(ask{method: "HEAD", target: "/bytes/1024"})
	if got.status != "200" || len(got.body) != 0 || got.header.Get("Content-Length") != "1024" {
		t.Errorf("HEAD: %s, %d bytes, %v", got.status, len(got.body), got.header)
	}
}

func testUpload(t *testing.T, o *origin, send func(ask) reply) {
	t.Helper()
	body := pattern(1 << 20)
	got := send(ask{"POST", "/echo", http.Header{"Content-Type": {"application/x-bytes"}}, body})
	if got.status != "200" || !bytes.Equal(got.body, body) {
		t.Errorf("upload: %s, %d bytes came back", got.status, len(got.body))
	}
	a, _ := o.arrived("/echo")
	if a.method != "POST" || a.body != digest(body) || a.header.Get("Content-Type") != "application/x-bytes" {
		t.Errorf("upload: the origin saw %+v", a)
	}
}

func testFields(t *testing.T, o *origin, send func(ask) reply) {
	t.Helper()
	got := send(ask{method: "GET", target: "/fields", header: http.Header{
		"X-Several": {"a", "b, c", `"d"`}, "Cookie": {"one=1; two=2"}, "X-Latin": {"caf\xe9"}, "X-Empty": {""},
	}})
	for name, want := range map[string][]string{
		"X-Many":     {"one", "two, three", `"four, five"`},
		"Set-Cookie": {"a=1; Path=/", "b=2; Path=/; Secure; HttpOnly"},
	} {
		if !slices.Equal(got.header[name], want) {
			t.Errorf("the client saw %s %q", name, got.header[name])
		}
	}
	a, _ := o.arrived("/fields")
	for name, want := range map[string][]string{
		"X-Several": {"a", "b, c", `"d"`}, "Cookie": {"one=1; two=2"}, "X-Latin": {"caf\xe9"},
	} {
		if !slices.Equal(a.header[name], want) {
			t.Errorf("the origin saw %s %q", name, a.header[name])
		}
	}
}

func testOddTarget(t *testing.T, o *origin, send func(ask) reply) {
	t.Helper()
	got := send(ask{method: "GET", target: odd})
	if _, ok := o.arrived(odd); !ok || string(got.body) != odd {
		t.Errorf("the origin saw %q instead of %q", got.body, odd)
	}
}

func testEncoded(t *testing.T, send func(ask) reply) {
	t.Helper()
	got := send(ask{method: "GET", target: "/gzip", header: http.Header{"Accept-Encoding": {"gzip"}}})
	if got.header.Get("Content-Encoding") != "gzip" || !bytes.Equal(got.body, gzipped()) {
		t.Errorf("gzip: %v, %d bytes", got.header, len(got.body))
	}
}

func testConditional(t *testing.T, send func(ask) reply) {
	t.Helper()
	got := send(ask{method: "GET", target: "/bytes/1024", header: http.Header{"If-None-Match": {`"1024"`}}})
	if got.status != "304" || len(got.body) != 0 || got.header.Get("Etag") != `"1024"` {
		t.Errorf("conditional: %s, %d bytes, %v", got.status, len(got.body), got.header)
	}
}

func testRange(t *testing.T, send func(ask) reply) {
	t.Helper()
	got := send(ask{method: "GET", target: "/bytes/1048576", header: http.Header{"Range": {"bytes=1000-1999"}}})
	if got.status != "206" || !bytes.Equal(got.body, pattern(2000)[1000:]) || got.header.Get("Content-Range") != "bytes 1000-1999/1048576" {
		t.Errorf("range: %s, %d bytes, %v", got.status, len(got.body), got.header)
	}
}

func TestEarlyHints(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	for _, c := range clients(t, n) {
		t.Run(c.name, func(t *testing.T) {
			got := c.send(t, ask{method: "GET", target: "/hints"})
			if string(got.body) != "hinted" || !slices.Equal(got.hints, []string{"</style.css>; rel=preload; as=style"}) {
				t.Errorf("got %q after the hints %q", got.body, got.hints)
			}
		})
	}
}

// TestTrailers asks that the field after a body arrives, at the clients that
// show it, whether the origin announced it or not.
func TestTrailers(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	for _, c := range clients(t, n) {
		if !strings.HasPrefix(c.name, "go-") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			for _, how := range []string{"announced", "late"} {
				got := c.send(t, ask{method: "GET", target: "/trailers/" + how, header: http.Header{"Te": {"trailers"}}})
				if string(got.body) != "trailed" || got.trailer.Get("X-Checksum") != "abc" {
					t.Errorf("%s: got %q and %v", how, got.body, got.trailer)
				}
			}
		})
	}
}

// TestCurlExpectsContinue uploads as curl does what is large: it asks first.
func TestCurlExpectsContinue(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	body := pattern(2 << 20)
	got := n.curl(t, "--http1.1", ask{"PUT", "/echo", http.Header{"Expect": {"100-continue"}}, body})
	if got.status != "200" || !bytes.Equal(got.body, body) {
		t.Errorf("%s, %d bytes came back", got.status, len(got.body))
	}
}

// TestEventStreamByCurl asks that events come one by one: the origin waits
// between them, so that a node that holds them back would deliver none before
// curl gives up.
func TestEventStreamByCurl(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	for _, flag := range []string{"--http1.1", "--http2"} {
		out, err := exec.Command(need(t, "curl", "curl"), flag, "-sN", "--cacert", n.ca, "--max-time", "60", n.url+"/events").Output()
		if err != nil || strings.Count(string(out), "data: event") != 5 {
			t.Errorf("%s: %v, got %q", flag, err, out)
		}
	}
}
