package edge_test

import (
	"maps"
	"slices"
	"strings"
)

// The heads that visitors send, as their programs write them, and what breaks the rules
// of each protocol. All of it is the same for HTTP/2 and HTTP/3 but for the frames.

// visitors are the fields of a navigation, or of a picture, in the order of each program.
var visitors = map[string][]field{
	"chromium": fieldList(":method", "GET", ":authority", "edge.test", ":scheme", "https", ":path", "/plain/a",
		"sec-ch-ua", `"Chromium";v="140", "Not=A?Brand";v="24"`, "sec-ch-ua-mobile", "?0", "sec-ch-ua-platform", `"Linux"`,
		"upgrade-insecure-requests", "1",
		"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
		"sec-fetch-site", "none", "sec-fetch-mode", "navigate", "sec-fetch-user", "?1", "sec-fetch-dest", "document",
		"accept-encoding", "gzip, deflate, br, zstd", "accept-language", "en-US,en;q=0.9",
		"cookie", "session=0123456789abcdef", "cookie", "theme=dark", "priority", "u=0, i"),
	"chromium picture": fieldList(":method", "GET", ":authority", "edge.test", ":scheme", "https", ":path", "/plain/page",
		"sec-ch-ua-platform", `"Linux"`, "user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"accept", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "sec-fetch-site", "same-origin", "sec-fetch-mode", "no-cors",
		"sec-fetch-dest", "image", "referer", "https://edge.test/", "accept-encoding", "gzip, deflate, br, zstd", "accept-language", "en-US,en;q=0.9",
		"priority", "u=2, i"),
	"firefox": fieldList(":method", "GET", ":scheme", "https", ":authority", "edge.test", ":path", "/plain/text",
		"user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
		"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "accept-language", "en-US,en;q=0.5",
		"accept-encoding", "gzip, deflate, br, zstd", "upgrade-insecure-requests", "1", "sec-fetch-dest", "document", "sec-fetch-mode", "navigate",
		"sec-fetch-site", "none", "sec-fetch-user", "?1", "priority", "u=0, i", "te", "trailers"),
	"curl": fieldList(":method", "GET", ":scheme", "https", ":authority", "edge.test:8443", ":path", "/plain/a", "user-agent", "curl/8.14.1", "accept", "*/*"),
	"gtlsclient": fieldList(":method", "GET", ":scheme", "https", ":authority", "edge.test", ":path", "/plain/large",
		"user-agent", "nghttp3/ngtcp2 client"),
	"go":     fieldList(":authority", "edge.test", ":method", "GET", ":path", "/plain/a", ":scheme", "https", "accept-encoding", "gzip", "user-agent", "quic-go HTTP/3"),
	"h2load": fieldList(":path", "/plain/a", ":scheme", "https", ":authority", "edge.test", ":method", "GET", "user-agent", "h2load nghttp2/1.64.0"),
	"surge":  fieldList(":method", "GET", ":authority", "edge.test", ":scheme", "https", ":path", "/plain/b?c=d"),
}

func sortedVisitors() []string { return slices.Sorted(maps.Keys(visitors)) }

func fieldList(all ...string) (fields []field) {
	for pair := range slices.Chunk(all, 2) {
		fields = append(fields, field{pair[0], pair[1]})
	}
	return fields
}

// unusual are requests that a fast path has to leave alone, to refuse as the library
// does, or to answer as if nothing were unusual.
func unusual() (all [][]field) {
	add := func(fields ...field) { all = append(all, fields) }
	hit := func(more ...string) []field { return with(append([]string{":path", "/plain/a"}, more...)...) }
	for _, more := range [][]string{
		{"range", "bytes=0-1"},
		{"if-none-match", `"4"`},
		{"if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"},
		{"cache-control", "no-cache"},
		{"cache-control", "max-age=0"},
		{"cache-control", "max-age=1000000"},
		{"pragma", "no-cache"},
		{"authorization", "Basic eDp5"},
		{"accept-encoding", "gzip"},
		{"accept-encoding", "identity;q=0"},
		{"x-request-id", "brought-along"},
		{"x-request-id", "no id"},
		{"x-request-id", ""},
		{"cookie", "a=b", "cookie", "c=d"},
		{"cookie", ""},
		{"cookie", "__Host-wait-x=y"},
		{"x", "a", "x", "b"},
		{"x", " led and followed by spaces "},
		{"x", "\xff\xfe"},
		{"x", "a\tb"},
		{"x", "a\r\nb: c"},
		{"x", "a\x00b"},
		{"", "no name"},
		{"a b", "a name of two words"},
		{"X-Upper", "y"},
		{"Range", "bytes=0-1"},
		{"te", "trailers"},
		{"te", "gzip"},
		{"connection", "keep-alive"},
		{"keep-alive", "1"},
		{"proxy-connection", "close"},
		{"transfer-encoding", "chunked"},
		{"upgrade", "websocket"},
		{"host", "edge.test"},
		{"host", "other.test"},
		{"host", ""},
		{"content-length", "0"},
		{"content-length", "1"},
		{"content-length", "x"},
		{"content-length", "0", "content-length", "0"},
		{"expect", "100-continue"},
		{"trailer", "x"},
		{"early-data", "1"},
		{"via", "1.1 a"},
		{"sec-purpose", "prefetch"},
		{"priority", "u=7"},
		{"priority", "u=9, i=?2"},
		{"x-forwarded-for", "203.0.113.1"},
		{":method", "HEAD"},
		{":method", "POST"},
		{":method", "PURGE"},
		{":method", "get"},
		{":method", "OPTIONS", ":path", "*"},
		{":method", ""},
		{":scheme", "http"},
		{":scheme", ""},
		{":authority", "EDGE.TEST"},
		{":authority", "edge.test:443"},
		{":authority", "user@edge.test"},
		{":authority", ""},
		{":authority", absent},
		{":authority", absent, "host", "edge.test"},
		{":path", absent},
		{":method", absent},
		{":scheme", absent},
		{":path", ""},
		{":path", "/plain/a?"},
		{":path", "/plain/a#b"},
		{":path", "/plain/a%20b"},
		{":path", "/plain/a b"},
		{":path", "/plain/%61"},
		{":path", "/plain/%zz"},
		{":path", "//plain/a"},
		{":path", "/plain//a"},
		{":path", "/plain/../plain/a"},
		{":path", "/plain/%2e%2e/plain/a"},
		{":path", "plain/a"},
		{":path", "https://edge.test/plain/a"},
		{":path", "/plain/b?c=d"},
		{":path", "/plain/b?c=d&e=%zz"},
		{":path", "/plain/\xff"},
		{":path", "/plain/vary", "x-kind", "one"},
		{":path", "/plain/gone"},
		{":path", "/plain/empty"},
		{":path", "/plain/none"},
		{":path", "/nowhere"},
		{"x", strings.Repeat("x", 3<<10)},
		{"x", strings.Repeat("x", 40<<10)},
		{":protocol", "websocket"},
		{":status", "200"},
		{":unknown", "x"},
	} {
		add(hit(more...)...)
	}
	add(then(hit("x", "y"), field{":path", "/plain/page"})...)
	add(then(hit(), field{":path", "/plain/a"})...)
	add(then(hit(), field{":method", "GET"})...)
	add(then(hit(":path", absent, "x", "y"), field{":path", "/plain/a"})...)
	var many []string
	for range 130 {
		many = append(many, "x", "1")
	}
	add(hit(many...)...)
	add(fieldList(":method", "CONNECT", ":authority", "edge.test:443")...)
	add()
	return all
}
