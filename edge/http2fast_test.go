package edge_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge"
	"spillway/edge/edgetest"
)

// newFastWorld is a node whose origin answers /plain/N with N bytes that may be kept,
// and /plain/N/new with as many that may not.
func newFastWorld(t testing.TB, change func(*edge.Config)) *world {
	w := newWorldWith(t, "h2", 100, func(c *edge.Config, _ []edge.RouteConfig) {
		c.Expose = "off" // no field that differs from answer to answer
		c.HTTP2.FastPath = "on"
		change(c)
	})
	w.origin.says(func(rw http.ResponseWriter, r *http.Request) {
		size, fresh, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/plain/"), "/")
		n, _ := strconv.Atoi(size)
		rw.Header().Set("Content-Type", "image/png")
		rw.Header().Set("Content-Length", size)
		rw.Header().Set("Cache-Control", "max-age=3600")
		if fresh != "" {
			rw.Header().Set("Cache-Control", "no-store")
		}
		rw.Write(bytes.Repeat([]byte("x"), n))
	})
	for _, n := range []string{"0", "10", "1000", "16384", "16385"} {
		w.server.ServeHTTP(httptest.NewRecorder(), secure("GET", "https://"+edgetest.Host+"/plain/"+n))
	}
	return w
}

func asIs(*edge.Config) {}

// A talker is an HTTP/2 client whose every word the test has in its hand.
type talker struct {
	*http2.Framer // writes to out
	conn          net.Conn
	out           bytes.Buffer
	block         bytes.Buffer
	encoder       *hpack.Encoder
	next          uint32
	grants        uint32 // what settle adds to the window
}

func talk(t testing.TB, w *world, settings ...http2.Setting) *talker {
	t.Helper()
	conn, err := w.node.DialTLS(t, "h2")
	if err != nil {
		t.Fatal(err)
	}
	c := newTalker(conn)
	c.out.WriteString(http2.ClientPreface)
	c.WriteSettings(settings...)
	return c
}

func newTalker(conn net.Conn) *talker {
	c := &talker{conn: conn, next: 1, grants: 1 << 20}
	c.encoder = hpack.NewEncoder(&c.block)
	c.Framer = http2.NewFramer(&c.out, conn)
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return c
}

// get writes a request for a path, and returns its stream.
func (c *talker) get(path string, more ...string) uint32 {
	fields := append([]string{":method", "GET", ":scheme", "https", ":authority", edgetest.Host, ":path", path}, more...)
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1], Sensitive: fields[i] == ":path"})
	}
	id := c.next
	c.next += 2
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true})
	return id
}

// send sends what was written, as one.
func (c *talker) send(t testing.TB) {
	t.Helper()
	if _, err := c.conn.Write(c.out.Bytes()); err != nil {
		t.Fatal(err)
	}
	c.out.Reset()
}

// A heard is what a talker heard.
type heard struct {
	answers map[uint32]string // by streams: status, size of the body, and end
	resets  map[uint32]http2.ErrCode
	data    int64
	goAways []http2.GoAwayFrame
	ponged  bool
}

// hear reads until enough was heard, or the connection ends.
func (c *talker) hear(enough func(*heard) bool) *heard {
	h := &heard{answers: map[uint32]string{}, resets: map[uint32]http2.ErrCode{}}
	c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for !enough(h) {
		frame, err := c.ReadFrame()
		if err != nil {
			break
		}
		id := frame.Header().StreamID
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			h.answers[id] = f.PseudoValue("status") + " " + f.Fields[slices.IndexFunc(f.Fields, func(f hpack.HeaderField) bool { return f.Name == "content-length" })].Value
			if f.StreamEnded() {
				h.answers[id] += " end"
			}
		case *http2.DataFrame:
			h.data += int64(f.Length)
			if f.StreamEnded() {
				h.answers[id] += " end"
			}
		case *http2.RSTStreamFrame:
			h.resets[id] = f.ErrCode
		case *http2.GoAwayFrame:
			h.goAways = append(h.goAways, *f)
		case *http2.PingFrame:
			h.ponged = h.ponged || f.IsAck()
		}
	}
	return h
}

// answered hears until so many answers are complete.
func (c *talker) answered(n int) *heard {
	return c.hear(func(h *heard) bool {
		complete := 0
		for _, a := range h.answers {
			if strings.HasSuffix(a, " end") {
				complete++
			}
		}
		return complete >= n
	})
}

