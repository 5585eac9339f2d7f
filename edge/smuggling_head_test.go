package edge_test

import (
	"slices"
	"strings"
	"testing"
)

// What stands before the body: lines, start line, Host, and the fields that
// change how a connection is read.
func TestSmugglingHead(t *testing.T) {
	cases := slices.Concat(lines(), starts(), hosts(), connections(), fields(), pipelines())
	runFronts(t, func(t *testing.T, n *front) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) { n.raw(t, c) })
		}
	})
}

func lines() []raw {
	cases := []raw{
		// RFC 9112 section 2.2 lets a recipient take a bare LF for a line's end, and
		// replace what is folded (section 5.2). The origin sees neither.
		{"lines end in LF", strings.ReplaceAll(get("X: y"), "\r\n", "\n"), "GET /a"},
		{"a line ends in LF", "GET /a HTTP/1.1\r\nHost: edge.test\r\nX: y\nZ: z\r\n\r\n", "GET /a"},
		{"start line ends in LF", "GET /a HTTP/1.1\nHost: edge.test\r\n\r\n", "GET /a"},
		{"head ends in LF", "GET /a HTTP/1.1\r\nHost: edge.test\r\n\n", "GET /a"},
		{"length behind a LF", "POST /a HTTP/1.1\r\nHost: edge.test\r\nX: y\nContent-Length: 5\r\n\r\nhello", "POST /a hello"},
		{"value folded", get("X: y\r\n z"), "GET /a"},
		{"value folded by a tab", get("X: y\r\n\tz"), "GET /a"},
		{"value folded by a request", get("X: y\r\n GET /smuggled HTTP/1.1"), "GET /a"},
		{"empty value", get("X:"), "GET /a"},
		{"value of 8 bits", get("X: \xff\xfe\x80"), "GET /a"},
		{"value of colons", get("X: a:b: c"), "GET /a"},
	}
	for _, line := range []string{
		"X", "no colon", ": empty", " : blank", "X : y", "X\t: y", "X\x00: y", "X\r: y", "X: a\x00b", "X: a\rb", "X: y\r\r", "X: \x01", "X: \x7f", "X: \x0b",
		"X Y: z", "X(Y): z", `"X": z`, "X@Y: z", "X/Y: z", "X\xe9: z", "X;Y: z", "[X]: y", "X=Y: z", "{X}: y", "<X>: y", "X\\Y: z", "\x7f: x",
		"GET /smuggled HTTP/1.1", "X: y\r\n\rGET /smuggled HTTP/1.1", "\x00X: y", "\xef\xbb\xbfX: y", "X,Y: z", "X: y\rContent-Length: 43",
	} {
		cases = append(cases, raw{"line " + printable(line), get(line) + smuggled, refused})
	}
	return append(cases,
		raw{"empty line first", "\r\n" + get(), refused},
		raw{"LF first", "\n" + get(), refused},
		raw{"space first", " " + get(), refused},
		raw{"folded first field", "GET /a HTTP/1.1\r\n Host: edge.test\r\n\r\n" + smuggled, refused},
		raw{"folded first field by a tab", "GET /a HTTP/1.1\r\n\tX: y\r\nHost: edge.test\r\n\r\n" + smuggled, refused},
		raw{"head without end", "GET /a HTTP/1.1\r\nHost: edge.test\r\n", "EOF | " + refused},
		raw{"start line without end", "GET /a HT", "EOF | " + refused},
		raw{"head too large", get("X: " + strings.Repeat("y", 1<<16)), "431 | closed"},
		raw{"too many fields", get(strings.Repeat("X: y\r\n", 1<<14) + "X: y"), "431 | closed"},
	)
}

