package faas

import (
	"net"
	"net/http/httptrace"
	"testing"
)

// A second connection is of no use once the request was written: it is closed
// before anything is written to it, for HTTP/1 does not look at the context.
func TestSendOnce(t *testing.T) {
	ctx, sent := SendOnce(t.Context())
	if sent() {
		t.Error("sent before there was a connection")
	}
	trace := httptrace.ContextClientTrace(ctx)
	connection := func() (closed bool) {
		conn, peer := net.Pipe()
		defer peer.Close()
		defer conn.Close()
		trace.GotConn(httptrace.GotConnInfo{Conn: conn})
		go peer.Read(make([]byte, 1))
		_, err := conn.Write([]byte("x"))
		return err != nil
	}
	// An idle connection that is dead before anything was written is no call.
	for range 2 {
		if connection() || ctx.Err() != nil || !sent() {
			t.Errorf("closed or canceled before anything was written: %v, sent %t", ctx.Err(), sent())
		}
	}
	trace.WroteHeaders()
	if !connection() || ctx.Err() == nil {
		t.Errorf("the request may be written a second time: %v", ctx.Err())
	}
}