// settle asks for what changes the table, so that the next requests do not.
func (c *talker) settle(t testing.TB) {
	t.Helper()
	c.get("/plain/10")
	c.WriteSettingsAck()
	c.WriteWindowUpdate(0, c.grants)
	c.send(t)
	if h := c.answered(1); h.answers[1] != "200 10 end" {
		t.Fatalf("%+v", h)
	}
}

// untilFast tries what may meet the library while it writes, which then answers, until
// the fast path does.
func untilFast(t testing.TB, w *world, try func(c *talker), settings ...http2.Setting) *talker {
	t.Helper()
	for range 100 {
		c := talk(t, w, settings...)
		c.settle(t)
		before := w.fast.Load()
		if try(c); w.fast.Load() > before {
			return c
		}
		c.conn.Close()
	}
	t.Fatal("never answered by the fast path")
	return nil
}

// Hits of one read are answered in one write, each in two frames, and with the fields
// that the library would have sent.
func TestFastHTTP2Frames(t *testing.T) {
	w := newFastWorld(t, asIs)
	b := make([]byte, 16<<10)
	n := 0
	untilFast(t, w, func(c *talker) {
		if n := w.fast.Load(); n != 0 {
			t.Errorf("%d answers to what changes the table", n)
		}
		for _, path := range []string{"/plain/10", "/plain/0", "/plain/10"} {
			c.get(path)
		}
		c.send(t)
		var err error
		if n, err = c.conn.Read(b); err != nil {
			t.Fatal(err)
		}
	})
	frames := http2.NewFramer(nil, bytes.NewReader(b[:n]))
	frames.ReadMetaHeaders = hpack.NewDecoder(0, nil) // who has no table understands it
	var got []string
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			break
		}
		h := frame.Header()
		s := fmt.Sprint(h.Type, " ", h.StreamID, " ", h.Flags)
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			var names []string
			for _, field := range f.Fields {
				names = append(names, field.Name)
			}
			s += " " + strings.Join(names, " ")
		case *http2.DataFrame:
			s += " " + string(f.Data())
		}
		got = append(got, s)
	}
	fields := ":status age alt-svc cache-control cache-status content-length content-type date"
	want := []string{
		"HEADERS 3 4 " + fields, "DATA 3 1 xxxxxxxxxx",
		"HEADERS 5 5 " + fields,
		"HEADERS 7 4 " + fields, "DATA 7 1 xxxxxxxxxx",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := w.fast.Load(); n != 3 {
		t.Errorf("%d answers of the fast path", n)
	}
}

// What is answered here, and what is left to the library.
func TestFastHTTP2Chooses(t *testing.T) {
	f := func(name string, want int64, change func(*edge.Config), settings []http2.Setting, ask func(c *talker), answer string) {
		t.Helper()
		w := newFastWorld(t, change)
		try := func(c *talker) {
			ask(c)
			c.send(t)
			if h := c.answered(1); h.answers[3] != answer {
				t.Errorf("%s: %+v", name, h)
			}
		}
		if want > 0 {
			untilFast(t, w, try, settings...)
		} else {
			c := talk(t, w, settings...)
			if name == "a window that is not ample" {
				c.grants = 60_000
			}
			c.settle(t)
			try(c)
		}
		if n := w.fast.Load(); n != want {
			t.Errorf("%s: %d answers of the fast path, want %d", name, n, want)
		}
	}
	get := func(path string, more ...string) func(c *talker) { return func(c *talker) { c.get(path, more...) } }
	off := func(c *edge.Config) { c.HTTP2.FastPath = "off" }
	f("a hit", 1, asIs, nil, get("/plain/1000"), "200 1000 end")
	f("switched off", 0, off, nil, get("/plain/1000"), "200 1000 end")
	f("a frame", 1, asIs, nil, get("/plain/16384"), "200 16384 end")
	f("more than a frame", 0, asIs, nil, get("/plain/16385"), "200 16385 end")
	f("a field that is new", 0, asIs, nil, get("/plain/1000", "x", "y"), "200 1000 end")
	f("nothing kept", 0, asIs, nil, get("/plain/1000/new"), "200 1000 end")
	f("a small table", 0, asIs, []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 4095}}, get("/plain/1000"), "200 1000 end")
	f("a large table", 1, asIs, []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 1 << 16}}, get("/plain/1000"), "200 1000 end")
	f("a small window", 0, asIs, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 999}}, func(c *talker) {
		c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		c.get("/plain/1000")
	}, "200 1000 end")
	f("a window that is not ample", 0, asIs, nil, get("/plain/1000"), "200 1000 end")
	f("priority and padding", 1, asIs, nil, func(c *talker) {
		c.get("/plain/1000") // for the block
		c.out.Reset()
		c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 3, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true, PadLength: 9,
			Priority: http2.PriorityParam{StreamDep: 1, Exclusive: true, Weight: 5},
		})
	}, "200 1000 end")
	f("in two frames", 0, asIs, nil, func(c *talker) {
		c.get("/plain/1000")
		c.out.Reset()
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.block.Bytes()[:3], EndStream: true})
		c.WriteContinuation(3, true, c.block.Bytes()[3:])
	}, "200 1000 end")
}

