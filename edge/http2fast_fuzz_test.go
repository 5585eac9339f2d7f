package edge_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"spillway/edge"
)

// FuzzFastHTTP2 says the same to two nodes, one of which has no fast path, and asks that
// it hears the same: the answer to each request, or the word with which the connection
// ends. What is said is any bytes behind a first request, cut after the last whole frame.
func FuzzFastHTTP2(f *testing.F) {
	for _, say := range []func(c *talker){
		func(c *talker) {
			c.get("/plain/10")
			c.get("/plain/1000")
			c.get("/plain/16384/new")
			c.get("/plain/10")
		},
		func(c *talker) {
			c.get("/plain/10", "x", "y")
			c.get("/plain/10", "x", "y")
			c.WriteWindowUpdate(0, 1)
			c.get("/elsewhere")
		},
		func(c *talker) {
			c.get("/plain/10")
			c.WriteWindowUpdate(3, 9)
			c.get("/plain/10", "priority", "u=1, i")
		},
		func(c *talker) { c.get("/plain/10"); c.WriteRSTStream(3, 8); c.WriteData(3, true, []byte("x")) },
		func(c *talker) { c.next = 9; c.get("/plain/10"); c.next = 3; c.get("/plain/10") },
		func(c *talker) {
			c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
			c.get("/plain/1000")
		},
		func(c *talker) {
			c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize})
			c.get("/plain/1000")
		},
		func(c *talker) {
			c.encoder.SetMaxDynamicTableSize(0)
			c.get("/plain/10")
			c.encoder.SetMaxDynamicTableSize(100)
			c.get("/plain/10")
			c.get("/plain/10")
		},
		func(c *talker) { c.get("/plain/10"); c.WriteWindowUpdate(0, 0); c.get("/plain/10") },
		func(c *talker) { c.get("/plain/10"); c.WriteGoAway(0, http2.ErrCodeNo, nil); c.get("/plain/10") },
		func(c *talker) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x82, 0x87, 0x84}, EndStream: true})
			c.WriteContinuation(3, true, []byte{0xbe})
			c.get("/plain/10")
		},
		func(c *talker) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte{0x82, 0x87, 0xff, 0x80}, EndHeaders: true, EndStream: true})
		},
	} {
		c := newTalker(nil)
		c.opening()
		c.out.Reset()
		say(c)
		f.Add(c.out.Bytes())
	}
	nodes := []*world{newFastWorld(f, asIs), newFastWorld(f, func(c *edge.Config) { c.HTTP2.FastPath = "off" })}
	var open sync.WaitGroup
	outlast(f)
	f.Cleanup(open.Wait)
	f.Fuzz(func(t *testing.T, input []byte) {
		said, twice := wholeFrames(input)
		sayToBoth(t, nodes, said, twice, &open)
	})
}

// outlast has a test that provokes errors end after the library's goroutines, which
// outlast an error by a second.
func outlast(t testing.TB) { t.Cleanup(func() { time.Sleep(1200 * time.Millisecond) }) }

// sayToBoth says the same to both nodes, and asks that it hears the same.
func sayToBoth(t *testing.T, nodes []*world, said []byte, twice bool, open *sync.WaitGroup) {
	var ears []*ear
	for _, w := range nodes {
		c := talk(t, w)
		c.opening()
		c.out.Write(said)
		c.WritePing(false, [8]byte{1})
		c.send(t)
		e := newEar(c)
		open.Go(e.listen)
		defer e.leave()
		ears = append(ears, e)
	}
	same := func() error { return differ(ears[0], ears[1], twice) }
	if err := settled(same); err != nil {
		t.Fatalf("%x: %v", said, err)
	}
	for _, e := range ears { // what was still to come has come by then
		e.c.out.Reset()
		e.c.WritePing(false, [8]byte{2})
		e.c.conn.Write(e.c.out.Bytes()) // it may be closed
	}
	if err := settled(same); err != nil {
		t.Fatalf("%x, later: %v", said, err)
	}
}

