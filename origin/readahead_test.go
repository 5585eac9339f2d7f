package origin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"spillway/edge/outcome"
	"spillway/edge/synctest"
	"spillway/origin/limit"
)

// sends answers requests with a body of n bytes, sent as fast as it is taken.
func sends(n int, fields string) func(net.Conn) {
	return requests(func(c net.Conn, _ *http.Request) bool {
		fmt.Fprintf(c, "%s%sContent-Length: %d\r\n\r\n", ok, fields, n)
		_, err := c.Write(pattern(n))
		return err == nil
	})
}

// pattern is n bytes of which every mistake in order shows.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16 ^ i>>8 ^ i)
	}
	return b
}

// TestSlowVisitor is the reason for all this: a visitor who does not read holds
// neither the permit nor the server.
func TestSlowVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": sends(600<<10, "")}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * patience)
		synctest.Wait()
		checkResult(t, o, limit.OK)
		s := o.State()
		if s.Limit.InFlight != 0 || s.Limit.LongLived != 0 || s.Servers[0].InFlight != 0 {
			t.Errorf("the origin is still held: %+v", s)
		}
		if s.ReadAhead < 600<<10 || s.ReadAhead > 600<<10+chunkSize {
			t.Errorf("%d bytes are held", s.ReadAhead)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, pattern(600<<10)) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		o.checkRest(t)
		resp.Body.Close()
	})
}

// TestOutgrown: a response larger than its read-ahead moves to the long-lived
// ones when its visitor does not keep up.
func TestOutgrown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{ReadAhead: ReadAheadConfig{PerResponse: 128 << 10}})
		o.dial = network{"a": sends(1<<20, "")}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // no deadline ends what is long-lived
		synctest.Wait()
		if s := o.State(); s.Limit.InFlight != 0 || s.Limit.LongLived != 1 || s.ReadAhead != 128<<10 || s.Outgrown != 1 {
			t.Errorf("not as a long-lived exchange: %+v", s)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, pattern(1<<20)) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
		checkResult(t, o, limit.Cancel)
		o.checkRest(t)
		resp.Body.Close()
	})
}

// TestFastVisitor: a visitor who keeps up never makes a response long-lived,
// however large it is.
func TestFastVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{ReadAhead: ReadAheadConfig{PerResponse: 128 << 10}})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", ok, 4<<20)
			for range 64 {
				time.Sleep(10 * time.Millisecond)
				c.Write(make([]byte, 64<<10))
			}
			return true
		})}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != 4<<20 || err != nil {
			t.Errorf("got %d bytes, %v", n, err)
		}
		checkResult(t, o, limit.OK)
		if s := o.State(); s.Outgrown != 0 {
			t.Error("outgrown")
		}
		o.checkRest(t)
		resp.Body.Close()
	})
}

// TestLongLivedFull: without a long-lived place the permit is kept, ends with
// the exchange, and teaches nothing.
func TestLongLivedFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{LongLived: 1, ReadAhead: ReadAheadConfig{PerResponse: 64 << 10}})
		o.dial = network{"a": sends(1<<20, "")}.dial
		first, err1 := o.ask(t)
		time.Sleep(time.Second)
		second, err2 := o.ask(t)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := o.State(); s.Limit.InFlight != 1 || s.Limit.LongLived != 1 || s.Crowded != 1 {
			t.Errorf("%d in flight, %d long-lived, %d crowded", s.Limit.InFlight, s.Limit.LongLived, s.Crowded)
		}
		io.Copy(io.Discard, second.Body)
		first.Body.Close()
		second.Body.Close()
		if s := o.State(); s.Canceled != 2 {
			t.Errorf("results %+v", s)
		}
		o.checkRest(t)
	})
}

