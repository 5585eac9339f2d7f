package edge_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"

	"spillway/edge/edgetest"
)

// How the bytes of a request stream end.
const (
	endAtOnce = iota // with the last byte
	endLater         // a while after it
	endReset         // never: the visitor gives the request up
	endings
)

// FuzzTwinsHTTP3 sends any bytes as a request stream, in two parts and with any end.
func FuzzTwinsHTTP3(f *testing.F) {
	for _, s := range seeds3() {
		f.Add(s, uint16(0), byte(endAtOnce))
	}
	plain := head3(with(":path", "/plain/a"))
	for end := range byte(endings) {
		f.Add(plain, uint16(5), end)
		f.Add(plain, uint16(len(plain)), end)
	}
	tw := newTwins(f)
	callers := map[*edgetest.Node]*caller3{}
	f.Fuzz(func(t *testing.T, sent []byte, split uint16, end byte) {
		agree(t, tw, func(n *edgetest.Node, _ time.Duration) string {
			if callers[n] == nil {
				callers[n] = &caller3{node: n}
			}
			return callers[n].ask(t, sent, int(split), end%endings)
		}, func(on, off string) bool { return on == off })
	})
}

// A caller3 keeps a connection as long as it is good for another stream.
type caller3 struct {
	node *edgetest.Node
	conn *quic.Conn
	left int
}

// mostAsked is how many streams a connection carries: fewer than the node bears when
// none of them is a request.
const mostAsked = 100

// ask sends one request stream and says what came of it.
func (c *caller3) ask(t *testing.T, sent []byte, split int, end byte) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s := c.open(ctx, t)
	s.SetDeadline(time.Now().Add(20 * time.Second)) // only a failing case gets there
	split = min(split, len(sent))
	s.Write(sent[:split])
	if split > 0 {
		time.Sleep(wellAfter)
	}
	s.Write(sent[split:])
	if end != endAtOnce {
		time.Sleep(wellAfter)
	}
	if end == endReset {
		s.CancelWrite(quic.StreamErrorCode(http3.ErrCodeRequestCanceled))
	} else {
		s.Close()
	}
	got, err := io.ReadAll(s)
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	if reset := (*quic.StreamError)(nil); errors.As(err, &reset) {
		return fmt.Sprintf("reset %#x", reset.ErrorCode)
	} else if closed := (*quic.ApplicationError)(nil); errors.As(err, &closed) {
		return fmt.Sprintf("closed %#x %s", closed.ErrorCode, closed.ErrorMessage)
	} else if err != nil {
		return err.Error()
	}
	return told3(got)
}

// wellAfter is longer than a fast path waits for the rest of a request.
const wellAfter = 2 * time.Millisecond

// open opens a stream, on a new connection if need be.
func (c *caller3) open(ctx context.Context, t *testing.T) *quic.Stream {
	var err error
	for range 3 {
		if c.conn != nil && (c.left == 0 || c.conn.Context().Err() != nil) {
			c.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
			c.conn = nil
		}
		if c.conn == nil {
			config := c.node.Client.Clone()
			config.NextProtos = []string{http3.NextProtoH3}
			conn, err := quic.DialAddr(ctx, c.node.Listeners.Addr().String(), config, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.conn, c.left = conn, mostAsked
			control, err := conn.OpenUniStream()
			if err != nil {
				t.Fatal(err)
			}
			control.Write(appendFrame([]byte{controlStream}, settingsFrame, nil))
		}
		c.left--
		var s *quic.Stream
		if s, err = c.conn.OpenStreamSync(ctx); err == nil {
			return s
		}
		c.left = 0 // it ends, and may not say so yet
	}
	t.Fatal("three connections in a row open no stream, the last for:", err)
	return nil
}

// told3 reads an answer frame by frame.
func told3(b []byte) string {
	var fields []field
	var body []byte
	heads := 0
	for r := bytes.NewReader(b); r.Len() > 0; {
		kind, _ := quicvarint.Read(r)
		length, err := quicvarint.Read(r)
		payload := make([]byte, min(length, uint64(r.Len())))
		if _, read := io.ReadFull(r, payload); err != nil || read != nil || uint64(len(payload)) < length {
			return "a broken frame"
		}
		switch kind {
		case dataFrame:
			body = append(body, payload...)
		case headersFrame:
			heads++
			next := qpack.NewDecoder().Decode(payload)
			for {
				f, err := next()
				if errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return "a broken field section"
				}
				fields = append(fields, field{f.Name, f.Value})
			}
		default:
			return fmt.Sprintf("a frame of kind %#x", kind)
		}
	}
	return fmt.Sprintf("%d field sections\n%s", heads, compared(fields, body))
}
