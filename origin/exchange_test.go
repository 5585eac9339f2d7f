package origin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
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

const ok = "HTTP/1.1 200 OK\r\n"

// TestEndings asks servers that do all kinds of things. However an exchange
// ends, its permit ends once, with the right result, and nothing stays behind.
func TestEndings(t *testing.T) {
	hang := requests(func(c net.Conn, _ *http.Request) bool {
		io.Copy(io.Discard, c)
		return false
	})
	stall := requests(func(c net.Conn, _ *http.Request) bool {
		io.WriteString(c, ok+"Content-Length: 9\r\n\r\nabc")
		io.Copy(io.Discard, c)
		return false
	})
	trickle := requests(func(c net.Conn, _ *http.Request) bool {
		io.WriteString(c, ok+"Content-Length: 5\r\n\r\n")
		for _, b := range "abcde" {
			time.Sleep(20 * time.Second)
			io.WriteString(c, string(b))
		}
		return true
	})
	for _, tt := range []struct {
		name   string
		serve  func(net.Conn)
		method string
		// What Do and the reading of the body should give.
		body    string
		status  int
		reason  outcome.Reason // of Do's error or, with a status, of Read's
		unsent  bool
		result  limit.Result
		blamed  bool // counts against the server
		takes   time.Duration
		problem error // that the error wraps
	}{
		{name: "plain", serve: says(true, ok+"Content-Length: 3\r\n\r\nabc"), body: "abc", status: 200},
		{name: "in pieces", serve: says(true, "HTTP/1.1 20", "0 OK\r\nContent-Length: 3\r\n", "\r\n", "a", "b", "c"), body: "abc", status: 200},
		{name: "chunked", serve: says(true, ok+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "0\r\n\r\n"), body: "abc", status: 200},
		{name: "until close", serve: says(false, ok+"\r\nab", "c"), body: "abc", status: 200},
		{name: "empty", serve: says(true, ok+"Content-Length: 0\r\n\r\n"), status: 200},
		{name: "HEAD", method: "HEAD", serve: says(true, ok+"Content-Length: 3\r\n\r\n"), status: 200},
		{name: "204", serve: says(true, "HTTP/1.1 204 No Content\r\n\r\n"), status: 204},
		{name: "304", serve: says(true, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n"), status: 304},
		{name: "1xx before", serve: says(true, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ok+"Content-Length: 3\r\n\r\nabc"), body: "abc", status: 200},
		{name: "trickle", serve: trickle, body: "abcde", status: 200, takes: 100 * time.Second},

		{name: "404", serve: says(true, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), status: 404},
		{name: "429", serve: says(true, "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), status: 429, result: limit.Cancel},
		{name: "500", serve: says(true, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), status: 500, result: limit.Cancel},
		{name: "503", serve: says(true, "HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nabc"), body: "abc", status: 503, result: limit.Drop},

		{name: "refused", reason: outcome.OriginDown, unsent: true, result: limit.Drop, blamed: true},
		{name: "reset at once", serve: func(net.Conn) {}, reason: outcome.OriginFailed, result: limit.Drop, blamed: true},
		{name: "reset before header", serve: says(false), reason: outcome.OriginFailed, result: limit.Drop, blamed: true, problem: io.EOF},
		{name: "reset in header", serve: says(false, ok+"Content-Le"), reason: outcome.OriginFailed, result: limit.Drop, blamed: true},
		{name: "not HTTP", serve: says(false, "SSH-2.0-OpenSSH_9.2p1\r\n"), reason: outcome.OriginFailed, result: limit.Drop, blamed: true},
		{name: "endless header", serve: says(false, ok+"X: "+strings.Repeat("x", headMost+readBuffer)), reason: outcome.OriginFailed, result: limit.Drop, blamed: true},
		{name: "unasked switch", serve: says(true, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), reason: outcome.OriginFailed, result: limit.Drop, blamed: true, problem: errUnasked},
		{name: "hang", serve: hang, reason: outcome.OriginTimeout, result: limit.Drop, blamed: true, takes: 30 * time.Second},

		{name: "reset in body", serve: says(false, ok+"Content-Length: 9\r\n\r\nabc"), body: "abc", status: 200, reason: outcome.OriginFailed, result: limit.Drop, problem: io.ErrUnexpectedEOF},
		{name: "reset in chunk", serve: says(false, ok+"Transfer-Encoding: chunked\r\n\r\n9\r\nabc"), body: "abc", status: 200, reason: outcome.OriginFailed, result: limit.Drop, problem: io.ErrUnexpectedEOF},
		{name: "reset between chunks", serve: says(false, ok+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), body: "abc", status: 200, reason: outcome.OriginFailed, result: limit.Drop, problem: io.ErrUnexpectedEOF},
		{name: "stall in body", serve: stall, body: "abc", status: 200, reason: outcome.OriginTimeout, result: limit.Drop, takes: 30 * time.Second, problem: errStalled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				n := network{}
				if tt.serve != nil {
					n["a"] = tt.serve
				}
				o.dial = n.dial
				in := get(t, "/")
				if tt.method != "" {
					in.Method = tt.method
				}
				start := time.Now()
				resp, err := o.Do(Outgoing(t.Context(), in, visitor, nil), o.acquire(t))
				status, body := 0, []byte(nil)
				if resp != nil {
					status = resp.StatusCode
					body, err = io.ReadAll(resp.Body)
					defer resp.Body.Close()
				}
				if status != tt.status || string(body) != tt.body {
					t.Errorf("got %d %q, want %d %q", status, body, tt.status, tt.body)
				}
				checkFailure(t, err, tt.reason, !tt.unsent)
				if tt.problem != nil && !errors.Is(err, tt.problem) {
					t.Errorf("error %v does not wrap %v", err, tt.problem)
				}
				if took := time.Since(start); took != tt.takes {
					t.Errorf("took %v, want %v", took, tt.takes)
				}
				checkResult(t, o, tt.result)
				if s := o.State(); (s.Servers[0].Failures == 1) != tt.blamed {
					t.Errorf("server has %d failures, blamed: %v", s.Servers[0].Failures, tt.blamed)
				}
				o.checkRest(t)
			})
		})
	}
}

func checkFailure(t *testing.T, err error, reason outcome.Reason, sent bool) {
	t.Helper()
	failure := (*Error)(nil)
	switch errors.As(err, &failure); {
	case failure == nil && err == nil && reason == outcome.None:
	case failure == nil:
		t.Errorf("got error %v, want one with reason %q", err, reason)
	case failure.Reason != reason || failure.Sent != sent:
		t.Errorf("got %v, sent %v, want reason %q, sent %v", failure, failure.Sent, reason, sent)
	}
}

func checkResult(t *testing.T, o *Origin, want limit.Result) {
	t.Helper()
	s := o.State()
	got := [...]uint64{limit.OK: s.OK, limit.Drop: s.Dropped, limit.Cancel: s.Canceled}
	all := [...]uint64{limit.OK: 0, limit.Drop: 0, limit.Cancel: 0}
	all[want] = 1
	if got != all {
		t.Errorf("permits ended as ok, drop, cancel: %v, want %v", got, all)
	}
}

func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{ConnectTimeout: 2 * time.Second})
		o.dial = network{"a": nil}.dial
		start := time.Now()
		_, err := o.ask(t)
		checkFailure(t, err, outcome.OriginDown, false)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("took %v", took)
		}
		checkResult(t, o, limit.Drop)
		o.checkRest(t)
	})
}