// TestCrowdedEnds: a response that has found no long-lived place holds its permit
// for one timeout at most, and takes a place that becomes free before.
func TestCrowdedEnds(t *testing.T) {
	f := func(name string, c ReadAheadConfig, free bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{LongLived: 1, ReadAhead: c})
				o.dial = network{"a": sends(1<<20, "")}.dial
				first, err1 := o.ask(t)
				time.Sleep(time.Second)
				second, err2 := o.ask(t)
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
				time.Sleep(29 * time.Second)
				if s := o.State().Limit; s.InFlight != 1 {
					t.Errorf("%d in flight", s.InFlight)
				}
				if free {
					first.Body.Close()
				}
				time.Sleep(2 * time.Second)
				if s := o.State().Limit; s.InFlight != 0 || s.LongLived != 1 {
					t.Errorf("%d in flight, %d long-lived", s.InFlight, s.LongLived)
				}
				got, err := io.ReadAll(second.Body)
				if !bytes.HasPrefix(pattern(1<<20), got) {
					t.Error("wrong bytes")
				}
				if free {
					checkFailure(t, err, outcome.None, true)
				} else {
					checkFailure(t, err, outcome.OriginSaturated, true)
				}
				first.Body.Close()
				second.Body.Close()
				o.checkRest(t)
			})
		})
	}
	f("large", ReadAheadConfig{PerResponse: 64 << 10}, false)
	f("no memory", ReadAheadConfig{Total: chunkSize}, false)
	f("place becomes free", ReadAheadConfig{PerResponse: 64 << 10}, true)
}

// TestCrowdedStreams: what has no end in sight is refused without a long-lived
// place, or it would hold its permit for ever.
func TestCrowdedStreams(t *testing.T) {
	f := func(answer string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{LongLived: 1})
			o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
				io.WriteString(c, answer)
				io.Copy(io.Discard, c)
				return false
			})}.dial
			ask := func(p limit.Permit) (*http.Response, error) {
				req := Outgoing(t.Context(), get(t, "/"), visitor, nil)
				req.Header["Connection"], req.Header["Upgrade"] = []string{"upgrade"}, []string{"echo"}
				return o.Do(req, p)
			}
			first, err := ask(o.acquire(t))
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				_, err := ask(o.acquire(t))
				checkFailure(t, err, outcome.OriginSaturated, true)
			}
			if s := o.State(); s.Limit.InFlight != 0 || s.Limit.LongLived != 1 || s.Servers[0].InFlight != 1 || s.Servers[0].Failures != 0 {
				t.Errorf("%+v", s)
			}
			free, err := ask(limit.Permit{}) // needs no place
			if err != nil {
				t.Fatal(err)
			}
			free.Body.Close()
			first.Body.Close()
			o.checkRest(t)
		})
	}
	f(ok + "Content-Type: text/event-stream\r\n\r\n")
	f("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
}

// TestStallWhenLongLived: a long-lived response waits for its visitor for as long
// as it takes, but not for the server.
func TestStallWhenLongLived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{ReadAhead: ReadAheadConfig{PerResponse: 64 << 10}})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", ok, 1<<20)
			c.Write(pattern(512 << 10))
			io.Copy(io.Discard, c)
			return false
		})}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		start := time.Now()
		got, err := io.ReadAll(resp.Body)
		if !bytes.Equal(got, pattern(512<<10)) {
			t.Errorf("got %d bytes", len(got))
		}
		if took := time.Since(start); took < 30*time.Second || took > time.Minute {
			t.Errorf("took %v", took)
		}
		checkFailure(t, err, outcome.OriginTimeout, true)
		resp.Body.Close()
		o.checkRest(t)
	})
}