// What comes for a stream that was answered here is what comes for a closed one (RFC
// 9113 section 5.1), and so it is with streams that were left out.
func TestFastHTTP2ClosedStreams(t *testing.T) {
	outlast(t)
	f := func(name string, want http2.ErrCode, say func(c *talker)) {
		t.Helper()
		w := newFastWorld(t, asIs)
		c := untilFast(t, w, func(c *talker) {
			c.next = 7 // 3 and 5 are left out
			c.get("/plain/10")
			c.send(t)
			if h := c.answered(1); h.answers[7] != "200 10 end" {
				t.Fatalf("%s: %+v", name, h)
			}
		})
		say(c)
		c.WritePing(false, [8]byte{1})
		c.get("/plain/10/new")
		c.send(t)
		h := c.hear(func(h *heard) bool { return len(h.goAways) > 0 || h.ponged && h.answers[c.next-2] == "200 10 end" })
		if want == http2.ErrCodeNo {
			if len(h.goAways) > 0 || !h.ponged || len(h.resets) > 0 {
				t.Errorf("%s: %+v", name, h)
			}
		} else if len(h.goAways) != 1 || h.goAways[0].ErrCode != want {
			t.Errorf("%s: %+v, want %s", name, h, want)
		}
	}
	for _, stream := range []uint32{3, 7} {
		f("window", http2.ErrCodeNo, func(c *talker) {
			c.WriteWindowUpdate(stream, math.MaxInt32)
			c.WriteWindowUpdate(stream, math.MaxInt32)
		})
		f("reset", http2.ErrCodeNo, func(c *talker) { c.WriteRSTStream(stream, http2.ErrCodeCancel) })
		f("priority", http2.ErrCodeNo, func(c *talker) { c.WritePriority(stream, http2.PriorityParam{StreamDep: 1}) })
		f("priority update", http2.ErrCodeNo, func(c *talker) { c.WritePriorityUpdate(stream, "u=1") })
		f("body", http2.ErrCodeStreamClosed, func(c *talker) { c.WriteData(stream, true, []byte("x")) })
		f("empty body", http2.ErrCodeStreamClosed, func(c *talker) { c.WriteData(stream, true, nil) })
		f("header", http2.ErrCodeProtocol, func(c *talker) { c.next = stream; c.get("/plain/10") })
		f("half a header", http2.ErrCodeProtocol, func(c *talker) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x82}})
		})
		f("malformed window", http2.ErrCodeFrameSize, func(c *talker) { c.WriteRawFrame(http2.FrameWindowUpdate, 0, stream, []byte{1}) })
		f("malformed reset", http2.ErrCodeFrameSize, func(c *talker) { c.WriteRawFrame(http2.FrameRSTStream, 0, stream, []byte{1}) })
	}
	f("window of an idle stream", http2.ErrCodeProtocol, func(c *talker) { c.WriteWindowUpdate(9, 1) })
	f("reset of an idle stream", http2.ErrCodeProtocol, func(c *talker) { c.WriteRSTStream(9, 1) })
	f("too large a window", http2.ErrCodeFlowControl, func(c *talker) { c.WriteWindowUpdate(0, math.MaxInt32) })
	f("no window", http2.ErrCodeProtocol, func(c *talker) { c.WriteWindowUpdate(0, 0) })
	f("no sense", http2.ErrCodeCompression, func(c *talker) {
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: 9, BlockFragment: []byte{0xff, 0xff, 0x01}, EndHeaders: true, EndStream: true})
	})
}

