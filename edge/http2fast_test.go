package edge_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
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
	c := &talker{conn: conn, next: 1, grants: 1 << 20}
	c.encoder = hpack.NewEncoder(&c.block)
	c.Framer = http2.NewFramer(&c.out, conn)
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.out.WriteString(http2.ClientPreface)
	c.WriteSettings(settings...)
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

// Hits of one read are answered in one write, each in two frames, and with the fields
// that the library would have sent.
func TestFastHTTP2Frames(t *testing.T) {
	w := newFastWorld(t, asIs)
	c := talk(t, w)
	c.settle(t)
	if n := w.fast.Load(); n != 0 {
		t.Errorf("%d answers to what changes the table", n)
	}
	for _, path := range []string{"/plain/10", "/plain/0", "/plain/10"} {
		c.get(path)
	}
	c.send(t)
	b := make([]byte, 16<<10)
	n, err := c.conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
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
		c := talk(t, w, settings...)
		if name == "a window that is not ample" {
			c.grants = 60_000
		}
		c.settle(t)
		ask(c)
		c.send(t)
		if h := c.answered(1); h.answers[3] != answer {
			t.Errorf("%s: %+v", name, h)
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
