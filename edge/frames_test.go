package edge

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"golang.org/x/net/http2"
)

// Wherever the server's writes end when the visitor is to be told to go, the first
// GOAWAY comes between two frames, and not amid a header block (RFC 9113 section 6.10).
func TestGoAwayComesBetweenFrames(t *testing.T) {
	certificate := httptest.NewTLSServer(http.NotFoundHandler())
	defer certificate.Close()
	var stream bytes.Buffer
	w := http2.NewFramer(&stream, nil)
	w.WriteSettings()
	w.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("all"), EndHeaders: true})
	w.WriteData(1, true, []byte("body"))
	w.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: []byte("first"), EndStream: true})
	w.WriteContinuation(3, false, []byte("second"))
	w.WriteContinuation(3, true, nil)
	w.WriteData(5, false, nil)
	for cut := range stream.Len() + 1 {
		near, far := net.Pipe()
		c := &frameConn{Conn: tls.Server(near, certificate.TLS)}
		go func() {
			c.Write(stream.Bytes()[:cut])
			c.goAway()
			c.Write(stream.Bytes()[cut:])
			c.Close()
		}()
		r := http2.NewFramer(nil, tls.Client(far, &tls.Config{InsecureSkipVerify: true})) // which minds the order
		var got []http2.FrameType
		for {
			frame, err := r.ReadFrame()
			if err != nil {
				if reason := r.ErrorDetail(); reason != nil {
					t.Errorf("told after %d bytes: %v", cut, reason)
				}
				break
			}
			got = append(got, frame.Header().Type)
		}
		far.Close()
		told := slices.Index(got, http2.FrameGoAway)
		if told < 1 || len(got) != 8 {
			t.Errorf("told after %d bytes: frames %v", cut, got)
		}
	}
}