// Whatever of the table a request refers to or changes, and whoever answers the ones
// before, it is understood.
func TestFastHTTP2FollowsTheTable(t *testing.T) {
	w := newFastWorld(t, asIs)
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 2))
		c := talk(t, w)
		c.settle(t)
		before := w.fast.Load()
		for range 15 {
			want := map[uint32]string{}
			for range 1 + random.IntN(20) {
				size := []string{"0", "10", "1000", "16384"}[random.IntN(4)]
				path := "/plain/" + size
				if random.IntN(3) == 0 {
					path += "/new"
				}
				var more []string
				for range random.IntN(3) {
					more = append(more, fmt.Sprint("x-", random.IntN(5)), strings.Repeat("v", random.IntN(300)*random.IntN(3)))
				}
				if random.IntN(50) == 0 {
					c.encoder.SetMaxDynamicTableSize(uint32(random.IntN(4097)))
				}
				want[c.get(path, more...)] = "200 " + size + " end"
			}
			c.WriteWindowUpdate(0, 20<<14)
			c.send(t)
			if h := c.answered(len(want)); !maps.Equal(h.answers, want) {
				t.Fatalf("seed %d: got %v, want %v", seed, h.answers, want)
			}
		}
		if w.fast.Load() == before {
			t.Errorf("seed %d: nothing was answered by the fast path", seed)
		}
	}
}

// Who has granted a window is never sent more, by whomever, and gets all that he asks
// for as he grants on.
func TestFastHTTP2KeepsToTheWindow(t *testing.T) {
	w := newFastWorld(t, asIs)
	grants := []uint32{1, 60_000, 1 << 20}
	for i := 0; i < len(grants) || i < 100 && w.fast.Load() == 0; i++ { // see untilFast
		granted := grants[min(i, len(grants)-1)]
		c := talk(t, w)
		c.grants = granted
		c.settle(t)
		window := int64(65535+granted) - 10
		want := map[uint32]string{}
		for i := range 90 { // 1.4 MiB, a third of it by the library alone
			path := "/plain/16384"
			if i%3 == 0 {
				path += "/new"
			}
			want[c.get(path)] = "200 16384 end"
		}
		c.send(t)
		h := c.hear(func(h *heard) bool { return h.data >= window })
		if h.data != window {
			t.Fatalf("%d bytes in a window of %d", h.data, window)
		}
		c.WritePing(false, [8]byte{})
		c.send(t)
		if after := c.hear(func(h *heard) bool { return h.ponged }); after.data > 0 {
			t.Fatalf("%d bytes more than granted", after.data)
		}
		c.WriteWindowUpdate(0, 2<<20)
		c.send(t)
		if rest := c.hear(func(r *heard) bool { return h.data+r.data == 90<<14 }); h.data+rest.data != 90<<14 {
			t.Errorf("%d bytes in all", h.data+rest.data)
		}
	}
	if w.fast.Load() == 0 {
		t.Error("nothing was answered by the fast path")
	}
}

// Who has granted much and says nothing more gets all of it for one answer of the
// library, although the fast path has had a share.
func TestFastHTTP2LendsItsShare(t *testing.T) {
	w := newFastWorld(t, asIs)
	c := talk(t, w, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.grants = 900_000 - 65535
	c.settle(t)
	c.get("/plain/1000000/new")
	c.send(t)
	if h := c.hear(func(h *heard) bool { return h.data >= 899_990 }); h.data != 899_990 {
		t.Errorf("%d bytes", h.data)
	}
}

// What is granted counts at once, although the next frame has not come whole.
func TestFastHTTP2GrantsBeforeHalfAFrame(t *testing.T) {
	for _, grant := range []uint32{1, 1 << 20} { // what is ample is shared
		w := newFastWorld(t, asIs)
		c := talk(t, w, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		c.grants = 1
		c.settle(t)
		c.get("/plain/70000/new")
		c.send(t)
		if h := c.hear(func(h *heard) bool { return h.data == 65526 }); h.data != 65526 {
			t.Fatalf("%d bytes", h.data)
		}
		c.WriteWindowUpdate(0, grant)
		c.WritePing(false, [8]byte{})
		c.out.Truncate(c.out.Len() - 1)
		c.send(t)
		want := min(int64(grant), 70_000-65526)
		if h := c.hear(func(h *heard) bool { return h.data == want }); h.data != want {
			t.Errorf("%d bytes of a window of %d", h.data, grant)
		}
	}
}

// A request that is given up before its answer was sent is not answered, and costs what
// it would without a fast path (CVE-2023-44487).
func TestFastHTTP2RapidReset(t *testing.T) {
	outlast(t)
	w := newFastWorld(t, asIs)
	c := untilFast(t, w, func(c *talker) {
		kept := c.get("/plain/10")
		given := c.get("/plain/10")
		passed := c.get("/plain/10/new") // the library's
		c.WriteRSTStream(given, http2.ErrCodeCancel)
		after := c.get("/plain/1000")
		c.send(t)
		h := c.answered(3)
		want := map[uint32]string{kept: "200 10 end", passed: "200 10 end", after: "200 1000 end"}
		if w.fast.Load() == 3 && !maps.Equal(h.answers, want) { // else the library had a part in it
			t.Errorf("got %v, want %v", h.answers, want)
		}
	})
	go func() {
		for range 1000 {
			c.WriteRSTStream(c.get("/plain/10"), http2.ErrCodeCancel)
			if _, err := c.conn.Write(c.out.Bytes()); err != nil {
				return
			}
			c.out.Reset()
		}
	}()
	h := c.hear(func(h *heard) bool { return len(h.goAways) > 0 })
	if len(h.goAways) == 0 || h.goAways[0].ErrCode != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("%+v", h)
	}
}

// The library is to know that a connection is not idle.
func TestFastHTTP2TellsTheLibrary(t *testing.T) {
	w := newFastWorld(t, func(c *edge.Config) { c.Timeouts.Idle = 4 * time.Second })
	c := talk(t, w)
	c.settle(t)
	began := w.arrived.Load()
	await(t, "both have answered", func() bool {
		c.get("/plain/10")
		c.send(t)
		c.answered(1)
		return w.fast.Load() > 0 && w.arrived.Load()-began > w.fast.Load()
	})
}

// A panic at a hit costs the connection its fast path, and is logged as the library's are.
func TestFastHTTP2Panic(t *testing.T) {
	var log bytes.Buffer
	s := edgetest.New(edge.Panicky{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", "2")
		rw.Write([]byte("ok"))
	})})
	s.Config.HTTP2.FastPath = "on"
	s.Log = slog.New(slog.NewTextHandler(&log, nil))
	w := &world{node: s.Start(t)}
	for range 20 { // see untilFast
		c := talk(t, w)
		for range 3 {
			id := c.get("/plain/10")
			c.send(t)
			if h := c.answered(1); h.answers[id] != "200 2 end" {
				t.Fatalf("%+v", h)
			}
		}
		c.conn.Close()
	}
	w.node.Stop(t)
	if n := strings.Count(log.String(), "panic serving"); n != 1 {
		t.Errorf("%d panics in the log, want one:\n%s", n, &log)
	}
}

