package edge_test

import (
	"bytes"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go/quicvarint"

	"spillway/edge"
)

const headerLimit = 32 << 10

// sameRequest fails the test unless the fast path makes the request of p that http3
// makes, or none.
func sameRequest(t *testing.T, p []byte, limit int) (ok bool) {
	t.Helper()
	got, ok := edge.Glance(p, limit)
	if !ok {
		return false
	}
	kind, n, err := quicvarint.Parse(p)
	if err != nil || kind != headersFrame {
		t.Fatalf("%x is no HEADERS frame", p)
	}
	length, m, err := quicvarint.Parse(p[n:])
	if err != nil || length != uint64(len(p)-n-m) || length > uint64(limit) {
		t.Fatalf("%x is not one whole HEADERS frame within the limit", p)
	}
	want, err := edge.Request3(p[n+m:], limit)
	if err != nil {
		t.Fatalf("%x: http3 says %v, the fast path makes %+v", p, err, got)
	}
	want.Body, want.ContentLength = http.NoBody, 0
	if !reflect.DeepEqual(got, want) || !maps.EqualFunc(got.Header, want.Header, slices.Equal[[]string]) {
		t.Fatalf("%x: got %+v, URL %#v; want %+v, URL %#v", p, got, got.URL, want, want.URL)
	}
	return true
}

// plainly encodes fields without the static table and without Huffman's code.
func plainly(fields []field) []byte {
	b := []byte{0, 0}
	appendLength := func(first byte, bits, n int) {
		most := 1<<bits - 1
		if n < most {
			b = append(b, first|byte(n))
			return
		}
		b = append(b, first|byte(most))
		for n -= most; n >= 0x80; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		b = append(b, byte(n))
	}
	for _, f := range fields {
		appendLength(0x20, 3, len(f.name))
		b = append(b, f.name...)
		appendLength(0, 7, len(f.value))
		b = append(b, f.value...)
	}
	return appendFrame(nil, headersFrame, b)
}

func askFor(target string, more ...string) []field {
	fields := []field{{":method", "GET"}, {":authority", "edge.test"}, {":scheme", "https"}, {":path", target}}
	for i := 0; i < len(more); i += 2 {
		fields = append(fields, field{more[i], more[i+1]})
	}
	return fields
}

// chromium is what Chromium sends for a picture.
func chromium(target string) []field {
	return askFor(target, "sec-ch-ua-platform", `"Linux"`,
		"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
		"sec-ch-ua", `"Chromium";v="141", "Not?A_Brand";v="8"`, "sec-ch-ua-mobile", "?0",
		"accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "sec-fetch-site", "same-origin",
		"sec-fetch-mode", "no-cors", "sec-fetch-dest", "image", "referer", "https://edge.test/", "accept-encoding", "gzip, deflate, br, zstd",
		"accept-language", "en-US,en;q=0.9", "cookie", "a=b", "cookie", "c=d", "priority", "i")
}

// firefox is what Firefox sends for a page.
func firefox(target string) []field {
	return askFor(target, "user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
		"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "accept-language", "en-US,en;q=0.5",
		"accept-encoding", "gzip, deflate, br, zstd", "upgrade-insecure-requests", "1", "sec-fetch-dest", "document",
		"sec-fetch-mode", "navigate", "sec-fetch-site", "none", "sec-fetch-user", "?1", "priority", "u=0, i", "te", "trailers")
}

// TestRequest3Knows: what browsers send, and what a client may send who knows little of
// compression, is read by the fast path, to the same request.
func TestRequest3Knows(t *testing.T) {
	f := func(fields []field) {
		t.Helper()
		if !sameRequest(t, appendHeaders(nil, fields), headerLimit) {
			t.Errorf("%q is left to http3", fields)
		}
	}
	f(chromium("/a/b.png?c=d&e"))
	f(firefox("/"))
	for _, target := range []string{
		"/", "//a", "/a//b", "/a?", "/a??", "/a?b?c", "/a%20b", "/%2e%2e/", "/a;b,c", "/a!b", "/a'(b)*", "/*", "/a#b", "/a?b#c", "/a?%zz",
		"/[a]", "/ä", "/a\"b", "/a b", "/a?b c", "/a?ä", "/..", "/%C3%A4?x",
	} {
		f(askFor(target))
	}
	f(askFor("/", "cookie", "a=b"))
	f(askFor("/", "accept", "a", "x-own", "1", "accept", "b", "x-own", "2", "x-own", ""))
	f(askFor("/", "x~!#$%&'*+-.^_`|y", "\t a\tb"))
	f(askFor("/", "age", "0", "te", "trailers", "location", "", "expires", "0"))
	f(askFor("/", "range", "bytes=0-1", "if-none-match", `"a"`, "expect", "x"))
	f([]field{{":path", "/"}, {":scheme", "https"}, {":authority", "a"}, {":method", "GET"}})
}

