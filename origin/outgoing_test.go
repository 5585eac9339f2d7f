package origin

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite what the golden files say was received")

// TestReceived sends the requests of testdata/outgoing to a server that keeps
// what it really gets. A file holds the request as a client sends it, and as the
// server must get it; its comment says what it is about and, in words like
// "trusted", who sends it.
func TestReceived(t *testing.T) {
	files, err := filepath.Glob("testdata/outgoing/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := received(t, string(a.Comment), string(a.Files[0].Data))
			if *update {
				a.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := string(a.Files[1].Data); got != want {
				t.Errorf("the server got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// received returns what a server gets for the request sent, with the line ends
// of text files.
func received(t *testing.T, comment, sent string) string {
	head, body, _ := strings.Cut(sent, "\n\n")
	in := incoming(t, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n"+body)
	client := Client{Addr: netip.MustParseAddr("192.0.2.1"), Proto: "https", Host: in.Host}
	config := Config{}
	for option := range strings.FieldsSeq(comment) {
		switch option {
		case "(trusted)":
			client.Trusted, client.Visitor = true, netip.MustParseAddr("198.51.100.7")
		case "(http3)":
			in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/3.0", 3, 0
		case "(ipv6)":
			client.Addr = netip.MustParseAddr("2001:db8::1%eth0")
		case "(host)":
			config.Host = "app.internal"
		}
	}
	dump, address := dumpServer(t)
	config.Servers = []string{"http://" + address}
	o := newOrigin(t, config)
	var kept io.Reader = in.Body
	if in.ContentLength >= 0 { // as the edge keeps small bodies
		whole, err := io.ReadAll(in.Body)
		if err != nil {
			t.Fatal(err)
		}
		kept = bytes.NewReader(whole)
	}
	resp, err := o.Do(Outgoing(t.Context(), in, client, kept), o.acquire(t))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := strings.ReplaceAll(<-dump, "\r\n", "\n")
	if !strings.HasSuffix(got, "\n") {
		got += "\n"
	}
	return strings.ReplaceAll(got, address, "origin:8080")
}

// dumpServer is a server for one request, and what it receives.
func dumpServer(t *testing.T) (dump <-chan string, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	received := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		var raw bytes.Buffer
		r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &raw)))
		if err == nil {
			io.Copy(io.Discard, r.Body)
		}
		io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		received <- raw.String()
	}()
	return received, l.Addr().String()
}

// TestTarget checks that paths and queries are written as they were read.
func TestTarget(t *testing.T) {
	f := func(raw, want string) {
		t.Helper()
		in := incoming(t, "GET "+raw+" HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if got := target(in).RequestURI(); got != want {
			t.Errorf("%s becomes %s, want %s", raw, got, want)
		}
	}
	same := func(raw string) { t.Helper(); f(raw, raw) }
	same("/")
	same("/a")
	same("/a?")
	same("/a?b=c&b=d;e")
	same("/a%2Fb")
	same("/a%2fb")
	same("/%7Ea")
	same("/a//b")
	same("//a")
	same("//example.net/a")
	same("///")
	same("//a%2Fb?c")
	f("//a%2Fb|%7C", "//a%2Fb%7C%7C")
	same("/a;v=1/b")
	same("/a/../b/./c")
	same("/a+b")
	same("/a|b^c`d{e}\"f")
	same("/caf\xc3\xa9?caf\xc3\xa9")
	same("/:a@b")
	same("/?a=/b?c=d%")
	same("/?url=http://example.net/")
	same("/a:b")
	same("*")
	f("http://example.com/a%2Fb?c", "/a%2Fb?c")
	f("http://example.com", "/")
	f("http://example.com?a", "/?a")
	f("/a#b", "/a%23b")
	f("http:/admin", "/admin")
	f("x:/admin?a", "/admin?a")
	f("http:///p", "/p")
	f("http:////p%2Fq?", "//p%2Fq?")
	f("http://example.com/a%2Fb//c?d=/e", "/a%2Fb//c?d=/e")
}

// TestTargetParts: others who pass requests on get what the origin gets.
func TestTargetParts(t *testing.T) {
	f := func(raw, wantPath, wantQuery string) {
		t.Helper()
		in := get(t, "/")
		in.RequestURI = raw
		if path, query := Target(in); path != wantPath || query != wantQuery {
			t.Errorf("%q: got %q and %q", raw, path, query)
		}
	}
	f("/a%2Fb?c=d?e", "/a%2Fb", "c=d?e")
	f("/a?", "/a", "")
	f("/a b#c?d e\r\n\x00#", "/a%20b%23c", "d%20e%0D%0A%00%23")
	f("//a|b", "//a%7Cb", "")
	f("*", "*", "")
}

// TestTargetSmuggling: HTTP/2 and HTTP/3 deliver targets that would end an
// HTTP/1.1 request line early.
func TestTargetSmuggling(t *testing.T) {
	in := get(t, "/")
	in.RequestURI = "/a HTTP/1.1\r\nHost: evil\r\n\r\nGET /b?c d\x7f"
	if got, want := target(in).RequestURI(), "/a%20HTTP/1.1%0D%0AHost:%20evil%0D%0A%0D%0AGET%20/b?c%20d%7F"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("/a%2Fb?c")
	f.Add("//a/b")
	f.Add("http://a/b")
	f.Add("/ \r\n#")
	f.Add("?")
	f.Add("//%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		in, err := http.NewRequest(http.MethodGet, "http://example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if u, err := in.URL.Parse(raw); err != nil || raw == "" || raw[0] != '/' {
			return
		} else if in.URL = u; u.Path == "" {
			return
		}
		in.RequestURI = raw
		out := Outgoing(context.Background(), in, visitor, nil)
		out.URL.Scheme, out.URL.Host = "http", "origin"
		got := out.URL.RequestURI()
		if got == "" || got[0] != '/' || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
			t.Errorf("%q is written as %q", raw, got)
		}
		sent, _, _ := strings.Cut(raw, "?")
		written, _, _ := strings.Cut(got, "?")
		a, _ := url.PathUnescape(sent)
		b, err := url.PathUnescape(written)
		if err != nil || a != b || strings.Count(sent, "/") != strings.Count(written, "/") {
			t.Errorf("%q means another path than %q, %v", got, raw, err)
		}
	})
}