// Whoever is idle holds next to nothing of a large request that he made. What is on the
// heap shows it, and so the test has a process of its own, without what others leave there.
func TestFastHTTP2ForgetsLargeRequests(t *testing.T) {
	const visitors, most = 32, 16 << 10 // a connection is to hold less than most more than without
	if os.Getenv("SPILLWAY_TEST_HEAP") == "" {
		c := exec.Command(os.Args[0], "-test.run=^TestFastHTTP2ForgetsLargeRequests$", "-test.count=1")
		c.Env = append(os.Environ(), "SPILLWAY_TEST_HEAP=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	held := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // for the pools
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	come := func(fast string) (start int64, stay func()) {
		w := newFastWorld(t, func(c *edge.Config) { c.HTTP2.FastPath = fast })
		var talkers []*talker
		for i := range 1 + visitors {
			c := talk(t, w)
			id := c.get("/plain/10/new", "cookie", strings.Repeat("v", 14<<10))
			c.send(t)
			if h := c.answered(1); h.answers[id] != "200 10 end" {
				t.Fatalf("%+v", h)
			}
			if talkers = append(talkers, c); i == 0 { // for what the first ever needs
				start = held()
			}
		}
		return start, func() { runtime.KeepAlive(talkers) }
	}
	start, stay := come("off")
	without := held() - start
	stay()
	start, stay = come("on")
	await(t, "all are idle, and hold little", func() bool {
		more := (held() - start - without) / visitors
		return more < most
	})
	stay()
}

// From a hand-over on the library answers, which says what the last request is.
func TestFastHTTP2HandOver(t *testing.T) {
	w := newFastWorld(t, asIs)
	c := untilFast(t, w, func(c *talker) {
		c.get("/plain/10")
		c.send(t)
		c.answered(1)
	})
	done := make(chan error, 1)
	go func() { done <- w.node.Listeners.HandOver(t.Context()) }()
	if h := c.hear(func(h *heard) bool { return len(h.goAways) > 0 }); len(h.goAways) != 1 || h.goAways[0].LastStreamID != math.MaxInt32 {
		t.Fatalf("%+v", h)
	}
	last := c.get("/plain/10")
	c.send(t)
	h := c.hear(func(h *heard) bool { return false })
	if h.answers[last] != "200 10 end" || len(h.goAways) != 1 || h.goAways[0].LastStreamID != last {
		t.Errorf("%+v", h)
	}
	if n := w.fast.Load(); n != 1 {
		t.Errorf("%d answers of the fast path", n)
	}
	w.visitor.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
