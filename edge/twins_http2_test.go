package edge_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"spillway/edge/edgetest"
)

// pings follow each input, one after the acknowledgement of the other. The last tells that
// the node has read all, and said what it has to say of it.
var pings = [][8]byte{{'t', 'h', 'e', ' ', 'e', 'n', 'd'}, {'r', 'e', 'a', 'l', 'l', 'y', '!'}}

func ping2(n int) []byte { return frames2(func(f *http2.Framer) { f.WritePing(false, pings[n]) }) }

// FuzzTwinsHTTP2 sends any bytes as frames, in two parts, behind a visitor's preface.
func FuzzTwinsHTTP2(f *testing.F) {
	for _, s := range seeds2() {
		f.Add(s, uint16(0))
	}
	plain := head2(1, with(":path", "/plain/a"))
	f.Add(plain, uint16(5))
	f.Add(plain, uint16(len(plain)-1))
	tw := newTwins(f)
	f.Fuzz(func(t *testing.T, sent []byte, split uint16) {
		sent, streams := completed2(sent), streamsOf(sent)
		agree(t, tw, func(n *edgetest.Node, patience time.Duration) heard2 {
			return visit2(t, n, sent, int(split), patience, streams)
		}, func(on, off heard2) bool { return on.like(off, streams) })
	})
}

// completed2 completes the last frame, so that what follows is one.
func completed2(sent []byte) []byte {
	parts := partsOf2(sent, true)
	last := parts[len(parts)-1]
	if missing := 9 - len(last); len(last) > 0 && missing > 0 {
		last = append(last[:len(last):len(last)], make([]byte, missing)...)
		sent = append(sent[:len(sent):len(sent)], make([]byte, missing)...)
	}
	if len(last) >= 9 {
		missing := 9 + (int(last[0])<<16 | int(last[1])<<8 | int(last[2])) - len(last)
		if missing <= 16<<10 { // a larger frame is refused
			sent = append(sent[:len(sent):len(sent)], make([]byte, missing)...)
		}
	}
	return sent
}

// A stream2 is what an input does with a stream.
type stream2 struct {
	// ended: the visitor has said all, so that an answer has to come.
	ended bool
	// disturbed: more comes behind that, or a reset, which may overtake the answer.
	disturbed bool
}

// streamsOf returns the streams that frames open.
func streamsOf(sent []byte) map[uint32]*stream2 {
	streams := map[uint32]*stream2{}
	for _, frame := range partsOf2(sent, true) {
		if len(frame) < 9 {
			continue
		}
		kind, flags, id := http2.FrameType(frame[3]), http2.Flags(frame[4]), binary.BigEndian.Uint32(frame[5:])&(1<<31-1)
		s := streams[id]
		switch {
		case s == nil && kind == http2.FrameHeaders && id%2 == 1:
			s = &stream2{}
			streams[id] = s
		case s == nil:
			continue
		case kind == http2.FrameRSTStream || s.ended && kind != http2.FramePriority && kind != http2.FrameContinuation:
			s.disturbed = true
		}
		if kind == http2.FrameHeaders || kind == http2.FrameData {
			s.ended = s.ended || flags.Has(http2.FlagHeadersEndStream)
		}
	}
	return streams
}

// partsOf2 cuts frames from one another, or returns all as one part.
func partsOf2(sent []byte, cut bool) (parts [][]byte) {
	for cut && len(sent) > 9 {
		n := min(9+(int(sent[0])<<16|int(sent[1])<<8|int(sent[2])), len(sent))
		parts, sent = append(parts, sent[:n]), sent[n:]
	}
	return append(parts, sent)
}

// A heard2 is what a visitor heard on a connection.
type heard2 struct {
	streams map[uint32]*answer2All
	goAway  string
}

// An answer2All is the whole of a stream. What comes behind its end says nothing any more.
type answer2All struct {
	fields []field
	heads  int
	body   []byte
	end    string
}

func (h heard2) String() string {
	var text strings.Builder
	text.WriteString("GOAWAY: " + h.goAway + "\n")
	for _, id := range slices.Sorted(maps.Keys(h.streams)) {
		fmt.Fprintf(&text, "stream %d: %s\n", id, h.streams[id])
	}
	return text.String()
}

func (a *answer2All) String() string {
	return fmt.Sprintf("%d field sections, %s\n%s", a.heads, a.end, compared(a.fields, a.body))
}

