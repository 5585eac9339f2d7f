package origin

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge/outcome"
	"spillway/origin/limit"
)

// A frames is a server of HTTP/2 that says anything.
type frames struct {
	*http2.Framer
	c     net.Conn
	text  bytes.Buffer
	hpack *hpack.Encoder

	writing sync.Mutex // held while a frame is answered
}

// speaks returns a server that calls answer for the header of each request, on
// the same connection until it returns false. settings are sent first.
func speaks(answer func(f *frames, stream uint32) bool, settings ...http2.Setting) func(net.Conn) {
	return func(c net.Conn) {
		f := &frames{Framer: http2.NewFramer(c, c), c: c}
		f.hpack = hpack.NewEncoder(&f.text)
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f.WriteSettings(settings...)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if !f.react(frame, answer) {
				return
			}
		}
	}
}

func (f *frames) react(frame http2.Frame, answer func(f *frames, stream uint32) bool) bool {
	f.writing.Lock()
	defer f.writing.Unlock()
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			f.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			f.WritePing(true, frame.Data)
		}
	case *http2.HeadersFrame:
		return answer(f, frame.StreamID)
	}
	return true
}

// head sends a header of names and values.
func (f *frames) head(stream uint32, end bool, fields ...string) {
	f.text.Reset()
	for i := 0; i < len(fields); i += 2 {
		f.hpack.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	rest := f.text.Bytes()
	first := rest[:min(len(rest), 16<<10)]
	rest = rest[len(first):]
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
	for len(rest) > 0 {
		piece := rest[:min(len(rest), 16<<10)]
		rest = rest[len(piece):]
		if f.WriteContinuation(stream, len(rest) == 0, piece) != nil {
			return
		}
	}
}

// listenFrames makes a server of frames reachable. A pipe would not do: it blocks
// while both sides write.
func listenFrames(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { l.Close() })
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	return "h2c://" + l.Addr().String()
}

// TestBrokenHTTP2 asks servers of HTTP/2 that break off or break the rules.
func TestBrokenHTTP2(t *testing.T) {
	f := func(name, body string, inHead bool, result limit.Result, answer func(f *frames, stream uint32) bool) {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, Config{Servers: []string{listenFrames(t, speaks(answer))}})
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
			checkResult(t, o, result)
			o.checkRest(t)
			o.retire()
		})
	}
	f("reset before the head", "", true, limit.Drop, func(f *frames, id uint32) bool {
		f.WriteRSTStream(id, http2.ErrCodeInternal)
		return true
	})
	f("reset in the middle", "abc", false, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, false, ":status", "200")
		f.WriteData(id, false, []byte("abc"))
		f.WriteRSTStream(id, http2.ErrCodeInternal)
		return true
	})
	f("reset without a reason", "abc", false, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, false, ":status", "200")
		f.WriteData(id, false, []byte("abc"))
		f.WriteRSTStream(id, http2.ErrCodeNo)
		return true
	})
	f("connection closed in the middle", "abc", false, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, false, ":status", "200")
		f.WriteData(id, false, []byte("abc"))
		return false
	})
	f("shorter than its length", "abc", false, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, false, ":status", "200", "content-length", "9")
		f.WriteData(id, true, []byte("abc"))
		return true
	})
	f("longer than its length", "ab", false, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, false, ":status", "200", "content-length", "2")
		f.WriteData(id, true, []byte("abcdef"))
		return true
	})
	f("GOAWAY that takes the request back in the middle", "abc", false, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, false, ":status", "200")
		f.WriteData(id, false, []byte("abc"))
		f.WriteGoAway(0, http2.ErrCodeInternal, nil)
		return false
	})
	f("status 99", "", true, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, true, ":status", "99")
		return true
	})
	f("no status", "", true, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, true, "x-a", "1")
		return true
	})
	f("line break in a value", "", true, limit.Drop, func(f *frames, id uint32) bool {
		f.head(id, true, ":status", "200", "x-a", "1\r\nx-evil: 1")
		return true
	})
	f("data before the head", "", true, limit.Drop, func(f *frames, id uint32) bool {
		f.WriteData(id, true, []byte("abc"))
		return true
	})
	f("huge head", "", true, limit.Drop, func(f *frames, id uint32) bool {
		fields := []string{":status", "200"}
		for i := range 400 {
			fields = append(fields, fmt.Sprint("x-", i), strings.Repeat("x", 1000))
		}
		f.head(id, true, fields...)
		return true
	})
	f("not HTTP/2", "", true, limit.Drop, func(f *frames, id uint32) bool {
		io.WriteString(f.c, ok+"Content-Length: 3\r\n\r\nabc"+strings.Repeat(" ", 100))
		return true
	})
}

