package edge_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"spillway/edge/edgetest"
)

// A slowAccept is a socket that had accepted a connection, and did not say so yet, when
// it was closed.
type slowAccept struct {
	net.Listener
	accepted, resume chan struct{}
}

// Accept implements net.Listener.
func (s slowAccept) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err == nil {
		close(s.accepted)
	}
	<-s.resume
	return conn, err
}

// A connection of plain HTTP is answered too if it was accepted as the node began to
// take leave.
func TestLeaveAnswersPlainHTTPThatItAccepted(t *testing.T) {
	eachWay(t, func(t *testing.T, leave departure) {
		s := edgetest.New(http.HandlerFunc(echoProto))
		s.Config.HTTP, s.Config.HTTP3.Enabled = "127.0.0.1:0", false
		socks := open(t, &s)
		slow := slowAccept{socks.HTTP, make(chan struct{}), make(chan struct{})}
		socks.HTTP = slow
		n := s.StartOn(t, socks)
		conn, err := net.Dial("tcp", slow.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", edgetest.Host)
		<-slow.accepted
		done := leave(t.Context(), n)
		select {
		case err := <-done:
			t.Errorf("left with a connection that was accepted: %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		close(slow.resume)
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Error(err)
		} else {
			read(t, resp)
		}
		if err := <-done; err != nil {
			t.Errorf("leave: %v", err)
		}
	})
}