// TestClientFaults are failures that no server has to answer for.
func TestClientFaults(t *testing.T) {
	f := func(name string, reason outcome.Reason, sent bool, change func(cancel func(), in, out *http.Request)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{})
				o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
					io.Copy(io.Discard, c) // never answers
					return false
				})}.dial
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				in := get(t, "/")
				out := Outgoing(ctx, in, visitor, nil)
				change(cancel, in, out)
				_, err := o.Do(out, o.acquire(t))
				checkFailure(t, err, reason, sent)
				checkResult(t, o, limit.Cancel)
				if s := o.State().Servers[0]; s.Failures != 0 {
					t.Errorf("server is blamed for %v", err)
				}
				o.checkRest(t)
			})
		})
	}
	f("gone", outcome.ClientGone, true, func(cancel func(), _, _ *http.Request) {
		time.AfterFunc(time.Second, cancel)
	})
	f("gone before", outcome.ClientGone, false, func(cancel func(), _, _ *http.Request) { cancel() })
	f("method", outcome.BadRequest, false, func(_ func(), _, out *http.Request) { out.Method = "GE T" })
	f("field", outcome.BadRequest, false, func(_ func(), _, out *http.Request) { out.Header["X"] = []string{"a\r\nb: c"} })
	f("upload", outcome.ClientGone, true, func(_ func(), _, out *http.Request) {
		setBody(out, &http.Request{ContentLength: -1}, io.MultiReader(strings.NewReader("abc"), brokenReader{}))
	})
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("stream reset") }

func TestCanceledInBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			io.WriteString(c, ok+"Content-Length: 9\r\n\r\nabc")
			io.Copy(io.Discard, c)
			return false
		})}.dial
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := o.Do(Outgoing(ctx, get(t, "/"), visitor, nil), o.acquire(t))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		_, err = io.ReadAll(resp.Body)
		checkFailure(t, err, outcome.ClientGone, true)
		checkResult(t, o, limit.Cancel)
		resp.Body.Close()
		o.checkRest(t)
	})
}

// TestServerStopsReading sends more than fits anywhere to a server that does not
// read it. The wait for the header begins after the request is written, so
// another clock must run.
func TestServerStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		gone := make(chan struct{})
		o.dial = network{"a": func(net.Conn) { <-gone }}.dial
		in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\n\r\n")
		start := time.Now()
		_, err := o.Do(Outgoing(t.Context(), in, visitor, bytes.NewReader(make([]byte, 1<<20))), o.acquire(t))
		checkFailure(t, err, outcome.OriginTimeout, true)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("took %v", took)
		}
		checkResult(t, o, limit.Drop)
		close(gone)
		o.checkRest(t)
	})
}

// TestSlowUpload: a client on a bad line holds a long-lived place, not a permit.
func TestSlowUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, ok+"Content-Length: 0\r\n\r\n")}.dial
		in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		body, client := io.Pipe()
		go func() {
			defer client.Close()
			for range 4 {
				client.Write([]byte("abc"))
				time.Sleep(time.Second / 2)
			}
			synctest.Wait()
			if s := o.State().Limit; s.InFlight != 0 || s.LongLived != 1 {
				t.Errorf("%d in flight, %d long-lived", s.InFlight, s.LongLived)
			}
		}()
		if _, err := o.Do(Outgoing(t.Context(), in, visitor, body), o.acquire(t)); err != nil {
			t.Fatal(err)
		}
		checkResult(t, o, limit.Cancel)
		o.checkRest(t)
	})
}

// TestFastUpload: how long the origin took over a body that came quickly is worth
// knowing.
func TestFastUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, ok+"Content-Length: 3\r\n\r\nabc")}.dial
		in := incoming(t, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		resp, err := o.Do(Outgoing(t.Context(), in, visitor, strings.NewReader("abc")), o.acquire(t))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		checkResult(t, o, limit.OK)
		o.checkRest(t)
	})
}

func TestRetryAfterAndFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nConnection: x-hop\r\nX-Hop: 1\r\n"+
			"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nAlt-Svc: h3=\":444\"\r\nUpgrade: h2c\r\n"+
			"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nno")}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		resp.Header.Write(&got)
		if want := "Content-Length: 2\r\nRetry-After: 7\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"; got.String() != want {
			t.Errorf("got\n%swant\n%s", got.String(), want)
		}
		resp.Body.Close()
		o.checkRest(t)
	})
}

func TestTrailers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, ok+"Transfer-Encoding: chunked\r\nTrailer: Grpc-Status\r\n\r\n3\r\nabc\r\n",
			"0\r\nGrpc-Status: 0\r\nX-Late: 1\r\n\r\n")}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		if _, announced := resp.Trailer["Grpc-Status"]; !announced {
			t.Error("trailer is not announced")
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		if resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("X-Late") != "1" {
			t.Errorf("trailers %v", resp.Trailer)
		}
		resp.Body.Close()
		o.checkRest(t)
	})
}