// TestSeparateEnd: the end of a body that fills its chunks exactly comes when
// the last chunk is empty and others may not have been taken yet.
func TestSeparateEnd(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 5), 1, 3).Draw(rt, "chunks")
		piece := rapid.IntRange(chunkSize/8, 3*chunkSize).Draw(rt, "piece")
		take := rapid.IntRange(chunkSize/8, 3*chunkSize).Draw(rt, "take")
		late := time.Duration(rapid.IntRange(0, 3).Draw(rt, "late")) * patience
		pause := time.Duration(rapid.IntRange(0, 2).Draw(rt, "pause")) * patience
		perResponse := rapid.Int64Range(1, 8).Draw(rt, "per response") * chunkSize
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{ReadAhead: ReadAheadConfig{PerResponse: perResponse}})
			o.dial = network{"a": requests(func(c net.Conn, r *http.Request) bool {
				var n int
				fmt.Sscanf(r.URL.Path, "/%d", &n)
				io.WriteString(c, ok+"Transfer-Encoding: chunked\r\n\r\n")
				for rest := pattern(n * chunkSize); len(rest) > 0; {
					m := min(piece, len(rest))
					fmt.Fprintf(c, "%x\r\n%s\r\n", m, rest[:m])
					rest = rest[m:]
				}
				time.Sleep(pause)
				_, err := io.WriteString(c, "0\r\n\r\n")
				return err == nil
			})}.dial
			var wg sync.WaitGroup
			for _, n := range sizes {
				wg.Go(func() {
					resp, err := o.Do(Outgoing(t.Context(), get(t, fmt.Sprintf("/%d", n)), visitor, nil), o.acquire(t))
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					var got bytes.Buffer
					for p := make([]byte, take); err == nil; {
						time.Sleep(late)
						var m int
						m, err = resp.Body.Read(p)
						got.Write(p[:m])
					}
					if err != io.EOF || !bytes.Equal(got.Bytes(), pattern(n*chunkSize)) {
						t.Errorf("got %d of %d bytes, %v", got.Len(), n*chunkSize, err)
					}
				})
			}
			wg.Wait()
			o.checkRest(t)
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// TestNoMemory: when other responses have used the total up, a response goes on
// without reading ahead, and the bound holds.
func TestNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{ReadAhead: ReadAheadConfig{Total: 64 << 10}})
		o.dial = network{"a": sends(1<<20, "")}.dial
		var bodies []io.ReadCloser
		for range 5 {
			resp, err := o.ask(t)
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, resp.Body)
			time.Sleep(2 * patience)
			synctest.Wait()
		}
		if s := o.State(); s.ReadAhead > 64<<10 || s.Limit.InFlight != 0 || s.Limit.LongLived != 5 {
			t.Errorf("%d bytes, %d in flight, %d long-lived", s.ReadAhead, s.Limit.InFlight, s.Limit.LongLived)
		}
		var wg sync.WaitGroup
		for _, body := range bodies {
			wg.Go(func() {
				if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, pattern(1<<20)) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
				body.Close()
			})
		}
		wg.Wait()
		o.checkRest(t)
	})
}

// TestBytesAsTheyCome: nothing waits for a chunk to fill.
func TestBytesAsTheyCome(t *testing.T) {
	f := func(fields string, inFlight, longLived int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
				fmt.Fprintf(c, "%s%sTransfer-Encoding: chunked\r\n\r\n", ok, fields)
				for i := range 5 {
					fmt.Fprintf(c, "1\r\n%d\r\n", i)
					time.Sleep(time.Second)
				}
				io.WriteString(c, "0\r\n\r\n")
				return true
			})}.dial
			resp, err := o.ask(t)
			if err != nil {
				t.Fatal(err)
			}
			start, p := time.Now(), make([]byte, 100)
			for i := range 5 {
				n, err := resp.Body.Read(p)
				if n != 1 || err != nil || p[0] != byte('0'+i) {
					t.Fatalf("byte %d: %q, %v", i, p[:n], err)
				}
				if late := time.Since(start) - time.Duration(i)*time.Second; late != 0 {
					t.Errorf("byte %d came %v late", i, late)
				}
				if s := o.State().Limit; s.InFlight != inFlight || s.LongLived != longLived {
					t.Errorf("%d in flight, %d long-lived", s.InFlight, s.LongLived)
				}
			}
			if n, err := resp.Body.Read(p); n != 0 || err != io.EOF {
				t.Errorf("end: %d, %v", n, err)
			}
			resp.Body.Close()
			o.checkRest(t)
		})
	}
	f("", 1, 0)
	f("Content-Type: text/event-stream\r\n", 0, 1)
	f("Content-Type: Text/Event-Stream; charset=utf-8\r\n", 0, 1)
	f("Content-Type: text/event-streams\r\n", 1, 0)
}