func starts() []raw {
	f := func(start, want string) raw { return raw{"start " + printable(start), head(start) + smuggled, want} }
	pass := func(start, want string) raw { return raw{"start " + printable(start), head(start), want} }
	cases := []raw{
		pass("GET http://edge.test/a HTTP/1.1", "GET /a"),
		pass("GET HTTP://EDGE.TEST/a HTTP/1.1", "GET EDGE.TEST/a"),
		// RFC 9112 section 3.2.2: what is in the target counts, not Host.
		pass("GET http://other.test/a HTTP/1.1", "GET other.test/a"),
		pass("GET https://other.test:443/a?b HTTP/1.1", "GET other.test:443/a?b"),
		pass("GET http://edge.test HTTP/1.1", "GET /"),
		pass("GET http://edge.test?x HTTP/1.1", "GET /?x"),
		pass("GET ftp://edge.test/a HTTP/1.1", "GET /a"),
		pass("GET //other.test/a HTTP/1.1", "GET //other.test/a"),
		pass("GET ///a HTTP/1.1", "GET ///a"),
		pass("GET /a?b?c HTTP/1.1", "GET /a?b?c"),
		pass("GET /a? HTTP/1.1", "GET /a?"),
		pass("GET /a%20HTTP/1.1%0d%0aHost:%20x HTTP/1.1", "GET /a%20HTTP/1.1%0d%0aHost:%20x"),
		pass("GET /a;b=c HTTP/1.1", "GET /a;b=c"),
		pass("GET /a#b HTTP/1.1", "GET /a%23b"),
		pass("GET /\xff HTTP/1.1", "GET /\xff"),
		pass("GET /a|b\"c<d>{e} HTTP/1.1", "GET /a|b\"c<d>{e}"),
		pass("get /a HTTP/1.1", "get /a"),
		pass("PROPFIND /a HTTP/1.1", "PROPFIND /a"),
		pass("!#$%&'*+-.^_`|~09 /a HTTP/1.1", "!#$%&'*+-.^_`|~09 /a"),
		pass("M-SEARCH /a HTTP/1.1", "M-SEARCH /a"),
		pass("GET /"+strings.Repeat("a", 8000)+" HTTP/1.1", "GET /"+strings.Repeat("a", 8000)),
		pass("GET /a HTTP/1.0", "GET /a | closed"),
		pass("GET /a HTTP/1.2", "GET /a"),
		pass("CONNECT other.test:443 HTTP/1.1", "405"),
		pass("CONNECT /a HTTP/1.1", "405"),
		pass("TRACE /a HTTP/1.1", "405"),
		pass("GET * HTTP/1.1", "400"),
		pass("GET /a/../b HTTP/1.1", "400"),
		pass("GET /a/%2e%2e/b HTTP/1.1", "400"),
		pass("GET /a%00 HTTP/1.1", "400"),
		pass("GET edge.test:80 HTTP/1.1", "400"),
		pass("GET http:/a HTTP/1.1", "GET /a"),
		pass("GET http:///a HTTP/1.1", "GET /a"),
	}
	for _, start := range []string{
		"GET /a", "GET", "", "/a HTTP/1.1", "GET /a HTTP/1.1 ", " GET /a HTTP/1.1", "GET  /a HTTP/1.1", "GET /a  HTTP/1.1", "GET\t/a\tHTTP/1.1", "GET /a\tHTTP/1.1",
		"GET /a b HTTP/1.1", "GET /a HTTP/1.1 HTTP/1.1", "GET /a HTTP/1.1 X", "GET /a http/1.1", "GET /a HTTP/11", "GET /a HTTP/1.", "GET /a HTTP/.1",
		"GET /a HTTP/1.1.1", "GET /a HTTP/01.1", "GET /a HTTP/1.01", "GET /a HTTP/+1.1", "GET /a HTTP/1,1", "GET /a HTTPS/1.1", "GET /a ICY/1.1", "GET a HTTP/1.1",
		"GET  HTTP/1.1", "GET ?a HTTP/1.1", "GET #a HTTP/1.1", "GET edge.test HTTP/1.1", "G\x00ET /a HTTP/1.1", "GET\x00 /a HTTP/1.1",
		"GET /\x00a HTTP/1.1", "GET /\x01a HTTP/1.1", "GET /\x7f HTTP/1.1", "GET /a\rb HTTP/1.1", "GET /\x0ba HTTP/1.1", "GET /a\x0c HTTP/1.1", "G{T /a HTTP/1.1",
		"GE:T /a HTTP/1.1", "(GET) /a HTTP/1.1", "G\xc9T /a HTTP/1.1", "GET /%zz HTTP/1.1", "GET /% HTTP/1.1", "GET http://[::1/a HTTP/1.1", "GET http://a b/ HTTP/1.1",
		"GET /a HTTP/1.1\r", "GET\r\n /a HTTP/1.1", "GET /a\r\n HTTP/1.1",
	} {
		cases = append(cases, f(start, refused))
	}
	for _, version := range []string{"HTTP/0.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"} {
		cases = append(cases, f("GET /a "+version, "505 | closed"))
	}
	return append(cases,
		raw{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + smuggled, refused},
		raw{"target too long", head("GET /"+strings.Repeat("a", 1<<16)+" HTTP/1.1") + smuggled, "431 | closed"},
		raw{"target with credentials", head("GET http://user:secret@edge.test/a HTTP/1.1"), "GET /a"},
		raw{"TLS inside TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", refused},
	)
}

