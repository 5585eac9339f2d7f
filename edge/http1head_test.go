package edge

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// TestHeadIsClear: what is answered here is a request that everybody reads alike, and
// what is not is left alone as soon as it can be told.
func TestHeadIsClear(t *testing.T) {
	f := func(want reading, text string) {
		t.Helper()
		if got := new(head).parse([]byte(text), 0); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
	f(whole, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	f(whole, "GET /a%20b!?q=/?\"{} HTTP/1.1\r\nHost: a:1\r\nX-Y:\r\nx-y: \t z \t\r\nCookie: a=b; c\r\n\r\nGET")
	f(whole, "POST /? HTTP/1.1\r\nConnection: Keep-Alive\r\nContent-Length: 12\r\nHost: [::1]:1\r\n\r\nabc")
	f(partial, "")
	f(partial, "G")
	f(partial, "GET / HTTP/1.0")
	f(partial, "GET / HTTP/1.1\r\nHost: a\r\n\r")
	f(partial, "GET / HTTP/1.1\r\nHost: a\r\n b")
	for _, line := range []string{
		"", " GET / HTTP/1.1", "get / HTTP/1.1", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "GET / HTTP/1.0", "GET / HTTP/1.2",
		"GET /", "GET * HTTP/1.1", "GET http://a/ HTTP/1.1", "GET a HTTP/1.1", "CONNECT /a HTTP/1.1", "CONNECT a:1 HTTP/1.1",
		"GET /a#b HTTP/1.1", "GET /\x7f HTTP/1.1", "GET /\xc3\xa4 HTTP/1.1", "GET /%zz HTTP/1.1", "GET /\tHTTP/1.1", "GET /a\r HTTP/1.1",
	} {
		f(unclear, line+"\r\n")
		f(unclear, line+"\r\nHost: a\r\n\r\n")
	}
	for _, line := range []string{
		" a: b", "a", ": b", "a : b", "a: b\r", "a: \x00", "a: \x7f", "a: \xff", "\xff: a", "a(: b",
		"Host: b", "Host:", "Transfer-Encoding: chunked", "Transfer-Encoding:", "transfer-encoding: identity", "Trailer: a",
		"Expect: 100-continue", "Upgrade: websocket", "Connection: close", "Connection: keep-alive, TE", "Connection:",
		"Content-Length:", "Content-Length: +1", "Content-Length: 1, 1", "Content-Length: 0x1", "Content-Length: -1",
		"Content-Length: 9223372036854775808", "Content-Length: 1\r\nContent-Length: 1", "Connection: keep-alive\r\nConnection: keep-alive",
	} {
		f(unclear, "GET / HTTP/1.1\r\nHost: a\r\n"+line+"\r\n")
		f(unclear, "GET / HTTP/1.1\r\nHost: a\r\n"+line+"\r\n\r\n")
	}
	f(unclear, "GET / HTTP/1.1\r\n\r\n")
	f(unclear, "GET / HTTP/1.1\nHost: a\n\n")
	f(unclear, "GET / HTTP/1.1\r\nHost: a\n\r\n")
	f(unclear, "\r\nG")
	f(unclear, "\x16\x03\x01")
}

// TestHeadIsJudgedOnce: who sends byte by byte does not have each line read for each byte.
func TestHeadIsJudgedOnce(t *testing.T) {
	const lines = 100
	text := []byte("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: a value that is some text\r\n", lines) + "\r\n")
	h, found := new(head), partial
	made := testing.AllocsPerRun(1, func() {
		for n, judged := 0, 0; n <= len(text); n, judged = n+1, h.size {
			if found = h.parse(text[:n], judged); found == unclear {
				t.Fatalf("%q is unclear", text[:n])
			}
		}
	})
	if found != whole || made > 3*lines {
		t.Errorf("got %d, %v allocations for %d bytes in %d lines", found, made, len(text), lines)
	}
}

// FuzzHead asks that net/http takes a head for what parse takes it for, to the last
// byte, and that one which has not come whole is judged as the whole one will be.
func FuzzHead(f *testing.F) {
	f.Add([]byte("GET /a?b HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nCookie: a\r\ncookie: b\r\n\r\nGET"), uint(20))
	f.Add([]byte("GET //a/../b;c,d/%2f%41*(')?a?b? HTTP/1.1\r\nHOST: [::1]:443\r\nx:\r\n\r\n"), uint(3))
	f.Add([]byte("POST /? HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcd"), uint(40))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\nConnection: keep-alive\r\n\r\n"), uint(60))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), uint(27))
	used := new(head)
	f.Fuzz(func(t *testing.T, b []byte, cut uint) {
		found := used.parse(b, 0)
		first := new(head)
		early := first.parse(b[:min(cut, uint(len(b)))], 0)
		if early == partial {
			if later := first.parse(b, first.size); later != found && !(later == partial && found == unclear) {
				t.Fatalf("%q: %d after %d bytes were judged, %d without", b, later, cut, found)
			}
		}
		if early == unclear && found != unclear {
			t.Fatalf("%q is unclear before it has come, and %d then", b, found)
		}
		if found != whole {
			return
		}
		in := bytes.NewReader(b)
		buf := bufio.NewReader(in)
		want, err := http.ReadRequest(buf)
		if err != nil {
			t.Fatalf("%q: net/http says %v", b, err)
		}
		if size := len(b) - in.Len() - buf.Buffered(); size != used.size {
			t.Fatalf("%q: a head of %d bytes, net/http says %d", b, used.size, size)
		}
		if length, _ := io.Copy(io.Discard, want.Body); length != min(used.body, int64(len(b)-used.size)) || want.ContentLength != used.body {
			t.Fatalf("%q: a body of %d bytes, net/http says %d", b, used.body, want.ContentLength)
		}
		if !httpguts.ValidHostHeader(want.Host) || want.Close || len(want.TransferEncoding) > 0 {
			t.Fatalf("%q: net/http would refuse it, or close", b)
		}
		delete(want.Header, "Host") // as the server does
		got := &used.request
		same := got.Method == want.Method && got.RequestURI == want.RequestURI && got.Proto == want.Proto && got.ProtoMajor == want.ProtoMajor &&
			got.ProtoMinor == want.ProtoMinor && got.Host == want.Host && *got.URL == *want.URL
		if !same {
			t.Fatalf("%q: got %+v, want %+v", b, got, want)
		}
		if !used.altered && !maps.EqualFunc(got.Header, want.Header, slices.Equal) {
			t.Fatalf("%q: got %q, want %q", b, got.Header, want.Header)
		}
	})
}

// BenchmarkHead is what a head of a browser costs.
func BenchmarkHead(b *testing.B) {
	text := []byte("GET /img/thumb/1234.jpg?w=320 HTTP/1.1\r\nHost: img.example.com\r\nConnection: keep-alive\r\nUser-Agent: " + strings.Repeat("x", 110) +
		"\r\nAccept: image/avif,image/webp,*/*;q=0.8\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: no-cors\r\nReferer: https://example.com/\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n")
	var h head
	b.ReportAllocs()
	for b.Loop() {
		if h.parse(text, 0) != whole {
			b.Fatal("not a head")
		}
	}
}
