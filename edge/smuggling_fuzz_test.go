package edge_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"spillway/origin"
)

// FuzzStartLine asks that a request of any target and any field is written as
// the one request that it was, as the strict origin reads it.
func FuzzStartLine(f *testing.F) {
	f.Add("/a%2Fb?c", "X", "y")
	f.Add("//a/b", "Transfer_Encoding", "chunked")
	f.Add("/ HTTP/1.1\r\nHost: evil\r\n\r\n", "Connection", "Host, X")
	f.Add("http://a/b?", "Te", "chunked, trailers")
	f.Add("/#\x00\xff", "Content-Length", "43")
	f.Add("*", "X-Forwarded-For", "6.6.6.6")
	client := origin.Client{Addr: netip.MustParseAddr("127.0.0.1"), Proto: "https", Host: "edge.test"}
	f.Fuzz(func(t *testing.T, target, name, value string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // no request with it comes so far
		}
		for i := 0; i < len(value); i++ {
			if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
				return
			}
		}
		if !isName(name) {
			return
		}
		in := &http.Request{Method: "GET", RequestURI: target, URL: u, Host: "edge.test", ProtoMajor: 2, Header: http.Header{}}
		in.Header.Add(name, value)
		out := origin.Outgoing(t.Context(), in, client, nil)
		out.URL.Scheme, out.URL.Host = "http", "origin"
		var written bytes.Buffer
		if err := out.Write(&written); err != nil {
			t.Fatal(err)
		}
		r, err := readRequest(bufio.NewReader(&written))
		if err == nil {
			err = r.check()
		}
		if err != nil || written.Len() > 0 {
			t.Fatalf("%q %q: %q: %v", target, name, value, err)
		}
		sent, _, _ := strings.Cut(target, "?")
		got, _, _ := strings.Cut(r.target, "?")
		a, _ := url.PathUnescape(sent)
		if b, _ := url.PathUnescape(got); a != b || strings.Count(sent, "/") != strings.Count(got, "/") || r.host != "edge.test" {
			t.Fatalf("%q is written as %q for %q", target, r.target, r.host)
		}
	})
}
