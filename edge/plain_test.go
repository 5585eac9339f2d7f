package edge_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"spillway/edge/edgetest"
)

func plainNode(t *testing.T, connections int) *edgetest.Node {
	t.Helper()
	s := edgetest.New(http.HandlerFunc(whoAsks))
	s.Config.HTTP = "127.0.0.1:0"
	s.Admit.Connections = connections
	return s.Start(t)
}

// refusedPlain opens a connection that the node is to reset, be it while it opens.
func refusedPlain(t *testing.T, n *edgetest.Node) {
	t.Helper()
	conn, err := net.Dial("tcp", n.Listeners.HTTPAddr().String())
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection without a place is served")
	}
}

func dialPlain(t *testing.T, n *edgetest.Node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", n.Listeners.HTTPAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// awaitConnections waits until the node has so many.
func awaitConnections(t *testing.T, n *edgetest.Node, want int64) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); n.Admit.State().Connections != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%+v, want %d connections", n.Admit.State(), want)
		}
	}
}

// Connections to the port that only redirects take places like all others, and
// those that find none are reset.
func TestPlainConnectionsAreAdmitted(t *testing.T) {
	const places = 20
	n := plainNode(t, places)
	var idle []net.Conn
	for range places {
		idle = append(idle, dialPlain(t, n))
	}
	awaitConnections(t, n, places)
	for range places {
		refusedPlain(t, n)
	}
	if got := n.Admit.State(); got.Connections != places || got.RefusedFull != places || got.HalfOpen != 0 {
		t.Errorf("%+v", got)
	}
	for _, conn := range idle[1:] {
		conn.Close()
	}
	awaitConnections(t, n, 1)
	fmt.Fprintf(idle[0], "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", edgetest.Host)
	if b, err := io.ReadAll(idle[0]); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		t.Errorf("%q, %v", b, err)
	}
	awaitConnections(t, n, 0)
}
