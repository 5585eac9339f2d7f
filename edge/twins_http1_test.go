package edge_test

import (
	"crypto/tls"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"spillway/edge/edgetest"
)

// lastAsk follows each input on its connection. Where it is answered as what it is, the
// node has found the end of the input, and takes further requests.
const (
	lastID  = "the-end-of-the-input"
	lastAsk = "HEAD /nowhere HTTP/1.1\r\nHost: edge.test\r\nX-Request-Id: " + lastID + "\r\n\r\n"
)

// FuzzTwinsHTTP1 sends any bytes over TLS, in two parts, and a request behind them.
func FuzzTwinsHTTP1(f *testing.F) {
	for _, s := range seeds1() {
		f.Add([]byte(s), uint16(0))
	}
	plain := get1("/plain/a")
	f.Add([]byte(plain), uint16(1))
	f.Add([]byte(plain), uint16(len(plain)-1))
	f.Add([]byte(plain), uint16(len(plain)))
	f.Add([]byte(plain+plain+plain), uint16(len(plain)+5))
	tw := newTwins(f)
	f.Fuzz(func(t *testing.T, sent []byte, split uint16) {
		agree(t, tw, func(n *edgetest.Node, patience time.Duration) string {
			return visit1(t, n, sent, int(split), patience)
		}, func(on, off string) bool { return on == off })
	})
}

// visit1 sends what a visitor says on a connection, and returns what it hears. Once nothing
// has come for as long as its patience is, it says that no more will follow.
func visit1(t *testing.T, n *edgetest.Node, sent []byte, split int, patience time.Duration) string {
	t.Helper()
	c := n.Client.Clone()
	c.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", n.Listeners.Addr().String(), c)
	if err != nil {
		t.Fatal(err)
	}
	var saying sync.WaitGroup
	defer saying.Wait()
	defer conn.Close()
	saying.Go(func() { // the node need not read all before it answers
		split = min(split, len(sent))
		if split > 0 {
			conn.Write(sent[:split])
			time.Sleep(wellAfter)
		}
		conn.Write(append(sent[split:len(sent):len(sent)], lastAsk...))
	})
	var heard []byte
	buf := make([]byte, 16<<10)
	for waited := false; ; {
		conn.SetReadDeadline(time.Now().Add(patience))
		if waited {
			conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // only a failing case gets there
		}
		n, err := conn.Read(buf)
		heard = append(heard, buf[:n]...)
		_, end, found := strings.Cut(string(heard), "\r\nX-Request-Id: "+lastID+"\r\n")
		switch {
		case found && strings.HasSuffix(end, "\r\n\r\n"):
			return compared1(heard) + "open"
		case !waited && errors.Is(err, os.ErrDeadlineExceeded):
			waited = true
			conn.CloseWrite()
		case err != nil && waited:
			return compared1(heard) + "waited for more"
		case err != nil:
			return compared1(heard) + "closed"
		}
	}
}

// compared1 is what was heard, with the fields of each answer in the order of their
// names, and without what differs between any two answers.
func compared1(heard []byte) string {
	var all strings.Builder
	for rest := string(heard); rest != ""; {
		start := strings.Index(rest, "HTTP/1.")
		head, after, whole := strings.Cut(rest[max(start, 0):], "\r\n\r\n")
		if start < 0 || !whole {
			all.WriteString(compared(nil, []byte(rest)) + "\n")
			break
		}
		if start > 0 {
			all.WriteString(compared(nil, []byte(rest[:start])) + "\n")
		}
		status, lines, _ := strings.Cut(head, "\r\n")
		var fields []field
		for line := range strings.SplitSeq(lines, "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			fields = append(fields, field{name, value})
		}
		all.WriteString(status + "\n" + compared(fields, nil) + "\n")
		rest = after
	}
	return all.String()
}

func get1(target string, lines ...string) string { return head("GET "+target+" HTTP/1.1", lines...) }