// like reports whether two connections have heard the same. What an error of the
// connection, or more for a stream, cuts off may have been answered before.
//
// RFC 9113 section 5.1 has the whole connection end for a frame on a stream that has ended,
// and so has the fast path. The library resets the stream only. And of several errors either
// may name another.
func (h heard2) like(other heard2, streams map[uint32]*stream2) bool {
	disturbed := false
	for _, s := range streams {
		disturbed = disturbed || s.disturbed
	}
	strict := h.goAway == "STREAM_CLOSED" && other.goAway == "no error" && disturbed
	if (h.goAway == "no error") != (other.goAway == "no error") && !strict {
		return false
	}
	for id, s := range streams {
		a, b := h.streams[id], other.streams[id]
		cut := !s.ended || s.disturbed || h.goAway != "no error"
		if cut && (a == nil || b == nil || a.end != b.end) {
			continue
		}
		if (a == nil) != (b == nil) || a != nil && a.String() != b.String() {
			return false
		}
	}
	return true
}

// visit2 sends frames on a connection of their own, and returns what comes. Once nothing
// has come for as long as the visitor's patience is, it says that no more will follow.
func visit2(t *testing.T, n *edgetest.Node, sent []byte, split int, patience time.Duration, streams map[uint32]*stream2) heard2 {
	t.Helper()
	c := n.Client.Clone()
	c.NextProtos = []string{http2.NextProtoTLS}
	conn, err := tls.Dial("tcp", n.Listeners.Addr().String(), c)
	if err != nil {
		t.Fatal(err)
	}
	var saying sync.WaitGroup
	defer saying.Wait()
	defer conn.Close()
	in := http2.NewFramer(nil, conn)
	in.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	conn.Write(append([]byte(http2.ClientPreface), frames2(func(f *http2.Framer) {
		f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		f.WriteWindowUpdate(0, 1<<24)
		f.WritePing(false, [8]byte{})
	})...))
	// What comes before the node has said its settings, or while it does, is the library's.
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for settled := false; !settled; {
		frame, err := in.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		_, settled = frame.(*http2.PingFrame)
	}
	saying.Go(func() { // the node need not read all before it answers
		split = min(split, len(sent))
		if split > 0 {
			conn.Write(sent[:split])
			time.Sleep(wellAfter)
		}
		// A patient visitor lets each frame have its effect before the next.
		for _, part := range partsOf2(sent[split:], split == 0 && patience > 20*time.Millisecond) {
			if _, err := conn.Write(part); err != nil {
				return
			}
			if len(part) < len(sent) {
				time.Sleep(patience / 10)
			}
		}
		conn.Write(ping2(0))
	})
	got := heard2{streams: map[uint32]*answer2All{}, goAway: "no error"}
	acknowledged := 0
	for waited := false; ; {
		if acknowledged == len(pings) && got.answered(streams) {
			return got
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if waited {
			conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // only a failing case gets there
		}
		frame, err := in.ReadFrame()
		if !waited && errors.Is(err, os.ErrDeadlineExceeded) {
			waited = true
			conn.CloseWrite()
			continue
		} else if err != nil {
			return got
		}
		switch f := frame.(type) {
		case *http2.PingFrame:
			if acknowledged < len(pings) && f.IsAck() && f.Data == pings[acknowledged] {
				if acknowledged++; acknowledged < len(pings) {
					conn.Write(ping2(acknowledged))
				}
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				got.goAway = f.ErrCode.String()
				return got
			}
		default:
			got.take(frame)
		}
	}
}

// answered reports whether all streams have ended that must.
func (h heard2) answered(streams map[uint32]*stream2) bool {
	for id, s := range streams {
		if a := h.streams[id]; s.ended && (a == nil || a.end == "") {
			return false
		}
	}
	return true
}

// take notes a frame of a stream.
func (h heard2) take(frame http2.Frame) {
	id := frame.Header().StreamID
	a := h.streams[id]
	if a == nil {
		a = &answer2All{}
		h.streams[id] = a
	}
	if a.end != "" {
		return
	}
	ended := false
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		a.heads++
		for _, field2 := range f.Fields {
			a.fields = append(a.fields, field{field2.Name, field2.Value})
		}
		ended = f.StreamEnded()
	case *http2.DataFrame:
		a.body = append(a.body, f.Data()...)
		ended = f.StreamEnded()
	case *http2.RSTStreamFrame:
		*a = answer2All{end: "reset " + f.ErrCode.String()}
	}
	if ended {
		a.end = "whole"
	}
}

// frames2 returns the bytes of frames.
func frames2(write func(*http2.Framer)) []byte {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	write(f)
	return b.Bytes()
}
