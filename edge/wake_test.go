package edge

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// A heldDeadline is a connection on which a deadline that is set takes effect when the
// test lets it.
type heldDeadline struct {
	net.Conn
	comes, goesOn chan struct{} // nil: at once
}

func (c *heldDeadline) SetReadDeadline(t time.Time) error {
	if c.comes != nil && t.Equal(past) {
		c.comes <- struct{}{}
		<-c.goesOn
	}
	return c.Conn.SetReadDeadline(t)
}

// A reader that is woken twice takes neither for an error, even if the second deadline
// comes when the first was lifted.
func TestFastHTTP2WokenTwice(t *testing.T) {
	certificates := httptest.NewTLSServer(nil)
	certificates.Close()
	near, far := net.Pipe()
	held := &heldDeadline{Conn: near}
	conn := tls.Server(held, &tls.Config{Certificates: certificates.TLS.Certificates})
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	f := &fastHTTP2{conn: &frameConn{Conn: conn}}
	f.window.init()
	f.window.grant(1)

	f.wake()
	held.comes, held.goesOn = make(chan struct{}), make(chan struct{})
	second := make(chan struct{})
	go func() {
		f.wake()
		close(second)
	}()
	<-held.comes
	p := make([]byte, 1)
	if n, err := f.receive(p); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	close(held.goesOn)
	<-second
	if n, err := f.receive(p); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	go io.WriteString(client, "x")
	if n, err := f.receive(p); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	far.Close()
	if _, err := f.receive(p); err == nil {
		t.Error("no error at the end")
	}
}