// seeds1 are what HTTP/1.1 connections begin with.
func seeds1() (all []string) {
	add := func(s ...string) { all = append(all, s...) }
	for _, name := range sortedVisitors() {
		add(written1(visitors[name]))
	}
	for _, fields := range unusual() {
		add(written1(fields))
	}
	plain := get1("/plain/a")
	add("", "\r\n", plain, plain+plain, plain+get1("/plain/page")+get1("/plain/none")+plain, get1("/plain/large")+plain)
	add("\r\n"+plain, "\n\n"+plain, " "+plain, "\x00"+plain)
	add(strings.ReplaceAll(plain, "\r\n", "\n"), strings.Replace(plain, "\r\n", "\n", 1), strings.Replace(plain, "\r\n", "\r", 1))
	for _, start := range []string{
		"GET /plain/a HTTP/1.0", "GET /plain/a HTTP/1.2", "GET /plain/a HTTP/2.0", "GET /plain/a HTTP/1.1 ", "GET  /plain/a HTTP/1.1", "GET\t/plain/a HTTP/1.1",
		"GET /plain/a", "GET /plain/a http/1.1", "get /plain/a HTTP/1.1", "GET https://edge.test/plain/a HTTP/1.1", "GET https://other.test/plain/a HTTP/1.1",
		"GET plain/a HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1", "HEAD /plain/a HTTP/1.1", "CONNECT edge.test:443 HTTP/1.1", "PRI * HTTP/2.0", "GET /plain/a HTTP/1.01",
		"GET /plain/a HTTP/01.1", "GET /plain/\x80 HTTP/1.1", "GET /plain/a\x00 HTTP/1.1", "GET /plain/a?b c HTTP/1.1", "GET /plain/a#b HTTP/1.1",
	} {
		add(head(start) + plain)
	}
	for _, line := range []string{
		"Connection: close", "Connection: Close", "Connection: keep-alive", "Connection: close, x", "Connection: x\r\nConnection: close", "connection:close", "Connection: upgrade",
		"Host: other.test", "host:edge.test", "Host : edge.test", " folded", "X: a\r\n folded", "X", ": x", "X:", "X:\x0by", "X: \xff", "X: a\rb", "X: a\x00",
		"X Y: z", "\xffX: y", "Content-Length: 0", "Content-Length: 3\r\n\r\nabc", "Content-Length: +0", "Content-Length: 0, 0", "Transfer-Encoding: chunked\r\n\r\n0",
		"Transfer-Encoding: identity", "Expect: 100-continue", "Range: bytes=0-0", "TE: trailers", "Upgrade: h2c", "Cookie: a=b\r\nCookie: c=d", "Accept-Encoding: gzip",
		"If-None-Match: \"4\"", "Cache-Control: no-cache", "Pragma: no-cache", "X-Request-Id: brought-along", "User-Agent: \tx\t", "X:" + strings.Repeat(" ", 100) + "y",
		"X: " + strings.Repeat("x", 5<<10), "X: " + strings.Repeat("x", 40<<10), strings.Repeat("X: y\r\n", 130) + "X: z",
	} {
		add(get1("/plain/a", line) + plain)
	}
	add(message("GET /plain/a HTTP/1.1")+plain, message("GET /plain/a HTTP/1.1", "Host: edge.test", "Host: edge.test")+plain)
	add(message("GET /plain/a HTTP/1.1", "Host:")+plain, message("GET /plain/a HTTP/1.1", "Host: edge.test/x")+plain, message("GET /plain/a HTTP/1.0")+plain)
	add(plain[:len(plain)-2], plain[:len(plain)-1], plain+"GET /plain/a HT")
	return all
}

// written1 writes fields of HTTP/2 as HTTP/1.1 does, names as they are.
func written1(fields []field) string {
	method, target := "GET", ""
	var lines []string
	for _, f := range fields {
		switch f.name {
		case ":method":
			method = f.value
		case ":path":
			target = f.value
		case ":authority":
			lines = append([]string{"Host: " + f.value}, lines...)
		default:
			lines = append(lines, f.name+": "+f.value)
		}
	}
	return message(append([]string{method + " " + target + " HTTP/1.1"}, lines...)...)
}