// TestUpgrade puts Upgrade back, as a caller does that relays tunnels.
func TestUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
			io.Copy(c, c)
			return false
		})}.dial
		req := Outgoing(t.Context(), get(t, "/"), visitor, nil)
		req.Header["Connection"], req.Header["Upgrade"] = []string{"upgrade"}, []string{"echo"}
		resp, err := o.Do(req, o.acquire(t))
		if err != nil {
			t.Fatal(err)
		}
		if s := o.State().Limit; s.InFlight != 0 || s.LongLived != 1 {
			t.Errorf("%d in flight, %d long-lived", s.InFlight, s.LongLived)
		}
		if resp.Header.Get("Upgrade") != "echo" {
			t.Error("nobody can know what the tunnel is for")
		}
		tunnel := resp.Body.(io.ReadWriteCloser)
		go io.WriteString(tunnel, "hello")
		got := make([]byte, 5)
		if _, err := io.ReadFull(tunnel, got); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v", got, err)
		}
		tunnel.Close()
		tunnel.Close()
		checkResult(t, o, limit.Cancel)
		o.checkRest(t)
	})
}

// TestNoPermit: requests that need no permit run without one.
func TestNoPermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(true, ok+"Content-Length: 3\r\n\r\nabc")}.dial
		resp, err := o.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), limit.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		o.checkRest(t)
	})
}

// TestTimeoutAsAWhole: the wait for the header is bounded however often the
// request is sent.
func TestTimeoutAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		var asked atomic.Int32
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			switch asked.Add(1) {
			case 1:
				io.WriteString(c, ok+"Content-Length: 0\r\n\r\n")
				return true
			case 2:
				time.Sleep(20 * time.Second)
			default:
				io.Copy(io.Discard, c)
			}
			return false
		})}.dial
		if _, err := o.ask(t); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := o.ask(t)
		checkFailure(t, err, outcome.OriginTimeout, true)
		if took := time.Since(start); asked.Load() != 3 || took != 30*time.Second {
			t.Errorf("asked %d times, took %v", asked.Load(), took)
		}
		e := newExchange(o, Outgoing(t.Context(), get(t, "/"), visitor, nil), limit.Permit{})
		time.Sleep(time.Until(e.deadline))
		if e.again() {
			t.Error("sent again when there is no time left")
		}
		o.checkRest(t)
	})
}

// TestRefusedUpload: a server that closes before it has the whole body is not
// blamed for what clients send. If it has answered, most often that is found.
func TestRefusedUpload(t *testing.T) {
	refused := "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!"
	streamed := func() io.Reader { return io.LimitReader(zeroes{}, refusedSize) }
	kept := func() io.Reader { return bytes.NewReader(make([]byte, refusedSize)) }
	t.Run("streamed", func(t *testing.T) { refuseUploads(t, refused, streamed) })
	t.Run("kept", func(t *testing.T) { refuseUploads(t, refused, kept) })
	t.Run("streamed, without an answer", func(t *testing.T) { refuseUploads(t, "", streamed) })
	t.Run("kept, without an answer", func(t *testing.T) { refuseUploads(t, "", kept) })
}

const refusedSize = 8_000_000 // more than the system's buffers take

func refuseUploads(t *testing.T, answer string, body func() io.Reader) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, answer)
			c.Close() // with the rest unread: a reset
		}
	}()
	o := newOrigin(t, Config{Servers: []string{"http://" + l.Addr().String()}})
	answers := 0
	for range 20 {
		in := incoming(t, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", refusedSize))
		resp, err := o.Do(Outgoing(t.Context(), in, visitor, body()), o.acquire(t))
		if err != nil {
			checkFailure(t, err, outcome.OriginFailed, true)
			continue
		}
		if resp.StatusCode == http.StatusRequestEntityTooLarge {
			answers++
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if s := o.State(); s.Servers[0].Failures > 0 || s.OK > 0 || s.Dropped > 0 || !s.Up {
		t.Errorf("%+v", s)
	}
	if answer != "" && answers < 15 {
		t.Errorf("%d answers of 20 were found", answers)
	}
	o.checkRest(t)
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }
