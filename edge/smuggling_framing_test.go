package edge_test

import (
	"slices"
	"strings"
	"testing"
)

// Where a body ends, as Content-Length and Transfer-Encoding say.
func TestSmugglingFraming(t *testing.T) {
	cases := slices.Concat(lengths(), codings(), trailers(), bodies())
	runFronts(t, func(t *testing.T, n *front) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { n.raw(t, c) })
		}
	})
}

// chunked is what a body of "hello" looks like in chunks.
const chunked = "5\r\nhello\r\n0\r\n\r\n"

func lengths() []raw {
	cases := []raw{
		{"length", post("hello", "Content-Length: 5"), "POST /a hello"},
		{"length spaced", post("hello", "Content-Length: \t 5 \t"), "POST /a hello"},
		{"length with zero in front", post("hello", "Content-Length: 05"), "POST /a hello"},
		{"length zero", post("", "Content-Length: 0"), "POST /a"},
		{"length twice the same", post("hello", "Content-Length: 5", "Content-Length: 5"), "POST /a hello"},
		{"length twice, in two cases", post("hello", "Content-Length: 5", "CONTENT-LENGTH: 5"), "POST /a hello"},
		{"length of both requests", post("hello"+get(), "Content-Length: 5"), "POST /a hello | GET /a"},
		{"length of the second request", post(smuggled, "Content-Length: 43"), "POST /a " + smuggled},
		{"length in underscores", post(smuggled, "Content_Length: 43"), "POST /a | GET /smuggled"},
		{"body of a GET", get("Content-Length: 43") + smuggled, "GET /a " + smuggled},
	}
	for _, two := range [][2]string{{"5", "6"}, {"6", "5"}, {"0", "43"}, {"43", "0"}, {"5", "05"}, {"5", "-5"}, {"5", ""}} {
		cases = append(cases, raw{"lengths " + two[0] + " and " + two[1], post(smuggled, "Content-Length: "+two[0], "Content-Length: "+two[1]), refused})
	}
	for _, v := range []string{
		"", "+5", "-1", "-0", "0x5", "5;", "5,", ",5", "5, 5", "5,6", "5 5", "5 6", "5.0", "5e0", "five", `"5"`, "5_0", "0b1", "٥",
		"18446744073709551616", "18446744073709551621", "9223372036854775808", strings.Repeat("9", 400), "5\x00", "5\v", "\f5", "5\u00a0",
	} {
		cases = append(cases, raw{"length " + printable(v), post(smuggled, "Content-Length: "+v), refused})
	}
	for _, name := range []string{"Content-Length ", "Content-Length\t", " Content-Length", "Content-Length\v", "Content-Length\x00", "Content-\xffLength", "Content Length"} {
		cases = append(cases, raw{"name " + printable(name), post(smuggled, name+": 5"), refused})
	}
	return cases
}