// TestRequest3Leaves: what http3 refuses, or reads in another way than most, is left to it.
func TestRequest3Leaves(t *testing.T) {
	f := func(p []byte) {
		t.Helper()
		if sameRequest(t, p, headerLimit) {
			t.Errorf("%x is not left to http3", p)
		}
	}
	for _, target := range []string{"", "*", "a", "http://a/b", "/%", "/%zz", "/a\x7f", "/a?\x01", "/\n", "/a\tb", "/a?b\tc"} {
		f(appendHeaders(nil, askFor(target)))
	}
	for _, more := range [][2]string{
		{"connection", "close"},
		{"keep-alive", "1"},
		{"proxy-connection", "close"},
		{"transfer-encoding", "chunked"},
		{"upgrade", "h2c"},
		{"te", "gzip"},
		{"te", ""},
		{"content-length", "0"},
		{"content-length", "1"},
		{"host", "edge.test"},
		{"host", "other"},
		{"trailer", "a"},
		{"Accept", "a"},
		{"accept ", "a"},
		{"", "a"},
		{"a:b", "c"},
		{"ä", "a"},
		{"a", "b\nc"},
		{"a", "\x00"},
		{"a", "\x7f"},
		{":path", "/"},
		{":status", "200"},
		{":protocol", "websocket"},
		{":unknown", "a"},
	} {
		f(appendHeaders(nil, askFor("/", more[:]...)))
		f(plainly(askFor("/", more[:]...)))
	}
	for i, other := range []string{"HEAD", "user@edge.test", "http", "b"} {
		fields := askFor("/")
		twice := append(slices.Clone(fields[:i+1]), fields[i:]...) // one twice
		f(appendHeaders(nil, twice))
		f(appendHeaders(nil, slices.Delete(slices.Clone(fields), i, i+1)))
		fields[i].value = other
		f(appendHeaders(nil, fields))
		fields[i].value = ""
		f(appendHeaders(nil, fields))
	}
	late := askFor("/", "accept", "a")
	late[3], late[4] = late[4], late[3]
	f(appendHeaders(nil, late))
	f(plainly(askFor("/"))) // pseudo-headers in literals: no client of note
	whole := appendHeaders(nil, askFor("/"))
	for i := range whole {
		f(whole[:i])
	}
	f(append(bytes.Clone(whole), 0))
	f(appendFrame(whole, dataFrame, nil))
	f(append(appendFrame(nil, 0x21, []byte("grease")), appendHeaders(nil, askFor("/"))...))
	f(appendFrame(nil, headersFrame, []byte{0}))
	f(appendFrame(nil, headersFrame, []byte{1, 0}))             // asks for the dynamic table
	f(appendFrame(nil, headersFrame, []byte{0, 0, 0x80}))       // refers to it
	f(appendFrame(nil, headersFrame, []byte{0, 0, 0x40, 1, 1})) // refers to a name of it
	f(appendFrame(nil, headersFrame, []byte{0, 0, 0x10}))       // refers to it behind the base
	f(appendFrame(nil, headersFrame, []byte{0, 0, 0xff, 36}))   // beyond the static table
	f(appendFrame(nil, headersFrame, []byte{0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}))
	f(appendFrame(nil, headersFrame, []byte{0, 0, 0x51, 0x81, 0xff, 0xff}))
	many := askFor("/")
	for range 64 {
		many = append(many, field{"a", "b"})
	}
	f(appendHeaders(nil, many))
}

