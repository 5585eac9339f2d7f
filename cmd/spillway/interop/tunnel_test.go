package interop

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// TestWebSocketOverHTTP3 opens a WebSocket by the extended CONNECT of RFC 9220
// with quic-go's client, which leaves the frames to us.
func TestWebSocketOverHTTP3(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	conn, err := dial(t.Context(), n.addr, n.tls(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	client := (&http3.Transport{}).NewClientConn(conn)
	select {
	case <-client.ReceivedSettings():
	case <-conn.Context().Done():
		t.Fatalf("the node says nothing of itself: %v", context.Cause(conn.Context()))
	}
	if !client.Settings().EnableExtendedConnect {
		t.Fatal("the node does not announce the extended CONNECT")
	}
	stream, err := client.OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.SendRequestHeader(&http.Request{
		Method: http.MethodConnect, Proto: "websocket", Host: "localhost:" + n.port,
		URL:    &url.URL{Scheme: "https", Host: "localhost:" + n.port, Path: "/socket"},
		Header: http.Header{"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Protocol": {"echo"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Sec-Websocket-Protocol") != "echo" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	for range 3 {
		word := make([]byte, 30)
		rand.Read(word)
		text := base64.StdEncoding.EncodeToString(word)
		if _, err := stream.Write(maskedText(text)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 2+len(text))
		if _, err := io.ReadFull(stream, got); err != nil || got[0] != 0x81 || string(got[2:]) != text {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	stream.Close()
	n.atRest(t)
}

// maskedText is a frame as clients send it (RFC 6455 section 5.2), of less than
// 126 bytes.
func maskedText(text string) []byte {
	mask := [4]byte{1, 2, 3, 4}
	frame := append([]byte{0x81, 0x80 | byte(len(text))}, mask[:]...)
	for i := range len(text) {
		frame = append(frame, text[i]^mask[i%4])
	}
	return frame
}
