package edge_test

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A stream case is a request of HTTP/2 or HTTP/3, whose field sections can hold
// any bytes, and what must come of it when it is written in HTTP/1.1 and in
// HTTP/2: the request that the origin gets, or refused. That is an answer of the
// node itself, or a reset.
type stream struct {
	name    string
	fields  []field
	body    string
	trailer []field
	want    string
	over3   string // what comes of it over HTTP/3, if that is something else
}

type field struct{ name, value string }

// with is a GET whose fields are replaced or followed by others. What is to be
// left out is told by a value of absent.
func with(pairs ...string) []field {
	fields := []field{{":method", "GET"}, {":scheme", "https"}, {":authority", "edge.test"}, {":path", "/a"}}
	return change(fields, pairs)
}

// posted is a POST like with.
func posted(pairs ...string) []field {
	fields := with()
	fields[0].value = "POST"
	return change(fields, pairs)
}

func change(fields []field, pairs []string) []field {
	for i := 0; i < len(pairs); i += 2 {
		f := field{pairs[i], pairs[i+1]}
		at := slices.IndexFunc(fields, func(g field) bool { return g.name == f.name && strings.HasPrefix(f.name, ":") })
		switch {
		case at < 0:
			fields = append(fields, f)
		case f.value == absent:
			fields = slices.Delete(fields, at, at+1)
		default:
			fields[at] = f
		}
	}
	return fields
}

const absent = "\x00absent"

// then adds fields behind all others, where they may not stand.
func then(fields []field, more ...field) []field { return append(fields, more...) }

func TestSmugglingStreams(t *testing.T) {
	cases := slices.Concat(pseudo(), streamFields(), streamBodies())
	runFronts(t, func(t *testing.T, n *front) {
		for _, c := range cases {
			n.runStream(t, c)
		}
	})
}

func (n *front) runStream(t *testing.T, c stream) {
	t.Run("h2 "+c.name, func(t *testing.T) { n.judge(t, c.want, n.stream2(t, c)) })
	t.Run("h3 "+c.name, func(t *testing.T) { n.judge(t, cmp.Or(c.over3, c.want), n.stream3(t, c)) })
}

// judge compares what came of a stream with what must, at the visitor and at the
// origin.
func (n *front) judge(t *testing.T, want, got string) {
	t.Helper()
	if want == "refused" {
		if status, err := strconv.Atoi(got); got != "reset" && (err != nil || status < 400) {
			t.Errorf("got %q, want a refusal", got)
		}
	} else if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	n.check(t, forwarded(want))
}

func pseudo() []stream {
	cases := []stream{{name: "plain", fields: with(), want: "GET /a"}}
	f := func(name, value, want string) {
		cases = append(cases, stream{name: name + " " + printable(value), fields: with(name, value), want: want})
	}
	// A target is written so that it ends where it ended.
	f(":path", "/a b", "GET /a%20b")
	f(":path", "/a HTTP/1.1", "GET /a%20HTTP/1.1")
	f(":path", "/a#b", "GET /a%23b")
	f(":path", "//other.test/a", "GET //other.test/a")
	f(":path", "/a?b c", "GET /a?b%20c")
	f(":path", "/\xff", "GET /\xff")
	f(":path", "/a?", "GET /a?")
	for _, path := range []string{
		"", "a", "?a", "*", "/a HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled", "/a\r\n", "/a\nX: y", "/a\rb", "/\x00", "/\x01", "/a\tb", "/\x7f", "/%zz",
		"http://other.test/a", "http:/a", "other.test:443", "/../a", "/a/%2e%2e/b", "/%00", "\\a", " /a",
	} {
		f(":path", path, "refused")
	}
	f(":method", "PROPFIND", "PROPFIND /a")
	f(":method", "get", "get /a")
	for _, method := range []string{
		"", "GET ", " GET", "G T", "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\nGET", "GET\r\n", "GET\n", "G\x00T", "G\tT", "GET/", "(GET)", "G\xc9T", "TRACE", "CONNECT",
	} {
		f(":method", method, "refused")
	}
	f(":authority", "other.test", "GET other.test/a")
	f(":authority", "edge.test:443", "GET edge.test:443/a")
	f(":authority", "[::1]:443", "GET [::1]:443/a")
	for _, host := range []string{
		"", "user@edge.test", "user:x@edge.test", "edge.test:443@other.test", "edge.test other.test", "edge.test,other.test", "edge.test/b", "edge.test?b", "edge.test#b",
		"edge.test\r\nX: y", "edge.test\n", "edge.test\x00", "edge.test\\", "edge.test:x", "edge.test:99999", "[edge.test]", "[::1", "::1", " edge.test", "\xe9dge.test", "..",
	} {
		f(":authority", host, "refused")
	}
	// The node's own scheme is what the origin is told. quic-go looks at it no
	// further than at any value.
	for _, scheme := range []string{"", "ftp", "http://other.test/", "https ", "https://", "javascript"} {
		cases = append(cases, stream{name: ":scheme " + printable(scheme), fields: with(":scheme", scheme), want: "refused", over3: "GET /a"})
	}
	f(":scheme", "https\r\nX: y", "refused")
	f(":scheme", "h\x00ttps", "refused")
	add := func(name string, fields []field, want string) {
		cases = append(cases, stream{name: name, fields: fields, want: want})
	}
	add("no :path", with(":path", absent), "refused")
	add("no :method", with(":method", absent), "refused")
	cases = append(cases, stream{name: "no :scheme", fields: with(":scheme", absent), want: "refused", over3: "GET /a"})
	add("no :authority", with(":authority", absent), "refused")
	add("host in place of :authority", with(":authority", absent, "host", "edge.test"), "GET /a")
	add("host as :authority", with("host", "edge.test"), "GET /a")
	add("host another than :authority", with("host", "other.test"), "refused")
	add("host twice", with("host", "edge.test", "host", "other.test"), "refused")
	add("host twice in place of :authority", with(":authority", absent, "host", "edge.test", "host", "other.test"), "refused")
	add(":path twice", then(with(), field{":path", "/smuggled"}), "refused")
	add(":method twice", then(with(), field{":method", "POST"}), "refused")
	add(":authority twice", then(with(), field{":authority", "other.test"}), "refused")
	add(":scheme twice", then(with(), field{":scheme", "http"}), "refused")
	add(":path behind a field", with(":path", absent, "x", "y", ":path", "/a"), "refused")
	add(":method behind a field", with(":method", absent, "x", "y", ":method", "GET"), "refused")
	add(":status", with(":status", "200"), "refused")
	add(":protocol", with(":protocol", "websocket"), "refused")
	add(":unknown", with(":unknown", "x"), "refused")
	add(":", with(":", "x"), "refused")
	add(":Path", with(":Path", "/smuggled"), "refused")
	add("CONNECT as it should be", []field{{":method", "CONNECT"}, {":authority", "other.test:443"}}, "refused")
	add("CONNECT with a body's fields", []field{{":method", "CONNECT"}, {":authority", "other.test:443"}, {"content-length", "0"}}, "refused")
	add("nothing at all", []field{{"x", "y"}}, "refused")
	return cases
}