// opening says what makes the next requests ones for the fast path.
func (c *talker) opening() {
	c.WriteWindowUpdate(0, 1<<20)
	c.get("/plain/10")
}

// wholeFrames cuts what a frame lacks the rest of, and reports whether a stream is named
// by more than one frame, or one below another, or all by settings: what comes of that
// depends on how far the answers are, and whether the frame is malformed besides.
func wholeFrames(b []byte) (whole []byte, twice bool) {
	streams := map[uint32]int{1: 1}
	n, last := 0, uint32(1)
	for requests := 0; len(b)-n >= 9 && requests < 50; requests++ {
		size := 9 + int(b[n])<<16 + int(b[n+1])<<8 + int(b[n+2])
		if len(b)-n < size {
			break
		}
		id := uint32(b[n+5]&0x7f)<<24 | uint32(b[n+6])<<16 | uint32(b[n+7])<<8 | uint32(b[n+8])
		if streams[id]++; id != 0 && (streams[id] > 1 || id < last) || b[n+3] == byte(http2.FramePriorityUpdate) || b[n+3] == byte(http2.FrameGoAway) || b[n+3] == byte(http2.FrameSettings) && last > 1 {
			twice = true
		}
		last = max(last, id)
		n += size
	}
	return b[:n], twice
}

// settled waits until what it calls finds no fault, which is at once or never.
func settled(f func() error) (err error) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

// An ear hears what a node says on one connection.
type ear struct {
	c *talker

	mu      sync.Mutex
	answers map[uint32]string
	sizes   map[uint32]int
	resets  map[uint32]http2.ErrCode
	end     http2.ErrCode
	ended   bool // by the node
	pongs   int
}

func newEar(c *talker) *ear {
	return &ear{c: c, answers: map[uint32]string{}, sizes: map[uint32]int{}, resets: map[uint32]http2.ErrCode{}}
}

// listen hears all until the connection ends.
func (e *ear) listen() {
	defer e.c.conn.Close()
	for {
		frame, err := e.c.ReadFrame()
		if stream := (http2.StreamError{}); err != nil && !errors.As(err, &stream) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.ended = true // without a word, if there was none
			return
		}
		e.hear(frame)
	}
}

// leave ends the connection, if the node does not.
func (e *ear) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		e.c.conn.Close()
	}
}

func (e *ear) hear(frame http2.Frame) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		var lines []string
		for _, field := range f.Fields {
			if !slices.Contains([]string{"age", "date", "alt-svc", "cache-status", "x-request-id"}, field.Name) {
				lines = append(lines, fmt.Sprint(field))
			}
		}
		slices.Sort(lines)
		e.answers[f.StreamID] += strings.Join(lines, "; ")
	case *http2.DataFrame:
		e.sizes[f.StreamID] += len(f.Data())
	case *http2.RSTStreamFrame:
		e.resets[f.StreamID] = f.ErrCode
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			e.ended, e.end = true, f.ErrCode
		}
	case *http2.PingFrame:
		if f.IsAck() {
			e.pongs++
		}
	}
}

// differ says in what two nodes do, once they have said all. After a frame on a stream that
// is closed it is enough that both go on or end.
func differ(a, b *ear, twice bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !a.ended && a.pongs == 0 || !b.ended && b.pongs == 0 {
		return errors.New("nothing is heard")
	}
	if twice {
		return nil
	}
	if a.ended != b.ended || a.end != b.end {
		return fmt.Errorf("ended %t with %s, and %t with %s", a.ended, a.end, b.ended, b.end)
	}
	if a.ended {
		return nil // what was answered before is chance
	}
	if !maps.Equal(a.answers, b.answers) || !maps.Equal(a.sizes, b.sizes) || !maps.Equal(a.resets, b.resets) {
		return fmt.Errorf("%v %v %v, and %v %v %v", a.answers, a.sizes, a.resets, b.answers, b.sizes, b.resets)
	}
	return nil
}
