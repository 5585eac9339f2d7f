package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An incoming is a request of HTTP/2 that is not complete yet.
type incoming struct {
	received
	block []byte
	ended bool
	inEnd bool // the block is the trailer's
}

// http2 reads requests as http1 does, each in a stream of its own (RFC 9113).
func (o *strictOrigin) http2(conn net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if n, err := io.ReadFull(conn, preface); n == 0 {
		return // a connection that was not needed in the end
	} else if string(preface) != http2.ClientPreface {
		o.breach("preface %q: %v", preface[:n], err)
		return
	}
	frames := http2.NewFramer(conn, conn)
	frames.WriteSettings()
	fields := hpack.NewDecoder(4096, nil)
	streams := map[uint32]*incoming{}
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			// The transport ends a connection between requests, and without a word.
			if broken := http2.ConnectionError(0); errors.As(err, &broken) || len(streams) > 0 {
				o.breach("%v with %d requests open", err, len(streams))
			}
			return
		}
		id := frame.Header().StreamID
		s := streams[id]
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				frames.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				frames.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			if s == nil {
				s = &incoming{}
				streams[id] = s
			} else {
				s.inEnd = true
			}
			s.block, s.ended = slices.Clone(f.HeaderBlockFragment()), f.StreamEnded()
			err = s.decode(fields, f.HeadersEnded())
		case *http2.ContinuationFrame:
			s.block = append(s.block, f.HeaderBlockFragment()...)
			err = s.decode(fields, f.HeadersEnded())
		case *http2.DataFrame:
			s.body = append(s.body, f.Data()...)
			s.ended = f.StreamEnded()
			if n := uint32(len(f.Data())); n > 0 {
				frames.WriteWindowUpdate(0, n)
			}
		case *http2.RSTStreamFrame:
			if s != nil { // else it was answered
				o.breach("%s %s was reset: %v", s.method, s.target, f.ErrCode)
				delete(streams, id)
			}
			continue
		}
		if err != nil {
			o.breach("stream %d: %v", id, err)
			return
		}
		if s != nil && s.ended && s.block == nil {
			delete(streams, id)
			o.answer(frames, id, s)
		}
	}
}

// decode takes in a field section when it is whole.
func (s *incoming) decode(d *hpack.Decoder, whole bool) error {
	if !whole {
		return nil
	}
	fields, err := d.DecodeFull(s.block)
	s.block = nil
	if err != nil {
		return fmt.Errorf("field section: %w", err)
	}
	pseudo := map[string]*string{":method": &s.method, ":path": &s.target, ":authority": &s.host, ":scheme": new(string)}
	for _, f := range fields {
		switch to := pseudo[f.Name]; {
		case f.IsPseudo() && (to == nil || *to != "" || s.inEnd || len(s.fields) > 0): // section 8.3
			return fmt.Errorf("pseudo field %v", f)
		case f.IsPseudo():
			*to = f.Value
		case !isName(f.Name) || strings.ToLower(f.Name) != f.Name || strings.Trim(f.Value, " \t") != f.Value: // section 8.2.1
			return fmt.Errorf("field %v", f)
		case f.Name == "connection" || f.Name == "transfer-encoding" || f.Name == "upgrade" || f.Name == "host": // section 8.2.2
			return fmt.Errorf("field %v is of HTTP/1.1", f)
		case s.inEnd:
			s.trailer = append(s.trailer, [2]string{f.Name, f.Value})
		default:
			s.fields = append(s.fields, [2]string{f.Name, f.Value})
		}
	}
	if !isName(s.method) || !isTarget(s.method, s.target) || s.host == "" {
		return fmt.Errorf("request %q %q %q", s.method, s.host, s.target)
	}
	return nil
}

func (o *strictOrigin) answer(frames *http2.Framer, id uint32, s *incoming) {
	// Section 8.1.1: a length that is not the body's makes a request malformed.
	if v := valuesOf(s.fields, "content-length"); len(v) > 1 || len(v) == 1 && v[0] != strconv.Itoa(len(s.body)) {
		o.breach("lengths %q of %d bytes", v, len(s.body))
	}
	answer := o.note(&s.received)
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range [][2]string{{":status", "200"}, {"answers", answer}, {"content-length", strconv.Itoa(len(answer))}} {
		e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	// A frame of 16 KiB takes the longest answer.
	frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: s.method == "HEAD"})
	if s.method != "HEAD" {
		frames.WriteData(id, true, []byte(answer))
	}
}