func hosts() []raw {
	cases := []raw{
		{"no host", message("GET /a HTTP/1.1") + smuggled, refused},
		{"no host in HTTP/1.0", message("GET /a HTTP/1.0") + smuggled, "400 | closed"},
		{"host twice the same", get("Host: edge.test") + smuggled, refused},
		{"host twice", get("Host: other.test") + smuggled, refused},
		{"host twice in two cases", get("HOST: other.test") + smuggled, refused},
		{"host in underscores", get("Host_: other.test"), "GET /a"},
		{"host behind a space", message("GET /a HTTP/1.1", "Host : edge.test") + smuggled, refused},
		{"host folded", message("GET /a HTTP/1.1", "X: y\r\n Host: other.test", "Host: edge.test"), "GET /a"},
		{"host only folded", message("GET /a HTTP/1.1", "X: y\r\n Host: edge.test") + smuggled, refused},
		{"host listed in connection", get("Connection: Host"), "GET /a"},
		{"host of the target twice", head("GET http://edge.test/a HTTP/1.1", "Host: other.test") + smuggled, refused},
	}
	f := func(host, want string) {
		cases = append(cases, raw{"host " + printable(host), message("GET /a HTTP/1.1", "Host: "+host), want})
	}
	f("edge.test", "GET /a")
	f("EDGE.test", "GET EDGE.test/a")
	f("edge.test.", "GET edge.test./a")
	f("edge.test:443", "GET edge.test:443/a")
	f("edge.test:", "GET edge.test:/a")
	f("other.test:8080", "GET other.test:8080/a")
	f("192.0.2.1", "GET 192.0.2.1/a")
	f("[2001:db8::1]", "GET [2001:db8::1]/a")
	f("[2001:db8::1]:443", "GET [2001:db8::1]:443/a")
	for _, host := range []string{
		"", ".", ":", ":443", "edge.test:x", "edge.test:80x", "edge.test:99999", "edge.test:-1", "edge.test:+443", "edge.test,other.test", "edge.test%00", "edge.test%2eevil",
		"edge.test:443:443", "[edge.test]", "[edge.test", "edge.test]", "[::1", "::1]", "::1", "[::1]x", "[::1]:x", "[::1%25eth0]", "[]", "[192.0.2.1]", "edge..test", "..",
		"edge.test..", ".edge.test", "edge.test;x", "$(x)", "*", "a!b", "(a)", strings.Repeat("a", 300),
	} {
		f(host, "400")
	}
	for _, host := range []string{
		"edge.test:443@other.test", "edge.test:@other.test", "user@edge.test", "user:secret@edge.test", "edge.test, other.test", "edge.test other.test", "edge.test\tother.test",
		"edge.test/b", "edge.test?b", "edge.test#b", "http://edge.test", "edge.test\\", "\"edge.test\"", "<x>", "\u00e9dge.test",
	} {
		f(host, refused)
	}
	for _, host := range []string{"edge.test\x00", "edge\x01.test", "edge.test\x7f", "edge.test\rX: y"} {
		f(host, refused)
	}
	return cases
}

