package origin

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/limit"
)

// TestBrokenServers asks servers of HTTP/1.1 that break the rules, besides those
// of TestEndings. None gets away with it, none holds the node up, and the next
// request is none the worse.
func TestBrokenServers(t *testing.T) {
	const chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
	f := func(name, answer, body string, inHead bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				o.dial = network{"a": says(false, answer)}.dial
				resp, err := o.ask(t)
				if resp != nil {
					var got []byte
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					if string(got) != body {
						t.Errorf("got %q, want %q", got, body)
					}
				}
				if (resp == nil) != inHead {
					t.Errorf("response %v, error %v", resp, err)
				}
				checkFailure(t, err, outcome.OriginFailed, true)
				checkResult(t, o, limit.Drop)
				o.checkRest(t)
				o.dial = network{"a": says(true, ok+"Content-Length: 4\r\n\r\nnext")}.dial
				resp, err = o.ask(t)
				if got := bodyOf(t, resp, err); got != "next" {
					t.Errorf("the next request got %q", got)
				}
			})
		})
	}
	head := func(name, answer string) { f(name, answer, "", true) }
	head("status 99", "HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n")
	head("status 1000", "HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n")
	head("status without number", "HTTP/1.1 OK 200\r\nContent-Length: 0\r\n\r\n")
	head("negative status", "HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n")
	head("no status", "HTTP/1.1\r\n\r\n")
	head("no version", "HTTP 200 OK\r\n\r\n")
	head("bad version", "HTTP/x.y 200 OK\r\nContent-Length: 0\r\n\r\n")
	head("field without colon", ok+"Content-Length 0\r\n\r\n")
	head("control character in a name", ok+"X\x01Y: 1\r\nContent-Length: 0\r\n\r\n")
	head("empty name", ok+": 1\r\nContent-Length: 0\r\n\r\n")
	head("different lengths", ok+"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
	head("list of lengths", ok+"Content-Length: 3, 4\r\n\r\nabcd")
	head("signed length", ok+"Content-Length: +3\r\n\r\nabc")
	head("negative length", ok+"Content-Length: -3\r\n\r\nabc")
	head("huge length", ok+"Content-Length: 99999999999999999999\r\n\r\nabc")
	head("unknown coding", ok+"Transfer-Encoding: gzip\r\n\r\nabc")
	head("two codings", ok+"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	head("large head of many fields", ok+strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", headMost/1000+20)+"\r\n")

	f("shorter than its length", ok+"Content-Length: 9\r\n\r\nabc", "abc", false)
	f("chunk size is no number", chunked+"3\r\nabc\r\nxyz\r\n", "abc", false)
	f("chunk size is too large", chunked+"3\r\nabc\r\nfffffffffffffffff\r\n", "abc", false)
	f("chunk size is negative", chunked+"3\r\nabc\r\n-1\r\n", "abc", false)
	f("chunk longer than its size", chunked+"3\r\nabcdef\r\n0\r\n\r\n", "abc", false)
	f("chunk without end of line", chunked+"3\r\nabc0\r\n\r\n", "abc", false)
	f("chunk extension without end", chunked+"3;"+strings.Repeat("x", 1<<20), "", false)
	f("close before the last chunk", chunked+"3\r\nabc\r\n0\r\n", "abc", false)
	f("bad trailer", chunked+"3\r\nabc\r\n0\r\nno colon\r\n\r\n", "abc", false)
}

// TestValuesStayInTheirField: what a server writes into a value does not become
// a field of its own, and the bytes that could do so elsewhere do not come
// through.
func TestValuesStayInTheirField(t *testing.T) {
	for _, value := range []string{"a\x00b", "a\rX-Evil: 1", "a\x01b", "a\x7fb"} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			o.dial = network{"a": says(true, ok+"X-Value: "+value+"\r\nContent-Length: 0\r\n\r\n")}.dial
			resp, err := o.ask(t)
			if err != nil {
				checkFailure(t, err, outcome.OriginFailed, true)
				return
			}
			if got := resp.Header.Get("X-Value"); strings.ContainsAny(got, "\x00\r\n") || resp.Header.Get("X-Evil") != "" {
				t.Errorf("value %q came through as %v", value, resp.Header)
			}
		})
	}
}

// TestLengthBesideChunks: with both, the chunks count (RFC 9112 section 6.3), and
// the length is not forwarded.
func TestLengthBesideChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, ok+"Content-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")}.dial
		resp, err := o.ask(t)
		if got := bodyOf(t, resp, err); got != "abc" || resp.ContentLength != -1 || resp.Header["Content-Length"] != nil {
			t.Errorf("got %q, length %d, %v", got, resp.ContentLength, resp.Header)
		}
	})
}

