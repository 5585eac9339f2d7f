package edge

import (
	"bytes"
	"crypto/tls"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// block encodes fields, all but the sensitive ones into the table if that fits.
func block(e *hpack.Encoder, b *bytes.Buffer, fields ...hpack.HeaderField) []byte {
	b.Reset()
	for _, f := range fields {
		e.WriteField(f)
	}
	return bytes.Clone(b.Bytes())
}

// FuzzKeepsTable asks of any header block that is said to keep the table that who has
// not seen it decodes what follows as who has.
func FuzzKeepsTable(f *testing.F) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	f.Add(block(e, &b, hpack.HeaderField{Name: ":path", Value: "/"}, hpack.HeaderField{Name: "a", Value: "b", Sensitive: true}))
	f.Add(block(e, &b, hpack.HeaderField{Name: "a", Value: "c"}))
	f.Add([]byte{0x20, 0x82})
	f.Add([]byte{0xbe, 0x00, 0x01, 'x', 0x81, 0xff})
	f.Add([]byte{0x0f, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00})
	f.Add([]byte{0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x0f})
	primer := block(hpack.NewEncoder(&b), &b, hpack.HeaderField{Name: "first", Value: "1"}, hpack.HeaderField{Name: "second", Value: "2"})
	f.Fuzz(func(t *testing.T, input []byte) {
		if !keepsTable(input) {
			return
		}
		seen, unseen := hpack.NewDecoder(tableSize, nil), hpack.NewDecoder(tableSize, nil)
		for _, d := range []*hpack.Decoder{seen, unseen} {
			if _, err := d.DecodeFull(primer); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := seen.DecodeFull(input); err != nil {
			return // the library ends the connection
		}
		for _, probe := range [][]byte{{0xbe, 0xbf}, {0xc0}, {0x3f, 0xe1, 0x1f, 0xbe}} { // indices 62 to 64; a size and an index
			a, errA := seen.DecodeFull(probe)
			b, errB := unseen.DecodeFull(probe)
			if !slices.Equal(a, b) || (errA == nil) != (errB == nil) {
				t.Fatalf("%x, then %x: %v %v, and %v %v", input, probe, a, errA, b, errB)
			}
		}
	})
}

func TestKeepsTable(t *testing.T) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	fields := []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: "x", Value: strings.Repeat("y", 300)}}
	if keepsTable(block(e, &b, fields...)) {
		t.Error("a new field keeps the table")
	}
	again := block(e, &b, fields...)
	if !keepsTable(again) {
		t.Error("the same fields again do not keep the table")
	}
	for i := range fields {
		fields[i].Sensitive = true
	}
	secret := block(e, &b, fields...)
	if !keepsTable(secret) {
		t.Error("fields that are never indexed do not keep the table")
	}
	if keepsTable(secret[:len(secret)-1]) {
		t.Error("a field that ends too early keeps the table")
	}
	e.SetMaxDynamicTableSize(100)
	if keepsTable(block(e, &b, fields[0])) {
		t.Error("a new size keeps the table")
	}
}

// TestStreamRequest compares with what the library would make of the fields, where it is
// not left to it.
func TestStreamRequest(t *testing.T) {
	state := &tls.ConnectionState{Version: tls.VersionTLS13}
	plain := func(more ...string) []hpack.HeaderField {
		fields := []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "Edge.test:443"}, {Name: ":path", Value: "/a%20b?c=d&e"},
		}
		for i := 0; i < len(more); i += 2 {
			fields = append(fields, hpack.HeaderField{Name: more[i], Value: more[i+1]})
		}
		return fields
	}
	var s streamRequest
	for range 2 { // nothing stays of the request before
		if !s.read(plain("accept", "a", "cookie", "a=b", "accept", "b", "te", "trailers", "cookie", "c=d", "x-y", ""), 1000, "192.0.2.1:80", state) {
			t.Fatal("a plain request is not")
		}
		want := http.Header{"Accept": {"a", "b"}, "Cookie": {"a=b; c=d"}, "Te": {"trailers"}, "X-Y": {""}}
		if !maps.EqualFunc(s.Header, want, slices.Equal[[]string]) {
			t.Errorf("got %v, want %v", s.Header, want)
		}
		if s.Method != "GET" || s.Host != "Edge.test:443" || s.RequestURI != "/a%20b?c=d&e" || s.URL.Path != "/a b" || s.URL.RawQuery != "c=d&e" ||
			s.Proto != "HTTP/2.0" || s.TLS != state || s.RemoteAddr != "192.0.2.1:80" || s.Body != http.NoBody {
			t.Errorf("got %+v", s.Request)
		}
		if !s.read(plain(), 1000, "", state) || len(s.Header) > 0 {
			t.Errorf("fields stay: %v", s.Header)
		}
	}
	refused := func(fields []hpack.HeaderField) {
		t.Helper()
		if s.read(fields, 1000, "", state) {
			t.Errorf("%v passes", fields)
		}
	}
	for i := range 4 {
		refused(slices.Delete(plain(), i, i+1))
		refused(append(plain(), plain()[i]))
		empty := plain()
		empty[i].Value = ""
		refused(empty)
		refused(slices.Concat(plain()[:i], []hpack.HeaderField{{Name: "a", Value: "b"}}, plain()[i:]))
	}
	for i, values := range map[int][]string{
		0: {"HEAD", "POST", "get"}, 1: {"http", "HTTPS"}, 2: {"a@b", "a b", "a/b", "ü", "a,b", "a\x00"}, 3: {"*", "a", "/\x7f", "/%zz", "http://a/"},
	} {
		for _, v := range values {
			fields := plain()
			fields[i].Value = v
			refused(fields)
		}
	}
	for _, more := range [][]string{
		{":protocol", "websocket"},
		{":status", "200"},
		{"Accept", "a"},
		{"a b", ""},
		{"", ""},
		{"a", "b\n"},
		{"a", "\x00"},
		{"te", "gzip"},
		{"connection", "close"},
		{"keep-alive", "1"},
		{"proxy-connection", "a"},
		{"transfer-encoding", "chunked"},
		{"upgrade", "h2c"},
		{"host", "edge.test"},
		{"content-length", "0"},
		{"expect", "100-continue"},
		{"trailer", "x"},
		{"é", "a"},
		{"long", strings.Repeat("x", 1000)},
	} {
		refused(plain(more...))
	}
}

// TestEncodeHTTP2: what is written neither needs nor changes the table of the visitor.
func TestEncodeHTTP2(t *testing.T) {
	fields := http.Header{
		"Content-Type": {"text/plain"}, "X-Two": {"a", "b"}, "Bad Name": {"c"}, "X-Bad": {"d\n"}, "Connection": {"close"}, "Transfer-Encoding": {"chunked"},
	}
	want := []hpack.HeaderField{
		{Name: ":status", Value: "201"}, {Name: "content-type", Value: "text/plain"}, {Name: "x-two", Value: "a"}, {Name: "x-two", Value: "b"},
	}
	for range 2 {
		b := encodeHTTP2([]byte("before"), 201, fields)
		b = encodeHTTP2(b, 0, http.Header{"X-Three": {"e"}})
		encoded, ok := bytes.CutPrefix(b, []byte("before"))
		if !ok || !keepsTable(encoded) {
			t.Fatalf("%x", b)
		}
		got, err := hpack.NewDecoder(0, nil).DecodeFull(encoded)
		if err != nil || !slices.Equal(got, append(want[:4:4], hpack.HeaderField{Name: "x-three", Value: "e"})) {
			t.Errorf("got %v, %v", got, err)
		}
	}
}