func connections() []raw {
	cases := []raw{
		{"close", get("Connection: close") + smuggled, "GET /a | closed"},
		{"close and keep-alive", get("Connection: close, keep-alive") + smuggled, "GET /a | closed"},
		{"keep-alive and close", get("Connection: keep-alive", "Connection: close") + smuggled, "GET /a | closed"},
		{"close in capitals", get("CONNECTION: CLOSE") + smuggled, "GET /a | closed"},
		{"keep-alive in HTTP/1.0", head("GET /a HTTP/1.0", "Connection: keep-alive") + get(), "GET /a | GET /a"},
		{"proxy-connection", get("Proxy-Connection: close"), "GET /a"},
		{"length listed in connection", post("hello", "Content-Length: 5", "Connection: Content-Length"), "POST /a hello"},
		{"coding listed in connection", post(chunked, "Transfer-Encoding: chunked", "Connection: Transfer-Encoding"), "POST /a hello"},
		{"upgrade to h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), "GET /a"},
		{"upgrade to h2c with a body", post("hello", "Content-Length: 5", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), "POST /a hello"},
		{"upgrade without connection", get("Upgrade: websocket"), "GET /a"},
		{"upgrade in HTTP/1.0", head("GET /a HTTP/1.0", "Connection: upgrade", "Upgrade: websocket"), "GET /a | closed"},
		{"TE of more than trailers", get("TE: trailers, chunked, gzip;q=1", "Connection: TE"), "GET /a"},
		// RFC 9110 section 10.1.1
		{"expect, body sent", post("hello", "Content-Length: 5", "Expect: 100-continue"), "100 | POST /a hello"},
		{"expect without a body", get("Expect: 100-continue"), "GET /a"},
		{"expect with a length of nothing", post("", "Content-Length: 0", "Expect: 100-continue"), "POST /a"},
		{"expect in capitals", post("hello", "Content-Length: 5", "EXPECT: 100-CONTINUE"), "100 | POST /a hello"},
		{"expect that and more", post("hello", "Content-Length: 5", "Expect: 100-continue, x"), "100 | POST /a hello"},
		{"expect in HTTP/1.0", head("POST /a HTTP/1.0", "Content-Length: 5", "Expect: 100-continue") + "hello", "POST /a hello | closed"},
	}
	for _, expect := range []string{"100", "x", "200-ok", "100-continued"} {
		cases = append(cases, raw{"expect " + expect, post("hello", "Content-Length: 5", "Expect: "+expect) + smuggled, "417 | closed"})
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "Via", "Cookie", "Authorization", "X-Request-Id", "X, , ,Y", "\x80", "\""} {
		cases = append(cases, raw{"connection lists " + printable(name), get("Connection: "+name, "X-Forwarded-For: 6.6.6.6", "X: y"), "GET /a"})
	}
	return cases
}

// fields would make an origin take one request for another. The origin says
// itself which it must not see.
func fields() []raw {
	var cases []raw
	for _, line := range []string{
		"X-Forwarded-For: 6.6.6.6", "X_Forwarded_For: 6.6.6.6", "X.Forwarded.For: 6.6.6.6", "x-forwarded_for: 6.6.6.6", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7",
		"X-Forwarded-Host: evil.test", "X_Forwarded_Host: evil.test", "X-Forwarded-Proto: http", "X~Forwarded~Proto: http", "Forwarded: for=6.6.6.6", "Forwarded_: for=6.6.6.6",
		"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X_HTTP_Method_Override: DELETE", "X-Original-URL: /admin", "X_Rewrite_URL: /admin",
		"X-Real-IP: 6.6.6.6", "Proxy: evil.test", "Keep-Alive: timeout=5", "Proxy-Authorization: Basic eA==", "Http2-Settings: AAMAAABk", "Trailer: X", "Via: 1.1 evil",
		"Content'Length: 43", "Transfer*Encoding: chunked", "Connection_: close", "TE: chunked", "TE_: trailers", "X!: y", "Cookie: a=b\r\nCookie: c=d",
	} {
		cases = append(cases, raw{"field " + printable(line), get(line), "GET /a"})
	}
	return cases
}

func pipelines() []raw {
	start := func(path string) string { return head("GET " + path + " HTTP/1.1") }
	ten, answers := "", []string{}
	for _, c := range "0123456789" {
		ten += start("/" + string(c))
		answers = append(answers, "GET /"+string(c))
	}
	return []raw{
		{"two", start("/1") + start("/2"), "GET /1 | GET /2"},
		{"three", start("/1") + post("hello", "Content-Length: 5") + start("/3"), "GET /1 | POST /a hello | GET /3"},
		{"ten", ten, strings.Join(answers, " | ")},
		{"chunked in the middle", start("/1") + post(chunked, "Transfer-Encoding: chunked") + start("/3"), "GET /1 | POST /a hello | GET /3"},
		{"HEAD in the middle", start("/1") + head("HEAD /2 HTTP/1.1") + start("/3"), "GET /1 | HEAD /2 | GET /3"},
		{"refused by the node in the middle", start("/1") + head("TRACE /2 HTTP/1.1") + start("/3"), "GET /1 | 405 | GET /3"},
		{"two lengths in the middle", start("/1") + post("hello!", "Content-Length: 5", "Content-Length: 6") + smuggled, "GET /1 | " + refused},
		{"odd coding in the middle", start("/1") + post(chunked, "Transfer-Encoding: xchunked") + smuggled, "GET /1 | 501 | closed"},
		{"broken field in the middle", start("/1") + get("X : y") + smuggled, "GET /1 | " + refused},
		{"no host in the middle", start("/1") + message("GET /2 HTTP/1.1") + smuggled, "GET /1 | " + refused},
		{"HTTP/1.0 in the middle", start("/1") + head("GET /2 HTTP/1.0") + smuggled, "GET /1 | GET /2 | closed"},
		{"close in the middle", start("/1") + head("GET /2 HTTP/1.1", "Connection: close") + smuggled, "GET /1 | GET /2 | closed"},
		{"nothing but line ends behind", start("/1") + "\r\n\r\n", "GET /1 | " + refused},
		{"half a request behind", start("/1") + "GET /2 HTTP/1.1\r\nHo", "GET /1 | EOF | " + refused},
	}
}
