package edge_test

import (
	"bytes"
	"errors"
	"io"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go/quicvarint"
)

// message3 reads an answer of HTTP/3: its last status, fields and body.
func message3(b []byte) (status string, fields map[string]string, body []byte, err error) {
	for r := bytes.NewReader(b); r.Len() > 0; {
		kind, _ := quicvarint.Read(r)
		length, err := quicvarint.Read(r)
		if err != nil || length > uint64(r.Len()) {
			return "", nil, nil, errors.New("a broken frame")
		}
		payload := make([]byte, length)
		r.Read(payload)
		switch kind {
		case dataFrame:
			body = append(body, payload...)
		case headersFrame:
			fields = map[string]string{}
			next := qpack.NewDecoder().Decode(payload)
			for {
				f, err := next()
				if errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return "", nil, nil, err
				}
				fields[f.Name] += f.Value
			}
			status = fields[":status"]
		}
	}
	return status, fields, body, nil
}
