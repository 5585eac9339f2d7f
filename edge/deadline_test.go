package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge"
	"spillway/edge/edgetest"
	"spillway/edge/synctest"
)

// drip gives a piece per interval, of one byte unless told.
type drip struct {
	left     int
	interval time.Duration
	piece    int
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.interval)
	d.left--
	n := min(max(d.piece, 1), len(p))
	clear(p[:n])
	return n, nil
}

// stall gives one byte and then nothing until it is closed.
type stall struct {
	given  bool
	closed chan struct{}
}

func (s *stall) Read(p []byte) (int, error) {
	if !s.given {
		s.given = true
		p[0] = 'x'
		return 1, nil
	}
	<-s.closed
	return 0, io.ErrUnexpectedEOF
}

func TestDeadlineProgressingUploadSurvives(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		// 140 s in all, several times each timeout, with pauses, and faster than the
		// least rate.
		resp, err := v.Post(v.URL, "text/plain", &drip{left: 20, interval: 7 * time.Second, piece: 8 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "163840 <nil>" {
			t.Errorf("got %q", got)
		}
	})
}

// A byte now and then is progress, and would keep a request for ever.
func TestDeadlineTrickledUploadIsCut(t *testing.T) {
	var took atomic.Int64
	h := func(_ http.ResponseWriter, r *http.Request) {
		start := time.Now()
		if _, err := io.Copy(io.Discard, r.Body); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the handler saw %v, want a deadline", err)
		}
		took.Store(int64(time.Since(start)))
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		took.Store(0)
		body := &drip{left: 12, interval: 5 * time.Second, piece: 100}
		go func() {
			if v.Proto == "h1" { // net/http's client waits for the body with a lock, which virtual time does not pass
				conn, err := v.Node.DialTLS(t, "http/1.1")
				if err != nil {
					t.Error(err)
					return
				}
				go io.Copy(io.Discard, conn)
				fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 1200\r\n\r\n", edgetest.Host)
				io.Copy(conn, body)
				return
			}
			resp, err := v.Post(v.URL, "text/plain", body)
			if err == nil {
				resp.Body.Close()
			}
		}()
		time.Sleep(2 * time.Minute)
		if took := time.Duration(took.Load()); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("cut after %s, want little more than 30s", took)
		}
	})
}

// Two who talk as they like are cut only when nothing moves for their own limit.
func TestDeadlinePatient(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		edge.Patient(w, 2*time.Minute)
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		resp, err := v.Post(v.URL, "text/plain", &drip{left: 5, interval: 100 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "5 <nil>" {
			t.Errorf("got %q", got)
		}
	})
}

func TestDeadlineStalledUploadIsCut(t *testing.T) {
	type end struct {
		err   error
		after time.Duration
	}
	var got atomic.Pointer[end]
	h := func(_ http.ResponseWriter, r *http.Request) {
		start := time.Now()
		_, err := io.Copy(io.Discard, r.Body)
		got.Store(&end{err, time.Since(start)})
		time.Sleep(20 * time.Second) // it was cut once all the same
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		body := &stall{closed: make(chan struct{})}
		go func() {
			resp, err := v.Post(v.URL, "text/plain", body)
			if err == nil {
				resp.Body.Close()
			}
		}()
		time.Sleep(time.Minute)
		close(body.closed)
		got := got.Load()
		if !errors.Is(got.err, os.ErrDeadlineExceeded) {
			t.Errorf("the handler saw %v, want a deadline", got.err)
		}
		if got.after < 30*time.Second || got.after > 35*time.Second {
			t.Errorf("cut after %s, want about 30s", got.after)
		}
		synctest.Wait()
		if n := v.Node.Listeners.State().Stalls; n != 1 {
			t.Errorf("%d stalls counted, want 1", n)
		}
	})
}

// A handler that works, or waits for its origin, makes no progress either. It
// must not be cut for that.
func TestDeadlineSlowHandlerSurvives(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 1)
		io.ReadFull(r.Body, b)
		time.Sleep(2 * time.Minute)
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
		http.NewResponseController(w).Flush()
		time.Sleep(2 * time.Minute)
		fmt.Fprint(w, " end")
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		resp, err := v.Post(v.URL, "text/plain", io.MultiReader(&drip{left: 10}))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, resp); got != "9 <nil> end" {
			t.Errorf("got %q", got)
		}
	})
}