// TestSilentEventStream: an event stream may be silent for longer than any
// timeout.
func TestSilentEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
			io.WriteString(c, ok+"Content-Type: text/event-stream\r\n\r\n")
			time.Sleep(time.Hour)
			io.WriteString(c, "data: x\n\n")
			return false
		})}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); string(got) != "data: x\n\n" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		resp.Body.Close()
		o.checkRest(t)
	})
}

// TestClose gives a body up at each of its stages.
func TestClose(t *testing.T) {
	f := func(name string, serve func(net.Conn), want limit.Result, before func(body io.Reader)) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t, Config{ReadAhead: ReadAheadConfig{PerResponse: 128 << 10}})
				var gone atomic.Bool
				o.dial = network{"a": func(c net.Conn) {
					serve(c)
					_, err := c.Read(make([]byte, 1))
					gone.Store(err != nil)
				}}.dial
				resp, err := o.ask(t)
				if err != nil {
					t.Fatal(err)
				}
				before(resp.Body)
				resp.Body.Close()
				resp.Body.Close()
				if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != http.ErrBodyReadAfterClose {
					t.Errorf("read after close: %d, %v", n, err)
				}
				synctest.Wait()
				if want == limit.Cancel && !gone.Load() {
					t.Error("the server was not told")
				}
				checkResult(t, o, want)
				o.checkRest(t)
			})
		})
	}
	read := func(n int64) func(io.Reader) {
		return func(body io.Reader) { io.CopyN(io.Discard, body, n) }
	}
	large := sends(1<<20, "")
	f("at once", large, limit.Cancel, read(0))
	f("after a read", large, limit.Cancel, read(100))
	f("while the pump waits for the visitor", large, limit.Cancel, func(io.Reader) { time.Sleep(time.Second) })
	f("while the server is silent", requests(func(c net.Conn, _ *http.Request) bool {
		io.WriteString(c, ok+"Content-Length: 9\r\n\r\nabc")
		return true
	}), limit.Cancel, func(io.Reader) { time.Sleep(time.Second) })
	f("when all was read ahead", sends(100<<10, ""), limit.OK, func(io.Reader) { time.Sleep(time.Second) })
	f("event stream", sends(1<<20, "Content-Type: text/event-stream\r\n"), limit.Cancel, read(100))
}

// TestCloseWhileReading: a caller whose visitor leaves closes the body while
// another goroutine waits in Read.
func TestCloseWhileReading(t *testing.T) {
	f := func(wait time.Duration, fields string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{})
			o.dial = network{"a": requests(func(c net.Conn, _ *http.Request) bool {
				io.WriteString(c, ok+fields+"\r\n")
				io.Copy(io.Discard, c)
				return false
			})}.dial
			resp, err := o.ask(t)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(wait)
			time.AfterFunc(time.Second, func() { resp.Body.Close() })
			if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
				t.Errorf("got %d, %v", n, err)
			}
			synctest.Wait()
			checkResult(t, o, limit.Cancel)
			o.checkRest(t)
		})
	}
	f(0, "")
	f(2*patience, "")
	f(0, "Content-Type: text/event-stream\r\n")
}

// TestTruncatedForSlowVisitor: a visitor who reads late gets all that came, and
// the error after it.
func TestTruncatedForSlowVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t, Config{})
		o.dial = network{"a": says(false, ok+"Content-Length: 9\r\n\r\nabc")}.dial
		resp, err := o.ask(t)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		got, err := io.ReadAll(resp.Body)
		if string(got) != "abc" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %q, %v", got, err)
		}
		checkFailure(t, err, outcome.OriginFailed, true)
		resp.Body.Close()
		o.checkRest(t)
	})
}