// TestWithheld checks what a client may not tell the origin.
func TestWithheld(t *testing.T) {
	f := func(name string, trusted, want bool) {
		t.Helper()
		if got := withheld(http.CanonicalHeaderKey(name), trusted); got != want {
			t.Errorf("withheld(%q, %v) = %v", name, trusted, got)
		}
	}
	always := func(name string) { t.Helper(); f(name, false, true); f(name, true, true) }
	never := func(name string) { t.Helper(); f(name, false, false); f(name, true, false) }
	untrusted := func(name string) { t.Helper(); f(name, false, true); f(name, true, false) }
	for name := range strings.FieldsSeq(`
		Connection Keep-Alive Proxy-Connection Proxy-Authorization Proxy TE Trailer Transfer-Encoding Upgrade HTTP2-Settings
		Expect Host X-Original-URL X-Rewrite-URL X-HTTP-Method X-HTTP-Method-Override X-Method-Override X-Real-IP True-Client-IP
		CF-Connecting-IP Spillway Spillway-Key X_Forwarded_For X-Forwarded_For X_Original_URL Transfer_Encoding Content_Length
		X.Forwarded.For SPILLWAY_KEY X-Forwarded Forwarded-For X-Original-Forwarded-For X-Middleware-Subrequest X-Sendfile-Type
		X-Accel-Mapping X-Accel-Redirect X_Client_Cert`) {
		always(name)
	}
	for name := range strings.FieldsSeq(`
		X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host X-Forwarded-User Forwarded Front-End-Https X-Url-Scheme X-Client-Cert
		X-SSL-Client-Verify X-SSL-Client-S-DN`) {
		untrusted(name)
	}
	for name := range strings.FieldsSeq(`
		Accept Authorization Cookie User-Agent X-Request-Id X-Custom my_key Range If-None-Match Via Priority
		Sec-WebSocket-Key Early-Data Traceparent X-Forward`) {
		never(name)
	}
}

// TestPriorityIsWithheld: only a trusted proxy says how important a request is, and
// only in the field itself.
func TestPriorityIsWithheld(t *testing.T) {
	f := func(priority, name string, trusted, want bool) {
		t.Helper()
		c := Client{Priority: priority, Trusted: trusted}
		if got := c.withholds(http.CanonicalHeaderKey(name)); got != want {
			t.Errorf("priority in %q: %q of a trusted proxy %v, withheld %v", priority, name, trusted, got)
		}
	}
	f("X-Priority", "x-priority", false, true)
	f("X-Priority", "x-priority", true, false)
	f("X-Priority", "X_PRIORITY", false, true)
	f("X-Priority", "X.Priority", true, true)
	f("X-Priority", "X-Priority-Hint", false, false)
	f("X_priority", "x-priority", true, true)
	f("X_priority", "x_priority", true, false)
	f("", "X-Priority", false, false)
	f("X-Priority", "X-Forwarded-For", false, true)
}

// TestSharedValues: fields are shared with the client's request, which must not
// change.
func TestSharedValues(t *testing.T) {
	in := incoming(t, "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: x-a\r\nX-A: 1\r\nCookie: a\r\nCookie: b\r\n\r\n")
	in.Header["Via"] = append(make([]string, 0, 8), in.Header["Via"]...)
	before := in.Header.Clone()
	c := visitor
	c.Trusted = true
	Outgoing(t.Context(), in, c, nil)
	if !maps.EqualFunc(in.Header, before, slices.Equal) {
		t.Errorf("changed to %v", in.Header)
	}
	if spare := in.Header["Via"][:2]; spare[1] != "" {
		t.Errorf("wrote behind Via: %q", spare[1])
	}
}

func TestForwardedElement(t *testing.T) {
	f := func(addr, host, proto, want string) {
		t.Helper()
		a, _ := netip.ParseAddr(addr)
		if got := element(a, host, proto); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	f("192.0.2.1", "example.com", "https", `for=192.0.2.1;host=example.com;proto=https`)
	f("2001:db8::1", "example.com:8443", "http", `for="[2001:db8::1]";host="example.com:8443";proto=http`)
	f("", "", "", `for=unknown`)
	f("192.0.2.1", `a"b\`, "", `for=192.0.2.1;host="a\"b\\"`)
}