func TestDeadlineSlowDownloadSurvivesStalledIsCut(t *testing.T) {
	const size = 6 << 20 // Go's HTTP/2 client takes 4 MiB unread
	type end struct {
		n   int
		err error
		at  time.Time
	}
	var got atomic.Pointer[end]
	h := func(w http.ResponseWriter, _ *http.Request) {
		n, err := w.Write(make([]byte, size))
		got.Store(&end{n, err, time.Now()})
	}
	s := edgetest.New(http.HandlerFunc(h))
	s.RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		// 128 KiB every 10 s are 8 minutes in all and above the least rate.
		resp := v.Get(t, "/")
		for {
			if _, err := io.CopyN(io.Discard, resp.Body, 128<<10); err != nil {
				break
			}
			time.Sleep(10 * time.Second)
		}
		resp.Body.Close()
		if got := got.Load(); got == nil || got.n != size || got.err != nil {
			t.Errorf("slow visitor: %+v", got)
		}

		resp = v.Get(t, "/")
		defer resp.Body.Close()
		start := time.Now()
		time.Sleep(time.Minute) // and read nothing
		got := got.Load()
		if got.err == nil {
			t.Fatalf("a visitor who reads nothing took %d bytes", got.n)
		}
		if took := got.at.Sub(start); took < 30*time.Second || took > 40*time.Second {
			t.Errorf("cut after %s, want about 30s", took)
		}
	})
}

// dial opens a bare HTTP/3 connection.
func dial(t *testing.T, n *edgetest.Node) *quic.Conn {
	t.Helper()
	// It pings, so that only the node may find it idle.
	conn, err := n.Dial(t, &quic.Config{KeepAlivePeriod: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// closedAfter returns how long a connection that the client pings lasts.
func closedAfter(t *testing.T, conn *quic.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	<-conn.Context().Done()
	var app *quic.ApplicationError
	if err := context.Cause(conn.Context()); !errors.As(err, &app) || app.ErrorCode != quic.ApplicationErrorCode(http3.ErrCodeNoError) {
		t.Errorf("closed with %v, want H3_NO_ERROR", err)
	}
	return time.Since(start)
}

func TestDeadlineHeaders(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn := dial(t, n)
		str, err := conn.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		// A HEADERS frame of 100 bytes, of which 3 come, and one more every
		// second.
		str.Write([]byte{0x01, 0x40, 0x64, 0, 0, 0xd1})
		var dripping sync.WaitGroup
		dripping.Go(func() {
			for conn.Context().Err() == nil {
				str.Write([]byte{0xd1})
				time.Sleep(time.Second)
			}
		})
		defer dripping.Wait()
		if after := closedAfter(t, conn); after < 9*time.Second || after > 12*time.Second {
			t.Errorf("closed after %s, want about 10s", after)
		}
		if s := n.Listeners.State(); s.HeaderTimeouts != 1 || s.IdleTimeouts != 0 {
			t.Errorf("state %+v, want one header timeout", s)
		}
	})
}

func TestDeadlineIdle(t *testing.T) {
	edgetest.New(http.HandlerFunc(echoProto)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn := dial(t, n)
		cc := new(http3.Transport).NewClientConn(conn)
		for range 3 { // each request starts the time anew
			r, _ := http.NewRequest(http.MethodGet, n.URL(), nil)
			resp, err := cc.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			read(t, resp)
			time.Sleep(15 * time.Second)
		}
		// The client's pings do not count.
		if after := closedAfter(t, conn); after < 4*time.Second || after > 7*time.Second {
			t.Errorf("closed %s after the last request, want about 20s", 15*time.Second+after)
		}
		if s := n.Listeners.State(); s.IdleTimeouts != 1 || s.HeaderTimeouts != 0 {
			t.Errorf("state %+v, want one idle timeout", s)
		}
	})
}