// TestAnyPace lets several servers and visitors with any pace and memory meet.
// What arrives is what was sent, no bound is exceeded, and nothing stays behind.
func TestAnyPace(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		config := ReadAheadConfig{
			PerResponse: rapid.Int64Range(1, 8).Draw(rt, "per response") * chunkSize,
			Total:       rapid.Int64Range(0, 12).Draw(rt, "total") * chunkSize,
		}
		longLived := rapid.IntRange(1, 3).Draw(rt, "long-lived")
		type plan struct {
			size, sent, piece int
			pause             time.Duration
			visitor           int // size of its reads
			visitorPause      time.Duration
			leaves            int // after that many bytes
		}
		plans := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) plan {
			size := rapid.IntRange(0, 400<<10).Draw(rt, "size")
			p := plan{
				size: size, sent: size, leaves: size + 1,
				piece:        rapid.IntRange(max(1, size/20), max(1, size)).Draw(rt, "piece"),
				pause:        time.Duration(rapid.IntRange(0, 3).Draw(rt, "pause")) * patience / 2,
				visitor:      rapid.IntRange(max(1, size/20), size+10).Draw(rt, "visitor"),
				visitorPause: time.Duration(rapid.IntRange(0, 3).Draw(rt, "visitor pause")) * patience / 2,
			}
			switch rapid.IntRange(0, 3).Draw(rt, "fate") {
			case 0:
				p.sent = rapid.IntRange(0, size).Draw(rt, "sent")
			case 1:
				p.leaves = rapid.IntRange(0, size).Draw(rt, "leaves")
			}
			return p
		}), 1, 5).Draw(rt, "exchanges")

		synctest.Test(t, func(t *testing.T) {
			o := newOrigin(t, Config{ReadAhead: config, LongLived: longLived})
			o.pool.all()[0].link.Load().config.ReadAhead = config // below what newOrigin allows
			o.buffers.total.Store(config.Total)
			o.dial = network{"a": requests(func(c net.Conn, r *http.Request) bool {
				var i int
				fmt.Sscanf(r.URL.Path, "/%d", &i)
				p := plans[i]
				fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", ok, p.size)
				for rest := pattern(p.size)[:p.sent]; len(rest) > 0; {
					n := min(p.piece, len(rest))
					if _, err := c.Write(rest[:n]); err != nil {
						return false
					}
					rest = rest[n:]
					time.Sleep(p.pause)
				}
				return p.sent == p.size
			})}.dial
			var wg sync.WaitGroup
			for i, p := range plans {
				wg.Go(func() {
					resp, err := o.Do(Outgoing(t.Context(), get(t, fmt.Sprintf("/%d", i)), visitor, nil), o.acquire(t))
					if err != nil {
						t.Error(err)
						return
					}
					defer resp.Body.Close()
					var got bytes.Buffer
					for err == nil && got.Len() < p.leaves {
						_, err = io.CopyN(&got, resp.Body, int64(p.visitor))
						time.Sleep(p.visitorPause)
						if used := o.buffers.used.Load(); used > config.Total {
							t.Errorf("%d bytes used of %d", used, config.Total)
						}
					}
					if !bytes.HasPrefix(pattern(p.size), got.Bytes()) || got.Len() < min(p.sent, p.leaves) {
						t.Errorf("exchange %d: wrong body of %d bytes", i, got.Len())
					}
					if err == io.EOF && p.sent < p.size {
						t.Errorf("exchange %d: clean end of a truncated body", i)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Second) // until the last server has woken up
			o.checkRest(t)
			s := o.State()
			if ended := s.OK + s.Dropped + s.Canceled; ended != uint64(len(plans)) {
				t.Errorf("%d permits ended, %d were given", ended, len(plans))
			}
		})
		if t.Failed() {
			rt.FailNow()
		}
	})
}
