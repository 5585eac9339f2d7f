package interop

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// echoSocket sends back what it gets.
func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{"echo"}, InsecureSkipVerify: true,
	})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	o := newOrigin(t)
	n := startNode(t, settings{server: o.URL})
	transport := &http.Transport{TLSClientConfig: n.tls("http/1.1")}
	defer transport.CloseIdleConnections()
	c, resp, err := websocket.Dial(t.Context(), "wss://localhost:"+n.port+"/socket", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"echo"},
	})
	if err != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	if c.Subprotocol() != "echo" {
		t.Errorf("the subprotocol is %q", c.Subprotocol())
	}
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 500_000} {
		sent := pattern(size)
		if err := c.Write(t.Context(), websocket.MessageBinary, sent); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("sent %d bytes, got %d: %v", size, len(got), err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error(err)
	}
	n.atRest(t)
}