// A visitor who waits for an answer for longer than the idle timeout is not
// idle, though nothing moves.
func TestDeadlineLongPollSurvives(t *testing.T) {
	origin := edgetest.NewOrigin(1, 5*time.Minute, 0)
	edgetest.New(origin).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		if got := read(t, v.Get(t, "/late")); got != "/late" {
			t.Errorf("got %q", got)
		}
	})
}

// A visitor who does not take even a small answer: the protocol keeps it back
// until the handler has returned, and no handler is there to be cut.
func TestDeadlineAfterTheHandlerH3(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
			return
		}
		w.Write(make([]byte, 3000))
	}
	edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn, err := n.Dial(t, &quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1, KeepAlivePeriod: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		cc := new(http3.Transport).NewClientConn(conn)
		send := func(path string) *http3.RequestStream {
			str, err := cc.OpenRequestStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r, _ := http.NewRequest(http.MethodGet, n.URL()+path, nil)
			if err := str.SendRequestHeader(r); err != nil {
				t.Fatal(err)
			}
			return str
		}
		send("/wait") // keeps the connection from being idle
		str := send("/")
		time.Sleep(45 * time.Second)
		if err := context.Cause(conn.Context()); err != nil {
			t.Fatalf("the connection is closed: %v", err)
		}
		var reset *quic.StreamError
		if _, err := str.ReadResponse(); !errors.As(err, &reset) || !reset.Remote {
			t.Errorf("error %v, want a reset", err)
		}
	})
}

func TestDeadlineAfterTheHandlerH2(t *testing.T) {
	h := func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 3000)) }
	edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn, err := n.DialTLS(t, "h2")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, http2.ClientPreface)
		f := http2.NewFramer(conn, conn)
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		var header bytes.Buffer
		enc := hpack.NewEncoder(&header)
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", edgetest.Host}, {":path", "/"}} {
			enc.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndStream: true, EndHeaders: true})
		start := time.Now()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatalf("read frame: %v", err)
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					f.WriteSettingsAck()
				}
			case *http2.PingFrame:
				f.WritePing(true, frame.Data)
			case *http2.RSTStreamFrame:
				if took := time.Since(start); took < 30*time.Second || took > 61*time.Second {
					t.Errorf("given up after %s", took)
				}
				return
			}
		}
	})
}

func TestDeadlineDrain(t *testing.T) {
	origin := edgetest.NewOrigin(10, 10*time.Second, 0)
	edgetest.New(origin).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		idle := v.Node.Visitor(t, v.Proto)
		go func() { read(t, idle.Get(t, "/idle")) }()
		time.Sleep(15 * time.Second) // the idle one has its answer

		answer := ask(v.Client, v.URL+"/flight")
		time.Sleep(time.Second)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := v.Node.Listeners.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		// 9 s are left of the request, and 5 s of quiet for a client that does
		// not close its connection.
		if took := time.Since(start); took < 9*time.Second || took > 17*time.Second {
			t.Errorf("shutdown took %s", took)
		}
		if got := <-answer; got != "/flight" {
			t.Errorf("request in flight: %q", got)
		}
	})
}

// Half a header is bounded on a connection too that has something else to do.
func TestDeadlineHeaderBesideARequest(t *testing.T) {
	edgetest.New(&hanger{}).Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn := dial(t, n)
		cc := new(http3.Transport).NewClientConn(conn)
		hanging, err := cc.OpenRequestStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest(http.MethodGet, n.URL()+"/hang", nil)
		if err := hanging.SendRequestHeader(r); err != nil {
			t.Fatal(err)
		}
		str, err := conn.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		str.Write([]byte{0x01, 0x40, 0x64, 0, 0, 0xd1})
		str.SetReadDeadline(start.Add(time.Minute))
		var reset *quic.StreamError
		if _, err := str.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.ErrorCode != quic.StreamErrorCode(http3.ErrCodeRequestIncomplete) {
			t.Errorf("got %v, want H3_REQUEST_INCOMPLETE", err)
		}
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("cut after %s, want about 10s", took)
		}
		if err := context.Cause(conn.Context()); err != nil {
			t.Errorf("the connection is closed: %v", err)
		}
	})
}