// TestRequest3Limit: a header is bounded as http3 bounds it, not by its encoding.
func TestRequest3Limit(t *testing.T) {
	fields := askFor("/", "cookie", strings.Repeat("a", 100), "accept", "*/*")
	size := 0
	for _, f := range fields {
		size += len(f.name) + len(f.value) + 32
	}
	p := appendHeaders(nil, fields)
	if !sameRequest(t, p, size) {
		t.Errorf("%d bytes are too large for a limit of as many", size)
	}
	if sameRequest(t, p, size-1) {
		t.Errorf("%d bytes pass a limit of one less", size)
	}
}

// TestStaticTable: the library has no entries beyond those that are known here.
func TestStaticTable(t *testing.T) {
	sections := edge.StaticTable()
	for i, s := range sections {
		if _, err := qpack.NewDecoder().Decode(s)(); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	next := bytes.Clone(sections[len(sections)-1])
	next[len(next)-1]++
	if f, err := qpack.NewDecoder().Decode(next)(); err == nil {
		t.Errorf("there is an entry beyond: %v", f)
	}
}

// TestAppendSection: an answer decodes to its fields, whether it was encoded in one go
// or in two.
func TestAppendSection(t *testing.T) {
	fields := http.Header{"Content-Type": {"text/plain"}, "X-Own": {"a", "", "b"}, "Age": {"1"}, "Vary": {"Origin"}}
	b := edge.AppendSection([]byte("before"), 200, fields)
	b = edge.AppendSection(b, 0, http.Header{"X-Request-Id": {"1"}})
	b = edge.AppendSection(b, 0, nil)
	block, ok := bytes.CutPrefix(b, []byte("before"))
	if !ok {
		t.Fatal("what stood before is gone")
	}
	got := http.Header{}
	next := qpack.NewDecoder().Decode(block)
	for first := true; ; first = false {
		f, err := next()
		if err != nil {
			break
		}
		if first && (f.Name != ":status" || f.Value != "200") {
			t.Errorf("begins with %v", f)
		}
		if f.Name != strings.ToLower(f.Name) {
			t.Errorf("field %q is not in lower case", f.Name)
		}
		got.Add(f.Name, f.Value)
	}
	want := fields.Clone()
	want["X-Request-Id"], want[":status"] = []string{"1"}, []string{"200"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// FuzzRequest3 looks for a stream of which the fast path makes another request than
// http3, or one where http3 makes none.
func FuzzRequest3(f *testing.F) {
	for _, fields := range [][]field{
		chromium("/a?b"), firefox("/%20!"), askFor("//a?"), askFor("/", "te", "gzip"), askFor("/", "content-length", "1"), askFor("/", "host", "edge.test"),
	} {
		f.Add(appendHeaders(nil, fields), headerLimit)
		f.Add(plainly(fields), 300)
	}
	for _, s := range edge.StaticTable() {
		f.Add(appendFrame(nil, headersFrame, append(bytes.Clone(mustSection(f, askFor("/"))), s[2:]...)), headerLimit)
	}
	f.Fuzz(func(t *testing.T, p []byte, limit int) {
		if limit > 0 {
			sameRequest(t, p, limit)
		}
	})
}

func mustSection(t testing.TB, fields []field) []byte {
	block, ok := edge.HeadersOnly(appendHeaders(nil, fields))
	if !ok {
		t.Fatal("no HEADERS frame")
	}
	return block
}

func BenchmarkRequest3(b *testing.B) {
	for name, fields := range map[string][]field{
		"plain": askFor("/plain/a", "user-agent", "h2load nghttp2/1.65"), "chromium": chromium("/plain/a.png"),
	} {
		p := appendHeaders(nil, fields)
		b.Run("own/"+name, func(b *testing.B) {
			b.ReportAllocs()
			parse := edge.NewGlance()
			for b.Loop() {
				if !parse(p, headerLimit) {
					b.Fatal("left")
				}
			}
		})
		b.Run("http3/"+name, func(b *testing.B) {
			b.ReportAllocs()
			block, _ := edge.HeadersOnly(p)
			for b.Loop() {
				if _, err := edge.Request3(block, headerLimit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