func codings() []raw {
	cases := []raw{
		{"chunked", post(chunked, "Transfer-Encoding: chunked"), "POST /a hello"},
		{"chunked in capitals", post(chunked, "TRANSFER-ENCODING: CHUNKED"), "POST /a hello"},
		{"chunked spaced", post(chunked, "Transfer-Encoding: \t chunked \t "), "POST /a hello"},
		{"chunked without a space", post(chunked, "Transfer-Encoding:chunked"), "POST /a hello"},
		// RFC 9112 section 6.3: the coding overrides the length, which is removed.
		{"chunked after a length", post(chunked, "Content-Length: 5", "Transfer-Encoding: chunked"), "POST /a hello"},
		{"chunked before a length", post(chunked, "Transfer-Encoding: chunked", "Content-Length: 5"), "POST /a hello"},
		{"chunked and a length of nothing", post(chunked, "Transfer-Encoding: chunked", "Content-Length: 0"), "POST /a hello"},
		{"chunked and a length of all", post("0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"), "POST /a"},
		{"chunked in underscores", post("hello", "Content-Length: 5", "Transfer_Encoding: chunked"), "POST /a hello"},
		{"chunked in dots", post("hello", "Content-Length: 5", "Transfer.Encoding: chunked"), "POST /a hello"},
		{"chunked of a GET", get("Transfer-Encoding: chunked") + chunked, "GET /a hello"},
		{"chunked and another request", post(chunked+get(), "Transfer-Encoding: chunked"), "POST /a hello | GET /a"},
		// RFC 9112 section 6.1: of HTTP/1.0 the framing counts as faulty.
		{"chunked in HTTP/1.0", head("POST /a HTTP/1.0", "Transfer-Encoding: chunked") + chunked, "POST /a | closed"},
		{"chunked in HTTP/1.0 with a length", head("POST /a HTTP/1.0", "Content-Length: 5", "Transfer-Encoding: chunked") + "hello", "POST /a hello | closed"},
		{"chunked folded", post(chunked, "Transfer-Encoding:\r\n chunked"), "POST /a hello"},
		{"chunked folded by a tab", post(chunked, "Transfer-Encoding:\r\n\tchunked"), "POST /a hello"},
		{"chunked behind a LF", post(chunked, "Content-Length: 5", "X: y\nTransfer-Encoding: chunked"), "POST /a hello"},
		{"chunked folded into another field", post("hello", "Content-Length: 5", "Dummy: x\r\n Transfer-Encoding: chunked"), "POST /a hello"},
	}
	for _, v := range []string{
		"", "identity", "chunked, identity", "identity, chunked", "chunked, chunked", "gzip, chunked", "chunked, gzip", "gzip", "xchunked",
		"chunkedx", "x-chunked", `"chunked"`, "'chunked'", "chunked;q=1", "chunked, ", ", chunked", ",chunked", "chunked,", "chunked chunked",
		"chun\tked", "\u212aunked", "chunKed\u00a0", "trailers, chunked",
	} {
		cases = append(cases, raw{"coding " + printable(v), post(chunked+smuggled, "Transfer-Encoding: "+v), "501 | closed"})
	}
	for _, v := range []string{"\x0bchunked", "chunked\x00", "chunked\x0b", "chunked\x0c", "chunk\x00ed"} {
		cases = append(cases, raw{"coding " + printable(v), post(chunked+smuggled, "Transfer-Encoding: "+v), refused})
	}
	for _, two := range [][2]string{{"chunked", "chunked"}, {"chunked", "identity"}, {"identity", "chunked"}, {"chunked", ""}, {"", "chunked"}, {"gzip", "chunked"}} {
		lines := []string{"Transfer-Encoding: " + two[0], "Transfer-Encoding: " + two[1]}
		cases = append(cases, raw{"codings " + printable(two[0]) + " and " + printable(two[1]), post(chunked+smuggled, lines...), "501 | closed"})
	}
	for _, name := range []string{"Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "\tTransfer-Encoding", "Transfer-Encoding\x00", "Transfer Encoding", "Transfer-\x7fEncoding"} {
		cases = append(cases, raw{"name " + printable(name), post(chunked+smuggled, "Content-Length: 5", name+": chunked"), refused})
	}
	return cases
}

func trailers() []raw {
	var cases []raw
	for _, line := range []string{
		"X-Checksum: 1", "Content-Length: 43", "Transfer-Encoding: chunked", "Host: other.test", "Authorization: Basic eA==",
		"X-Forwarded-For: 6.6.6.6", "Connection: close", "Cookie: a=b", "Content_Length: 43", "Content-Type: text/html",
	} {
		body := "5\r\nhello\r\n0\r\n" + line + "\r\n\r\n"
		cases = append(cases,
			raw{"trailer " + line, post(body, "Transfer-Encoding: chunked"), "POST /a hello"},
			raw{"trailer announced " + line, post(body, "Transfer-Encoding: chunked", "Trailer: X-Checksum"), "POST /a hello"})
	}
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Trailer"} {
		cases = append(cases, raw{"trailer announces " + name, post(chunked+smuggled, "Transfer-Encoding: chunked", "Trailer: "+name), refused})
	}
	return cases
}

// bodies come with methods that have none, mostly. Without a length there is no
// body, and what follows is the next request.
func bodies() []raw {
	var cases []raw
	for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "PROPFIND", "QUERY"} {
		start := method + " /a HTTP/1.1"
		cases = append(cases,
			raw{method + " with a body", head(start, "Content-Length: 43") + smuggled, method + " /a " + smuggled},
			raw{method + " with a chunked body", head(start, "Transfer-Encoding: chunked") + chunked, method + " /a hello"},
			raw{method + " without a length", head(start) + smuggled, method + " /a | GET /smuggled"},
			raw{method + " with length 0", head(start, "Content-Length: 0") + smuggled, method + " /a | GET /smuggled"})
	}
	return cases
}