// Who takes a byte now and then is not served for ever, whatever the protocol.
func TestDeadlineTrickledDownloadIsCut(t *testing.T) {
	var took atomic.Int64
	h := func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		took.Store(int64(time.Since(start)))
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		took.Store(0)
		resp := v.Get(t, "/")
		defer resp.Body.Close()
		for range 20 {
			time.Sleep(10 * time.Second)
			resp.Body.Read(make([]byte, 1))
		}
		if took := time.Duration(took.Load()); took < 30*time.Second || took > 150*time.Second {
			t.Errorf("cut after %s", took)
		}
	})
}

// Idle connections make room for others, those first that are idle for longest.
func TestDeadlineIdleMakesRoom(t *testing.T) {
	setup := edgetest.New(&hanger{})
	setup.Admit.Connections = 8
	for _, proto := range edgetest.Protocols {
		t.Run(proto, func(t *testing.T) {
			setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
				for range 7 {
					read(t, n.Visitor(t, proto).Get(t, "/"))
					time.Sleep(time.Second)
				}
				// Half of the last quarter is taken, which leaves half of the 20 s.
				time.Sleep(6 * time.Second)
				// One is enough. HTTP/2 takes a second to end, in which the next may be due.
				s := n.Listeners.State()
				if left := s.TCP + s.QUIC; left < 5 || left > 6 || s.Crowded < 1 || s.Crowded > 2 {
					t.Errorf("state %+v, want 6 connections left and one closed", s)
				}
			})
		})
	}
}

// inParallel asks for paths at once, each with its priority, and reads each answer
// to its end at a rate in bytes per second. It returns how many bytes of each came.
func inParallel(t *testing.T, client *http.Client, url string, paths []string, priority func(i int) string, rate int) []int64 {
	t.Helper()
	got := make([]int64, len(paths))
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			r, err := http.NewRequest(http.MethodGet, url+path, nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Priority", priority(i))
			resp, err := client.Do(r)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			defer resp.Body.Close()
			for err == nil {
				var n int64
				n, err = io.CopyN(io.Discard, resp.Body, int64(rate))
				got[i] += n
				time.Sleep(time.Second)
			}
		})
	}
	all.Wait()
	return got
}

// Priorities of RFC 9218 for inParallel: all share, or each eighth of thirty comes
// before the next.
func sideBySide(int) string         { return "i" }
func oneAfterTheOther(i int) string { return fmt.Sprintf("u=%d", i*8/30) }

// narrow is a visitor who gives each stream a window of 16 KiB.
func narrow(t *testing.T, n *edgetest.Node, proto string) *http.Client {
	const window = 16 << 10
	if proto == "h3" {
		tr := &http3.Transport{Dial: func(context.Context, string, *tls.Config, *quic.Config) (*quic.Conn, error) {
			return n.Dial(t, &quic.Config{InitialStreamReceiveWindow: window, MaxStreamReceiveWindow: window})
		}}
		t.Cleanup(func() { tr.Close() })
		return &http.Client{Transport: tr}
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return n.DialTLS(t, "h2") }
	return h2Over(t, dial, &http.HTTP2Config{MaxReceiveBufferPerStream: window})
}

// h2Over is a visitor who speaks HTTP/2 over connections of the test's own.
func h2Over(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), c *http.HTTP2Config) *http.Client {
	tr := &http.Transport{DialTLSContext: dial, Protocols: new(http.Protocols), HTTP2: c}
	tr.Protocols.SetHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// h2Client is the TLS configuration of a visitor who speaks HTTP/2.
func h2Client(n *edgetest.Node) *tls.Config {
	c := n.Client.Clone()
	c.NextProtos = []string{"h2"}
	return c
}

// shared are the protocols with many requests on one connection.
var shared = []string{"h2", "h3"}

// A body answers every request with so many bytes.
type body int

func (b body) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, b)) }

// Ten downloads share what the network gives: each is slower than the least rate.
func TestDeadlineParallelDownloadsSurvive(t *testing.T) {
	const size = 512 << 10
	paths := make([]string, 10)
	for i := range paths {
		paths[i] = fmt.Sprint("/", i)
	}
	for _, proto := range shared {
		t.Run(proto, func(t *testing.T) {
			edgetest.New(body(size)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				for i, got := range inParallel(t, narrow(t, n, proto), n.URL(), paths, sideBySide, 4<<10) {
					if got != size {
						t.Errorf("%s: got %d bytes of %d", paths[i], got, size)
					}
				}
				if stalls := n.Listeners.State().Stalls; stalls != 0 {
					t.Errorf("%d stalls", stalls)
				}
			})
		})
	}
}