// TestGoAway: what a server has not processed when it says good-bye goes out
// again on a new connection, and what it has ends on the old one.
func TestGoAway(t *testing.T) {
	second := make(chan struct{})
	var connections atomic.Int32
	server := listenFrames(t, func(c net.Conn) {
		if connections.Add(1) > 1 {
			speaks(func(f *frames, id uint32) bool {
				f.head(id, false, ":status", "200")
				f.WriteData(id, true, []byte("again"))
				return true
			})(c)
			return
		}
		speaks(func(f *frames, id uint32) bool {
			if id == 1 {
				f.head(id, false, ":status", "200")
				f.WriteData(id, false, []byte("be"))
				return true
			}
			f.WriteGoAway(1, http2.ErrCodeNo, nil)
			<-second
			f.WriteData(1, true, []byte("gun"))
			return true
		})(c)
	})
	o := newOrigin(t, Config{Servers: []string{server}})
	first, err := o.ask(t)
	if err != nil {
		t.Fatal(err)
	}
	// Else the server waits for them for ever.
	goOn := sync.OnceFunc(func() { close(second) })
	defer goOn()
	defer first.Body.Close()
	resp, err := o.ask(t)
	if got := bodyOf(t, resp, err); got != "again" {
		t.Errorf("got %q", got)
	}
	goOn()
	if got := bodyOf(t, first, nil); got != "begun" {
		t.Errorf("got %q", got)
	}
	o.checkRest(t)
	o.retire()
}

// TestTakenBack: what a server takes back goes to another one, or to the same when
// there is no other: once, and if the retry budget allows it.
func TestTakenBack(t *testing.T) {
	goAway := func(f *frames, _ uint32) { f.WriteGoAway(0, http2.ErrCodeNo, nil) }
	refuse := func(f *frames, id uint32) { f.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
	f := func(name string, budget float64, another bool, most int32, answer func(*frames, uint32)) {
		t.Run(name, func(t *testing.T) {
			var asked, open atomic.Int32
			serve := speaks(func(f *frames, id uint32) bool {
				asked.Add(1)
				answer(f, id)
				return true
			})
			o := newOrigin(t, Config{RetryBudget: budget, Servers: []string{listenFrames(t, func(c net.Conn) {
				open.Add(1)
				defer open.Add(-1)
				serve(c)
			})}})
			if another {
				well, _ := serverOf(t, "http", echoes)
				o.reconfigure(t, func(c *Config) { c.Servers = append(c.Servers, well) })
				o.pool.named(well).inFlight.Store(1) // the busier one
				defer o.pool.named(well).inFlight.Store(0)
			}
			resp, err := o.ask(t)
			if another {
				bodyOf(t, resp, err)
			} else {
				checkFailure(t, err, outcome.OriginFailed, true)
				checkResult(t, o, limit.Drop)
			}
			if asked.Load() != most || o.pool.all()[0].failures.Load() != 1 {
				t.Errorf("asked %d times, %+v", asked.Load(), o.State())
			}
			for open.Load() > 0 { // the last one is idle as soon as the transport has given up
				o.retire()
				runtime.Gosched()
			}
		})
	}
	f("all connections", .2, false, 2, goAway)
	f("all connections, no budget", -1, false, 1, goAway)
	f("all streams, no budget", -1, false, 1, refuse)
	f("all streams", .2, false, 2, refuse)
	f("all connections, another server", .2, true, 1, goAway)
	f("all streams, another server", .2, true, 1, refuse)
}

// TestManyStreams: requests beyond what a server takes on one connection go over
// others, and none fails.
func TestManyStreams(t *testing.T) {
	const n = 20
	var connections atomic.Int32
	var here sync.WaitGroup
	here.Add(n)
	server := listenFrames(t, func(c net.Conn) {
		connections.Add(1)
		var answers sync.WaitGroup
		defer answers.Wait()
		speaks(func(f *frames, id uint32) bool {
			here.Done()
			f.head(id, false, ":status", "200")
			answers.Go(func() {
				here.Wait() // all are in flight at once
				f.writing.Lock()
				defer f.writing.Unlock()
				f.WriteData(id, true, []byte("abc"))
			})
			return true
		}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 4})(c)
	})
	o := newOrigin(t, Config{Servers: []string{server}})
	var wg sync.WaitGroup
	for range n {
		// The header comes behind the settings: without it more than four requests would
		// be sent before they are known.
		resp, err := o.Do(Outgoing(t.Context(), get(t, "/"), visitor, nil), o.acquire(t))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { bodyOf(t, resp, nil) })
	}
	wg.Wait()
	if got := connections.Load(); got < n/4 {
		t.Errorf("%d connections for %d requests of which one takes 4", got, n)
	}
	o.checkRest(t)
	o.retire()
}