func streamFields() []stream {
	var cases []stream
	f := func(name, value, want string) {
		cases = append(cases, stream{name: "field " + printable(name) + " " + printable(value), fields: with(name, value), want: want})
	}
	f("x", "y", "GET /a")
	f("x", "\xff", "GET /a")
	f("x", "", "GET /a")
	f("te", "trailers", "GET /a")
	f("content_length", "43", "GET /a")
	f("transfer_encoding", "chunked", "GET /a")
	f("x_forwarded_for", "6.6.6.6", "GET /a")
	f("x-forwarded-for", "6.6.6.6", "GET /a")
	f("forwarded", "for=6.6.6.6", "GET /a")
	f("x-http-method-override", "DELETE", "GET /a")
	f("http2-settings", "AAMAAABk", "GET /a")
	f("trailer", "x", "GET /a")
	f("expect", "100-continue", "GET /a")
	// RFC 9113 section 8.2.2, RFC 9114 section 4.2
	for _, name := range []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"} {
		for _, value := range []string{"close", "chunked", "websocket"} {
			f(name, value, "refused")
		}
	}
	f("te", "chunked", "refused")
	f("te", "trailers, chunked", "refused")
	for _, name := range []string{
		"", "X", "Content-Length", "x y", "x:", "x:y", "x\r\ny", "x\n", "x\x00", "x\t", " x", "x\xff", "x(y)", "transfer-encoding ", "x: y\r\ntransfer-encoding", "x\r\n\r\nGET /smuggled HTTP/1.1\r\nx",
	} {
		f(name, "chunked", "refused")
	}
	for _, value := range []string{"a\r\nb: c", "a\nb", "a\rb", "a\x00b", "\x01", "\x7f", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: edge.test\r\n\r\n"} {
		f("x", value, "refused")
		f("cookie", value, "refused")
	}
	return append(cases,
		stream{name: "cookies in crumbs", fields: with("cookie", "a=b", "cookie", "c=d", "cookie", "e=f"), want: "GET /a"},
		stream{name: "length 0", fields: with("content-length", "0"), want: "GET /a"})
}

func streamBodies() []stream {
	f := func(name string, fields []field, body, want string) stream {
		return stream{name: "body " + name, fields: fields, body: body, want: want}
	}
	cases := []stream{
		f("plain", posted(), "hello", "POST /a hello"),
		f("with its length", posted("content-length", "5"), "hello", "POST /a hello"),
		f("of a GET", with(), smuggled, "GET /a "+smuggled),
		f("that is a request", posted(), smuggled, "POST /a "+smuggled),
		f("in chunks", posted(), chunked+smuggled, "POST /a "+chunked+smuggled),
		f("in chunks, said so", posted("transfer-encoding", "chunked"), chunked+smuggled, "refused"),
		f("longer than its length", posted("content-length", "4"), "hello", "refused"),
	}
	for _, name := range []string{"x-checksum", "x-forwarded-for", "cookie", "content_length"} {
		trailer := []field{{name, "43"}}
		cases = append(cases,
			stream{name: "trailer " + name, fields: posted(), body: "hello", trailer: trailer, want: "POST /a hello"},
			stream{name: "trailer announced " + name, fields: posted("trailer", name), body: "hello", trailer: trailer, want: "POST /a hello"})
	}
	return cases
}