// stream2 sends a case as HTTP/2 does and says what came of it.
func (n *front) stream2(t *testing.T, c stream) string {
	v := n.dial(t, "h2")
	defer v.conn.Close()
	io.WriteString(v.conn, http2.ClientPreface)
	frames := http2.NewFramer(v.conn, v.in)
	frames.AllowIllegalWrites = true
	frames.WriteSettings()
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	headers := func(fields []field, end bool) {
		block.Reset()
		for _, f := range fields {
			encoder.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
		}
		frames.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	}
	headers(c.fields, c.body == "" && c.trailer == nil)
	if c.body != "" {
		frames.WriteData(1, c.trailer == nil, []byte(c.body))
	}
	if c.trailer != nil {
		headers(c.trailer, true)
	}
	return answer2(frames)
}

// answer2 reads the answer to the first stream.
func answer2(frames *http2.Framer) string {
	frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	status, answers := "", ""
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			return "reset"
		}
		ended := false
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				switch field.Name {
				case ":status":
					status = field.Value
				case "answers":
					answers += field.Value
				}
			}
			ended = f.StreamEnded()
		case *http2.DataFrame:
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame:
			return "reset"
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				return "reset"
			}
		}
		if ended {
			return outcomeOf(status, answers)
		}
	}
}

// outcomeOf is what an answer is to a case: the request that it answers, or the
// node's own status.
func outcomeOf(status, answers string) string {
	if answers == "" {
		return status
	}
	request, err := strconv.Unquote(answers)
	if err != nil || status != "200" {
		return status + " " + answers
	}
	return request
}

// TestSmugglingFrames sends frames in orders that HTTP/2 does not know.
func TestSmugglingFrames(t *testing.T) {
	block := func(fields []field) []byte {
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		for _, f := range fields {
			e.WriteField(hpack.HeaderField{Name: f.name, Value: f.value})
		}
		return b.Bytes()
	}
	headers := func(f *http2.Framer, id uint32, fields []field, end bool) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(fields), EndHeaders: true, EndStream: end})
	}
	cases := []struct {
		name, want string
		send       func(f *http2.Framer)
	}{
		{"reset before the body's end", "reset", func(f *http2.Framer) {
			headers(f, 1, posted("content-length", "43"), false)
			f.WriteRSTStream(1, http2.ErrCodeCancel)
			f.WriteData(1, true, []byte(smuggled))
		}},
		{"body on a stream that does not exist", "reset", func(f *http2.Framer) { f.WriteData(1, true, []byte(smuggled)) }},
		{"body on the connection", "reset", func(f *http2.Framer) { f.WriteData(0, true, []byte(smuggled)) }},
		{"an even stream", "reset", func(f *http2.Framer) { headers(f, 2, with(), true) }},
		{"a second head", "refused", func(f *http2.Framer) {
			headers(f, 1, posted(), false)
			headers(f, 1, with(":path", "/smuggled"), true)
		}},
		{"a trailer that ends nothing", "refused", func(f *http2.Framer) {
			headers(f, 1, posted(), false)
			headers(f, 1, []field{{"x", "y"}}, false)
		}},
		{"a head that another frame breaks", "reset", func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(with()), EndStream: true})
			f.WriteData(1, true, []byte(smuggled))
		}},
		{"a head that goes on in another stream", "reset", func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(with()), EndStream: true})
			f.WriteContinuation(3, true, nil)
		}},
	}
	runFronts(t, func(t *testing.T, n *front) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				v := n.dial(t, "h2")
				defer v.conn.Close()
				io.WriteString(v.conn, http2.ClientPreface)
				frames := http2.NewFramer(v.conn, v.in)
				frames.AllowIllegalWrites = true
				frames.WriteSettings()
				c.send(frames)
				n.judge(t, c.want, answer2(frames))
			})
		}
	})
}
