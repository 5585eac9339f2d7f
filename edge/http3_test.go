package edge_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"spillway/edge/edgetest"
)

// A visitor who takes no stream from the node, and so no control stream, is no visitor
// over HTTP/3. The node's own PINGs would keep its connection for ever.
func TestNoRoomForTheControlStreamEndsTheConnection(t *testing.T) {
	s := edgetest.New(http.HandlerFunc(echoProto))
	s.Virtual(t, func(t *testing.T, n *edgetest.Node) {
		conn, err := n.Dial(t, &quic.Config{MaxIncomingUniStreams: -1})
		// In the handshake an application's close does not tell why (RFC 9000 section 10.2.3).
		if early := new(quic.TransportError); errors.As(err, &early) && early.Remote && early.ErrorCode == quic.ApplicationErrorErrorCode {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-conn.Context().Done():
		case <-time.After(time.Hour):
			t.Errorf("after an hour: %+v", n.Listeners.State())
		}
	})
}
