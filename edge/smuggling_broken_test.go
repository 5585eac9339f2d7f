package edge_test

import (
	"strings"
	"testing"
)

// A request that is broken behind its header, or that is refused before its
// body was read: what follows is never taken for a request, and the visitor does
// not hear that all is well.
func TestSmugglingBrokenBodies(t *testing.T) {
	runFronts(t, func(t *testing.T, n *front) {
		for _, c := range chunks() {
			t.Run(c.name, func(t *testing.T) { n.raw(t, c) })
		}
		for _, c := range brokenStreams() {
			n.runStream(t, c)
		}
	})
}

// brokenStreams have a length that is not the body's (RFC 9113 section 8.1.1, RFC
// 9114 section 4.1.2), or a trailer that nobody may send.
func brokenStreams() []stream {
	var cases []stream
	for _, value := range []string{"+0", "-1", "0x0", "0, 0", " 0 x", "18446744073709551616", "five", "5"} {
		cases = append(cases, stream{name: "length " + printable(value), fields: with("content-length", value), want: "refused"})
	}
	cases = append(cases,
		stream{name: "length of nothing", fields: with("content-length", ""), want: "refused", over3: "GET /a"},
		stream{name: "lengths that differ", fields: with("content-length", "0", "content-length", "5"), want: "refused"},
		stream{name: "body and two lengths", fields: posted("content-length", "5", "content-length", "43"), body: "hello", want: "refused"},
		stream{name: "body shorter than its length", fields: posted("content-length", "6"), body: "hello", want: "refused"})
	for _, name := range []string{"content-length", "transfer-encoding", "host", "authorization", ":path", "X-Upper", "x y"} {
		cases = append(cases, stream{name: "trailer " + name, fields: posted("trailer", "x-checksum"), body: "hello", trailer: []field{{name, "43"}}, want: "refused"})
	}
	return cases
}

