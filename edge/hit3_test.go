package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// forever is a max-age that outlasts the decades by which virtual time is off.
const forever = 1 << 31

// A parted3 is a world with hits at /plain/small and /plain/large.
type parted3 struct{ *world }

var largeBody = strings.Repeat("0123456789abcdef", 100<<10/16)

func newParted3(t testing.TB, change func(*edge.Config)) parted3 {
	w := newWorldWith(t, "h3", 4, func(c *edge.Config, _ []edge.RouteConfig) {
		c.Expose, c.HTTP3.FastPath = "outcome", "on"
		change(c)
	})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		body := "kept"
		if r.URL.Path == "/plain/large" {
			body = largeBody
		}
		cacheable(forever, body)(rw, r)
	})
	p, v := parted3{w}, w.visitor
	conn := p.dial(t)
	for _, path := range []string{"/plain/small", "/plain/large"} {
		await(t, "a hit by the name", func() bool { // what is fetched is stored a moment later
			s := open3(t, conn)
			s.Write(appendHeaders(nil, askFor(path)))
			s.Close()
			return strings.HasPrefix(taken3(s), "200 hit ")
		})
		await(t, "a hit by the address", func() bool {
			resp, err := v.Client.Get(v.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp.Header.Get("Spillway") == "hit"
		})
	}
	p.took()
	return p
}

// took returns how many requests took the fast path since the last time, and how many
// the library's.
func (p parted3) took() [2]int64 {
	fast := p.fast.Swap(0)
	return [2]int64{fast, p.arrived.Swap(0) - fast}
}

// dial opens a connection whose streams the test writes.
func (p parted3) dial(t testing.TB) *quic.Conn {
	t.Helper()
	conn := p.node.DialQUIC(t)
	control, err := conn.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	control.Write(appendFrame([]byte{controlStream}, settingsFrame, nil))
	return conn
}

func open3(t testing.TB, conn *quic.Conn) *quic.Stream {
	t.Helper()
	s, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(20 * time.Second)) // only a failing test gets there
	return s
}

// taken3 reads a stream's answer to its end.
func taken3(s *quic.Stream) string {
	b, err := io.ReadAll(s)
	if reset, ok := errors.AsType[*quic.StreamError](err); ok {
		return fmt.Sprintf("reset %#x", uint64(reset.ErrorCode))
	} else if err != nil {
		return err.Error()
	}
	status, fields, body, err := message3(b)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %s %d bytes", status, fields["spillway"], len(body))
}

// TestHits3Visitors: hits take the fast path for the library's own client, whatever their
// size, and have what hits have.
func TestHits3Visitors(t *testing.T) {
	p := newParted3(t, func(*edge.Config) {})
	v := p.visitor
	for range 50 {
		for path, want := range map[string]string{"/plain/small": "kept", "/plain/large": largeBody} {
			resp := v.Get(t, path)
			if got := read(t, resp); got != want || resp.Header.Get("Spillway") != "hit" {
				t.Fatalf("%s: %d bytes, %v", path, len(got), resp.Header)
			}
		}
	}
	// A request's end may come late, and then the library answers.
	if took := p.took(); took[0] == 0 || took[0]+took[1] != 100 {
		t.Errorf("%d took the fast path and the library's", took)
	}
}

// TestHits3Off: the switch leaves all requests to the library.
func TestHits3Off(t *testing.T) {
	p := newParted3(t, func(c *edge.Config) { c.HTTP3.FastPath = "off" })
	if got := read(t, p.visitor.Get(t, "/plain/large")); got != largeBody {
		t.Errorf("%d bytes", len(got))
	}
	if got, want := p.took(), [2]int64{0, 1}; got != want {
		t.Errorf("%d took the fast path and the library's, want %d", got, want)
	}
}

// An ending3 is a way to send a request stream for a hit, what comes of it and how many
// requests go either way.
type ending3 struct {
	name string
	send func(s *quic.Stream)
	want string
	took [2]int64
}

const (
	smallHit = "200 hit 4 bytes"
	largeHit = "200 hit 102400 bytes"
)