// A slowConn is a connection over a slow network.
type slowConn struct {
	net.Conn
	rate int // bytes per second
}

func (c slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:min(len(b), 16<<10)])
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// A page of pictures over 1 Mbit/s takes four minutes. One after the other, by
// their priorities, the last does not move until then.
func TestDeadlinePageOfPicturesSurvives(t *testing.T) {
	const size = 1 << 20
	paths := make([]string, 30)
	for i := range paths {
		paths[i] = fmt.Sprint("/picture/", i)
	}
	for name, priority := range map[string]func(int) string{"side by side": sideBySide, "one after the other": oneAfterTheOther} {
		t.Run(name, func(t *testing.T) {
			edgetest.New(body(size)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				const rate = 125_000
				dial := func(context.Context, string, string) (net.Conn, error) {
					conn, err := n.DialTLS(t, "h2")
					if err != nil {
						return nil, err
					}
					return tls.Client(slowConn{conn.(*tls.Conn).NetConn(), rate}, h2Client(n)), nil
				}
				for i, got := range inParallel(t, h2Over(t, dial, nil), n.URL(), paths, priority, size) {
					if got != size {
						t.Errorf("%s: got %d bytes of %d", paths[i], got, size)
					}
				}
			})
		})
	}
}

// A visitor who takes nothing of anything is cut soon, however much it asked for
// and whatever else it says.
func TestDeadlineNothingTakenIsCut(t *testing.T) {
	var begun, cut atomic.Int64
	h := func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		begun.Add(1)
		_, err := w.Write(make([]byte, 12<<20))
		if took := time.Since(start); err == nil || took < 30*time.Second || took > 40*time.Second {
			t.Errorf("error %v after %v, want one after about 30s", err, took)
		}
		cut.Add(1)
	}
	for _, proto := range shared {
		t.Run(proto, func(t *testing.T) {
			begun.Store(0)
			cut.Store(0)
			edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				client := narrow(t, n, proto)
				for i := range 20 {
					resp, err := client.Get(n.URL() + fmt.Sprint("/", i))
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
				}
				time.Sleep(time.Minute)
				if begun.Load() != 20 || cut.Load() != 20 {
					t.Errorf("%d begun, %d cut, want 20", begun.Load(), cut.Load())
				}
			})
		})
	}
}

// Half the least rate is too little, whatever the protocol and however small the
// pieces are that the node writes.
func TestDeadlineSlowDownloadIsCut(t *testing.T) {
	var took atomic.Int64
	h := func(w http.ResponseWriter, _ *http.Request) {
		start, err := time.Now(), error(nil)
		for err == nil {
			_, err = w.Write(make([]byte, 32<<10))
		}
		took.Store(int64(time.Since(start)))
	}
	edgetest.New(http.HandlerFunc(h)).RunVirtual(t, func(t *testing.T, v *edgetest.Visitor) {
		took.Store(0)
		client := v.Client
		if v.Proto != "h1" {
			client = narrow(t, v.Node, v.Proto)
		}
		resp, err := client.Get(v.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for end := time.Now().Add(3 * time.Minute); err == nil && time.Now().Before(end); time.Sleep(time.Second) {
			_, err = io.CopyN(io.Discard, resp.Body, 4<<10)
		}
		if took := time.Duration(took.Load()); took < 45*time.Second || took > 90*time.Second {
			t.Errorf("cut after %v, want about a minute", took)
		}
	})
}

// A download that never moves is not paid for by another for ever.
func TestDeadlineStarvedDownloadIsCut(t *testing.T) {
	for _, proto := range shared {
		t.Run(proto, func(t *testing.T) {
			var stuck atomic.Int64
			h := func(w http.ResponseWriter, r *http.Request) {
				start := time.Now()
				if _, err := w.Write(make([]byte, 12<<20)); err != nil && r.URL.Path == "/stuck" {
					stuck.Store(int64(time.Since(start)))
				}
			}
			edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				client := narrow(t, n, proto)
				resp, err := client.Get(n.URL() + "/stuck")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if got := inParallel(t, client, n.URL(), []string{"/moves"}, sideBySide, 9<<10); got[0] != 12<<20 {
					t.Errorf("the other got %d bytes", got[0])
				}
				if took := time.Duration(stuck.Load()); took < 20*time.Minute || took > 21*time.Minute {
					t.Errorf("cut after %v, want little more than 20m", took)
				}
			})
		})
	}
}