// TestSpaceBeforeColon: a name with a space is no name. What it says counts for
// nothing and goes no further.
func TestSpaceBeforeColon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(false, ok+"Content-Length : 2\r\nX-A : 1\r\nX-B: 2\r\n\r\nabc")}.dial
		resp, err := o.ask(t)
		if got := bodyOf(t, resp, err); got != "abc" || len(resp.Header) != 1 || resp.Header.Get("X-B") != "2" {
			t.Errorf("got %q, %v", got, resp.Header)
		}
	})
}

// TestBytesNobodyAskedFor: what a server sends beyond its answer, or before it
// was asked, is not taken for the answer to the next request.
func TestBytesNobodyAskedFor(t *testing.T) {
	const evil = ok + "Content-Length: 4\r\n\r\nevil"
	f := func(name, first string, later bool) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				var connections atomic.Int32
				o.dial = network{"a": func(c net.Conn) {
					if connections.Add(1) > 1 {
						says(true, ok+"Content-Length: 4\r\n\r\ngood")(c)
						return
					}
					requests(func(c net.Conn, r *http.Request) bool {
						if later {
							io.WriteString(c, first)
							time.Sleep(time.Second)
							io.WriteString(c, evil)
						} else {
							io.WriteString(c, first+evil)
						}
						return true
					})(c)
				}}.dial
				resp, err := o.ask(t)
				if got := bodyOf(t, resp, err); got != "abc" {
					t.Errorf("got %q", got)
				}
				time.Sleep(2 * time.Second)
				resp, err = o.ask(t)
				if got := bodyOf(t, resp, err); got != "good" {
					t.Errorf("the next request got %q", got)
				}
				o.checkRest(t)
			})
		})
	}
	f("longer than its length", ok+"Content-Length: 3\r\n\r\nabc", false)
	f("after the last chunk", ok+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false)
	f("on an idle connection", ok+"Content-Length: 3\r\n\r\nabc", true)
}

// TestBodyWhereThereIsNone: bytes behind a head that has no body are nobody's.
func TestBodyWhereThereIsNone(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			var asked atomic.Int32
			o.dial = network{"a": requests(func(c net.Conn, r *http.Request) bool {
				if asked.Add(1) == 1 {
					io.WriteString(c, head+ok+"Content-Length: 4\r\n\r\nevil")
				} else {
					io.WriteString(c, ok+"Content-Length: 4\r\n\r\ngood")
				}
				return true
			})}.dial
			resp, err := o.ask(t)
			if got := bodyOf(t, resp, err); got != "" {
				t.Errorf("got %q", got)
			}
			time.Sleep(time.Second)
			resp, err = o.ask(t)
			if got := bodyOf(t, resp, err); got != "good" {
				t.Errorf("the next request got %q", got)
			}
		})
	}
}

// TestSlowHead: a head that comes byte by byte has to end in time all the same.
func TestSlowHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			io.WriteString(c, ok+"X: ")
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return false
				}
				time.Sleep(time.Second)
			}
		})}.dial
		start := time.Now()
		_, err := o.ask(t)
		checkFailure(t, err, outcome.OriginTimeout, true)
		checkResult(t, o, limit.Drop)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
		time.Sleep(time.Minute)
		o.checkRest(t)
	})
}

// FuzzAnswer: whatever a server sends, the exchange ends in time and once, and
// what comes out of it can be written into another message.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(ok + "Content-Length: 3\r\n\r\nabc"))
	f.Add([]byte(ok + "Transfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok + "Content-Length: 50\r\n\r\nabc"))
	f.Add([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 304 Not Modified\r\nConnection: X-A\r\nX-A : 1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			o.dial = network{"a": says(false, string(answer))}.dial
			relay := func(status int, h http.Header) {
				if status < 102 || status > 199 {
					t.Errorf("relayed %d %v", status, h)
				}
			}
			resp, err := o.Do(Outgoing(WithInformational(t.Context(), relay), get(t, "/"), visitor, nil), o.acquire(t))
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				for _, fields := range []http.Header{resp.Header, resp.Trailer} {
					for name, values := range fields {
						if !isToken(name) || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
							t.Errorf("field %q: %q", name, values)
						}
					}
				}
			}
			if failure := (*Error)(nil); err != nil && !errors.As(err, &failure) {
				t.Errorf("%T %v", err, err)
			}
			s := o.State()
			if s.OK+s.Dropped+s.Canceled != 1 {
				t.Errorf("%+v", s)
			}
			o.checkRest(t)
		})
	})
}