func chunks() []raw {
	f := func(name, body, want string) raw {
		return raw{"chunks " + name, post(body, "Transfer-Encoding: chunked"), want}
	}
	cases := []raw{
		f("of one byte", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n", "POST /a hello"),
		f("none", "0\r\n\r\n", "POST /a"),
		f("last of many zeros", "5\r\nhello\r\n0000\r\n\r\n", "POST /a hello"),
		f("zeros in front", "005\r\nhello\r\n0\r\n\r\n", "POST /a hello"),
		f("hexadecimal", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "POST /a 01234567890123456789"),
		f("extension", "5;x=y\r\nhello\r\n0\r\n\r\n", "POST /a hello"),
		f("extension quoted", "5;x=\"y;z\"\r\nhello\r\n0;end\r\n\r\n", "POST /a hello"),
		f("extension empty", "5;\r\nhello\r\n0\r\n\r\n", "POST /a hello"),
		f("space behind the size", "5 \r\nhello\r\n0\r\n\r\n", "POST /a hello"),
		f("space before an extension", "5 ;x\r\nhello\r\n0\r\n\r\n", refused),
		f("end in the first", "5\r\nhel", "EOF | closed"),
		f("end before the last", "5\r\nhello\r\n", "EOF | closed"),
		f("end in the size", "5", "EOF | closed"),
		f("end before the trailer's", "5\r\nhello\r\n0\r\n", "EOF | closed"),
	}
	for _, size := range []string{
		"0x5", "+5", "-5", "-0", " 5", "\t5", "5 5", "5h", "g", "", "5,", "5\x00", "5\v", "5.0", "_5", "5_", "٥", "'5'", "0x0",
		"10000000000000005", "100000000000000000000000000000005", "00000000000000005",
	} {
		cases = append(cases, f("size "+printable(size), size+"\r\nhello\r\n0\r\n\r\n"+smuggled, refused))
	}
	for _, size := range []string{"ffffffffffffffff", "fffffffffffffffb", "8000000000000005"} {
		cases = append(cases, f("size "+size, size+"\r\nhello\r\n0\r\n\r\n"+smuggled, "EOF | closed"))
	}
	for _, e := range chunkEnds {
		cases = append(cases, f(e[0], e[1]+smuggled, refused))
	}
	for _, line := range []string{
		" folded: x", "no colon", ": no name", "X-Che\x00ck: 1", "X: a\x00b", "X: a\rb", strings.Repeat("X: y\r\n", 1<<13) + "X: y",
	} {
		cases = append(cases, f("then trailer "+printable(line), "5\r\nhello\r\n0\r\n"+line+"\r\n\r\n"+smuggled, refused))
	}
	return append(cases,
		raw{"length above the limit", post("", "Content-Length: 1048577"), "413 | closed"},
		raw{"length largest", post("", "Content-Length: 9223372036854775807"), "413 | closed"},
		raw{"expect of a refused request", head("POST /a/../b HTTP/1.1", "Content-Length: 43", "Expect: 100-continue") + smuggled, "400 | closed"},
		raw{"options of the server", head("OPTIONS * HTTP/1.1") + get(), "400 | GET /a"},
		raw{"body shorter than the length", post("hell", "Content-Length: 5"), "EOF | closed"},
		raw{"no body for the length", post("", "Content-Length: 5"), "EOF | closed"},
		raw{"expect, body not sent", post("", "Content-Length: 5", "Expect: 100-continue"), "100 | EOF | closed"},
		raw{"broken chunk in the middle", get() + post("x\r\n", "Transfer-Encoding: chunked") + smuggled, "GET /a | " + refused},
	)
}

// chunkEnds are the ways to make two parsers end a chunk, its size or its
// extension in different places.
var chunkEnds = [][2]string{
	{"size ends in LF", "5\nhello\r\n0\r\n\r\n"},
	{"size ends in CR", "5\rhello\r\n0\r\n\r\n"},
	{"size ends in CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n"},
	{"data ends in LF", "5\r\nhello\n0\r\n\r\n"},
	{"data ends in CR", "5\r\nhello\r0\r\n\r\n"},
	{"data without end", "5\r\nhello0\r\n\r\n"},
	{"data ends in two other bytes", "5\r\nhelloXX0\r\n\r\n"},
	{"data longer than its size", "5\r\nhello!\r\n0\r\n\r\n"},
	{"data shorter than its size", "5\r\nhell\r\n0\r\n\r\n"},
	{"last ends in LF", "5\r\nhello\r\n0\n\r\n"},
	{"last ends in CR", "5\r\nhello\r\n0\r\r\n"},
	{"last ends in LF LF", "5\r\nhello\r\n0\n\n"},
	// Chunk extensions that one parser ends at the LF and another at the CRLF.
	{"extension ends in LF", "5;x\nhello\r\n0\r\n\r\n"},
	{"extension of LF in quotes", "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n"},
	{"extension of CR in quotes", "5;x=\"\r\"\r\nhello\r\n0\r\n\r\n"},
	{"extension of CR LF in quotes", "5;x=\"\r\n\"\r\nhello\r\n0\r\n\r\n"},
	{"extension ends in CR", "5;x\rhello\r\n0\r\n\r\n"},
	{"extension with a CR in it", "5;x\ry\r\nhello\r\n0\r\n\r\n"},
	{"extension with a LF then data", "2;\nxx\r\n4c\r\n0\r\n\r\n"},
	{"extension of the last in LF", "5\r\nhello\r\n0;x\n\r\n"},
	{"extension that is huge", "5;" + strings.Repeat("x", 1<<15) + "\r\nhello\r\n0\r\n\r\n"},
	{"extensions without end", strings.Repeat("1;"+strings.Repeat("x", 1000)+"\r\nh\r\n", 40) + "0\r\n\r\n"},
	{"line before the last", "5\r\nhello\r\n\r\n0\r\n\r\n"},
}