// Six uploads share what the network gives: each is slower than the least rate.
func TestDeadlineParallelUploadsSurvive(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	}
	for _, proto := range shared {
		t.Run(proto, func(t *testing.T) {
			edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				v := n.Visitor(t, proto)
				read(t, v.Get(t, "/")) // so that all go over one connection
				var all sync.WaitGroup
				for range 6 {
					all.Go(func() {
						resp, err := v.Post(v.URL, "text/plain", &drip{left: 40, interval: 5 * time.Second, piece: 3400})
						if err != nil {
							t.Error(err)
							return
						}
						if got := read(t, resp); got != "136000 <nil>" {
							t.Errorf("got %q", got)
						}
					})
				}
				all.Wait()
			})
		})
	}
}

// Bodies that the node leaves unread fill the window that all bodies of a
// connection share. The others, who may not send, are not to blame.
func TestDeadlineUnreadUploadsBlameNobody(t *testing.T) {
	const size = 1 << 20
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			time.Sleep(5 * time.Minute)
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, " ", err)
	}
	for _, proto := range shared {
		t.Run(proto, func(t *testing.T) {
			edgetest.New(http.HandlerFunc(h)).Virtual(t, func(t *testing.T, n *edgetest.Node) {
				v := n.Visitor(t, proto)
				read(t, v.Get(t, "/"))
				var all sync.WaitGroup
				post := func(path string, first time.Duration) {
					all.Go(func() {
						body := io.MultiReader(&drip{left: 1, interval: first}, bytes.NewReader(make([]byte, size-1)))
						resp, err := v.Post(v.URL+path, "text/plain", body)
						if err != nil {
							t.Error(path, err)
							return
						}
						if got := read(t, resp); got != fmt.Sprint(size, " <nil>") {
							t.Errorf("%s: got %q", path, got)
						}
					})
				}
				post("/read", 10*time.Second) // over HTTP/3 the window is for headers too
				time.Sleep(time.Second)
				for range 4 {
					post("/unread", 0)
				}
				all.Wait()
			})
		})
	}
}

// A handshake over a slow network is no idleness: who has just completed it is
// not closed to make room for others.
func TestDeadlineSlowHandshakeOnAFullNode(t *testing.T) {
	setup := edgetest.New(&hanger{})
	setup.Admit.Connections = 8
	fill := func(t *testing.T, n *edgetest.Node) {
		for range 7 {
			v := n.Visitor(t, "h2")
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, v.URL+"/hang", nil)
			go v.Do(r)
		}
		synctest.Wait()
	}
	t.Run("h2", func(t *testing.T) {
		setup.Virtual(t, func(t *testing.T, n *edgetest.Node) {
			fill(t, n)
			conn, err := n.DialTLS(t, "h2")
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if err := conn.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
			f := http2.NewFramer(conn, conn)
			for err == nil {
				var frame http2.Frame
				frame, err = f.ReadFrame()
				if _, away := frame.(*http2.GoAwayFrame); away {
					t.Fatal("sent away")
				}
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("error %v, want silence", err)
			}
		})
	})
	t.Run("h3", func(t *testing.T) {
		slow := setup
		slow.Latency = 1100 * time.Millisecond
		slow.Virtual(t, func(t *testing.T, n *edgetest.Node) {
			fill(t, n)
			conn := dial(t, n)
			<-conn.HandshakeComplete()
			time.Sleep(2 * time.Second) // 0.9 s after the node has it complete
			if err := context.Cause(conn.Context()); err != nil {
				t.Errorf("closed: %v", err)
			}
		})
	})
}
