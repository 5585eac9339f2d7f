package edge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// The frames of RFC 9114 section 7.2, and its control stream.
const (
	dataFrame     = 0
	headersFrame  = 1
	settingsFrame = 4
	controlStream = 0
)

func appendFrame(b []byte, kind uint64, payload []byte) []byte {
	b = quicvarint.Append(quicvarint.Append(b, kind), uint64(len(payload)))
	return append(b, payload...)
}

func appendHeaders(b []byte, fields []field) []byte {
	var block bytes.Buffer
	e := qpack.NewEncoder(&block)
	for _, f := range fields {
		e.WriteField(qpack.HeaderField{Name: f.name, Value: f.value})
	}
	return appendFrame(b, headersFrame, block.Bytes())
}

// stream3 sends a case as HTTP/3 does and says what came of it.
func (n *front) stream3(t *testing.T, c stream) string {
	b := appendHeaders(nil, c.fields)
	if c.body != "" {
		b = appendFrame(b, dataFrame, []byte(c.body))
	}
	if c.trailer != nil {
		b = appendHeaders(b, c.trailer)
	}
	return n.bytes3(t, b)
}

// bytes3 sends bytes as one request stream.
func (n *front) bytes3(t *testing.T, b []byte) string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	config := n.node.Client.Clone()
	config.NextProtos = []string{"h3"}
	conn, err := quic.DialAddr(ctx, n.node.Listeners.Addr().String(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0x100, "") // H3_NO_ERROR
	control, err := conn.OpenUniStream()
	if err != nil {
		t.Fatal(err)
	}
	control.Write(appendFrame([]byte{controlStream}, settingsFrame, nil))
	s, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(10 * time.Second))
	s.Write(b)
	s.Close()
	got, err := io.ReadAll(s)
	if err != nil {
		return "reset"
	}
	return answer3(got)
}

// answer3 reads the frames of an answer.
func answer3(b []byte) string {
	status, answers := "", ""
	r := bytes.NewReader(b)
	for r.Len() > 0 {
		kind, _ := quicvarint.Read(r)
		length, err := quicvarint.Read(r)
		payload := make([]byte, min(length, uint64(r.Len())))
		if _, read := io.ReadFull(r, payload); err != nil || read != nil {
			return "a broken frame"
		}
		if kind != headersFrame {
			continue
		}
		next := qpack.NewDecoder().Decode(payload)
		for {
			f, err := next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return "a broken field section"
			}
			switch f.Name {
			case ":status":
				status = f.Value
			case "answers":
				answers += f.Value
			}
		}
	}
	return outcomeOf(status, answers)
}