// endings3 are the ways. Those that pause do so with pause.
func endings3(pause func()) []ending3 {
	whole := appendHeaders(nil, askFor("/plain/small"))
	other := func(fields []field) func(*quic.Stream) {
		return func(s *quic.Stream) { s.Write(appendHeaders(nil, fields)); s.Close() }
	}
	library, none, fast := [2]int64{0, 1}, [2]int64{}, [2]int64{1, 0}
	return []ending3{
		{"whole", other(askFor("/plain/small")), smallHit, fast},
		{"large", other(askFor("/plain/large")), largeHit, fast},
		{"Chromium", other(chromium("/plain/small")), smallHit, fast},
		{"Firefox", other(firefox("/plain/small")), smallHit, fast},
		{"the end comes late", func(s *quic.Stream) { s.Write(whole); pause(); s.Close() }, smallHit, library},
		{"the header comes in two parts", func(s *quic.Stream) { s.Write(whole[:9]); pause(); s.Write(whole[9:]); s.Close() }, smallHit, library},
		{"with DATA", func(s *quic.Stream) { s.Write(appendFrame(whole, dataFrame, []byte("a"))); s.Close() }, smallHit, library},
		{"with a frame that nobody knows", func(s *quic.Stream) {
			s.Write(append(appendFrame(nil, 0x21, []byte("grease")), whole...))
			s.Close()
		}, smallHit, library},
		{"a frame that nobody knows follows", func(s *quic.Stream) { s.Write(appendFrame(whole, 0x21, nil)); s.Close() }, smallHit, library},
		{"garbage follows", func(s *quic.Stream) { s.Write(append(whole, 0xff)); s.Close() }, smallHit, library},
		{"larger than a glance", other(askFor("/plain/small", "cookie", strings.Repeat("a", 4<<10))), smallHit, library},
		{"HEAD", other(append([]field{{":method", "HEAD"}}, askFor("/plain/small")[1:]...)), "200 hit 0 bytes", library},
		{"a part", other(askFor("/plain/small", "range", "bytes=0-0")), "206 hit 1 bytes", library},
		{"malformed", other(askFor("/plain/small", "connection", "close")), "reset 0x10e", none},
		{"no field section", func(s *quic.Stream) { s.Write(appendFrame(nil, headersFrame, []byte{1, 2, 3})); s.Close() }, "reset 0x200", none},
		{"nothing", func(s *quic.Stream) { s.Close() }, "reset 0x10d", none},
		{"given up", func(s *quic.Stream) { s.Write(whole[:9]); s.CancelWrite(0x10c) }, "reset 0x10d", none},
	}
}

// TestHits3Endings: whatever way a request comes, it is answered as http3 would have
// it. Those that came whole take the fast path, and nobody waits for the others.
func TestHits3Endings(t *testing.T) {
	p := newParted3(t, func(*edge.Config) {})
	conn := p.dial(t)
	ask := func() string {
		s := open3(t, conn)
		s.Write(appendHeaders(nil, askFor("/plain/small")))
		s.Close()
		return taken3(s)
	}
	paused := false
	for _, e := range endings3(func() {
		paused = true
		if got := ask(); got != smallHit {
			t.Errorf("another stream: %s", got)
		}
	}) {
		var took [2]int64
		for range 100 { // the end may be late by chance
			s := open3(t, conn)
			e.send(s)
			if got := taken3(s); got != e.want {
				t.Errorf("%s: got %q, want %q", e.name, got, e.want)
			}
			took = p.took()
			if paused && took[0]+took[1] == 2 && took[1] > 0 { // that of the pause among them
				took = e.took
			}
			paused = false
			if took == e.took {
				break
			}
		}
		if took != e.took {
			t.Errorf("%s: %d took the fast path and the library's, want %d", e.name, took, e.took)
		}
	}
	if got := ask(); got != smallHit {
		t.Errorf("after all: %s", got)
	}
	await(t, "nothing in flight", func() bool { return p.server.InFlight() == 0 })
}

// TestHits3Priority: of two large hits that share a narrow window the urgent one is
// there first.
func TestHits3Priority(t *testing.T) {
	p := newParted3(t, func(*edge.Config) {})
	conn := p.node.DialQUICWith(t, &quic.Config{
		InitialStreamReceiveWindow: 1 << 20, MaxStreamReceiveWindow: 1 << 20,
		InitialConnectionReceiveWindow: 16 << 10, MaxConnectionReceiveWindow: 16 << 10,
	})
	streams := map[string]*quic.Stream{}
	p.took()
	for _, said := range []string{"u=7", "u=1"} {
		s := open3(t, conn)
		s.Write(appendHeaders(nil, askFor("/plain/large", "priority", said)))
		s.Close()
		streams[said] = s
		if said == "u=7" {
			s.Read(make([]byte, 1)) // it fills the window
		}
	}
	await(t, "both requests", func() bool { return p.arrived.Load() == 2 })
	// One reader takes all that there is of the urgent one, and then a little of the other,
	// which is all that there is of that.
	urgent, other := streams["u=1"], streams["u=7"]
	for taken := 0; ; {
		urgent.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, err := io.Copy(io.Discard, urgent); err == nil {
			break
		} else if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		other.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, err := other.Read(make([]byte, 1<<10))
		if taken += n; taken > len(largeBody)/2 || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d bytes of the other before the urgent one was there: %v", taken, err)
		}
	}
}

// TestHits3Order: large hits of which nothing is said take turns, unless the visitor has
// said of another request, that is none, what is urgent. Then they come one after the other
// (RFC 9218 section 10): the first to its end, though nobody takes the second.
func TestHits3Order(t *testing.T) {
	for _, said := range [][]string{nil, {"priority", "u=1"}} {
		t.Run(fmt.Sprint(len(said) > 0), func(t *testing.T) {
			p := newParted3(t, func(*edge.Config) {})
			conn := p.node.DialQUICWith(t, &quic.Config{
				InitialStreamReceiveWindow: 1 << 20, MaxStreamReceiveWindow: 1 << 20,
				InitialConnectionReceiveWindow: 16 << 10, MaxConnectionReceiveWindow: 16 << 10,
			})
			head := open3(t, conn)
			head.Write(appendHeaders(nil, append([]field{{":method", "HEAD"}}, askFor("/plain/small", said...)[1:]...)))
			head.Close()
			if got := taken3(head); got != "200 hit 0 bytes" {
				t.Fatal(got)
			}
			ask := func() (s *quic.Stream) {
				for p.took(); p.fast.Load() == 0; { // the end may be late by chance
					if s != nil {
						s.CancelRead(0x10c)
					}
					p.took()
					s = open3(t, conn)
					s.Write(appendHeaders(nil, askFor("/plain/large")))
					s.Close()
					await(t, "the request", func() bool { return p.arrived.Load() == 1 })
				}
				return s
			}
			first := ask()
			io.ReadFull(first, make([]byte, 2<<10)) // of the body, which fills the window
			second := ask()
			taken := make(chan int64, 1)
			go func() {
				n, _ := io.Copy(io.Discard, first)
				taken <- n
			}()
			if len(said) > 0 {
				if n := <-taken; n < 98<<10 {
					t.Errorf("%d bytes of the first, while nobody takes the second", n)
				}
			} else if _, err := second.Read(make([]byte, 1)); err != nil || len(taken) > 0 {
				t.Errorf("the second has to wait for the first: %v", err)
			}
		})
	}
}

// TestHits3Leave: over a hand-over and a shutdown every request is answered or rejected
// for another try, hits like all others.
func TestHits3Leave(t *testing.T) {
	eachWay(t, func(t *testing.T, leave departure) {
		t.Parallel()
		p := newParted3(t, func(*edge.Config) {})
		var begun sync.WaitGroup
		var asking sync.WaitGroup
		var answered atomic.Int64
		var conns []*quic.Conn
		for range 8 { // before anybody asks, who could fail the test when it is over
			conns = append(conns, p.dial(t))
		}
		for i, conn := range conns {
			begun.Add(1)
			first := sync.OnceFunc(begun.Done)
			asking.Go(func() {
				defer first()
				for n := 0; ; n++ {
					s, err := conn.OpenStreamSync(t.Context())
					if err != nil {
						break
					}
					path, want := "/plain/small", smallHit
					if (i+n)%5 == 0 {
						path, want = "/plain/large", largeHit
					}
					s.SetDeadline(time.Now().Add(20 * time.Second))
					s.Write(appendHeaders(nil, askFor(path)))
					s.Close()
					if got := taken3(s); got == "reset 0x10b" { // H3_REQUEST_REJECTED
						break
					} else if got != want {
						t.Errorf("request %d of %d: %s", n, i, got)
					}
					answered.Add(1)
					first()
					time.Sleep(time.Millisecond)
				}
			})
		}
		begun.Wait()
		done := leave(t.Context(), p.node)
		asking.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if p.fast.Load() == 0 {
			t.Error("none of them took the fast path")
		}
		t.Logf("%d answered, %d of them fast", answered.Load(), p.fast.Load())
	})
}

// TestHits3Panic: a panic costs its stream only, and is logged.
func TestHits3Panic(t *testing.T) {
	var log bytes.Buffer
	s := edgetest.New(edge.Panicky{Handler: http.HandlerFunc(echoProto)})
	s.Config.Limits.Streams, s.Config.HTTP3.FastPath, s.Config.HTTP1.FastPath = 1, "on", "off"
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	n := s.Start(t)
	conn := n.DialQUIC(t)
	for range 3 {
		// One whose end came late is not looked at.
		str := open3(t, conn)
		str.Write(appendHeaders(nil, askFor("/")))
		str.Close()
		if got := taken3(str); got != "reset 0x102" && !strings.HasPrefix(got, "200") { // H3_INTERNAL_ERROR
			t.Error(got)
		}
	}
	if got := read(t, n.Visitor(t, "h1").Get(t, "/")); !strings.HasPrefix(got, "HTTP/1.1") {
		t.Errorf("got %q", got)
	}
	n.Stop(t)
	if strings.Count(log.String(), "http3: panic serving") != 1 {
		t.Errorf("the log says %q", &log)
	}
}

// BenchmarkHits3 is a hit over HTTP/3 with the client's part, whatever answers it.
func BenchmarkHits3(b *testing.B) {
	for _, fast := range []string{"on", "off"} {
		for _, path := range []string{"/plain/small", "/plain/large"} {
			b.Run(fast+path, func(b *testing.B) {
				p := newParted3(b, func(c *edge.Config) { c.HTTP3.FastPath = fast })
				conn := p.dial(b)
				ask := appendHeaders(nil, askFor(path))
				buf := make([]byte, 64<<10)
				b.ReportAllocs()
				for b.Loop() {
					s, err := conn.OpenStream()
					if err != nil {
						s = open3(b, conn)
					}
					s.Write(ask)
					s.Close()
					for err = nil; err == nil; {
						_, err = s.Read(buf)
					}
					if err != io.EOF {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
