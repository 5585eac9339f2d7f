package edge

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"spillway/edge/admit"
)

// A panic is told of every ten seconds, and a clock that is set back silences
// none.
func TestPanicsAreToldOnceInAWhile(t *testing.T) {
	var log bytes.Buffer
	p := newPanicsOnly(slog.NewTextHandler(&log, nil))
	f := func(at time.Duration, message string, want bool) {
		t.Helper()
		log.Reset()
		if err := p.Handle(context.Background(), slog.NewRecord(day0.Add(at), slog.LevelDebug, message, 0)); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "level=ERROR"); got != want {
			t.Errorf("%s at %v: told %v, want %v", message, at, got, want)
		}
	}
	f(0, "http: panic serving 192.0.2.1:4711: boom", true)
	if strings.Contains(log.String(), "192.0.2.1") || !strings.Contains(log.String(), "boom") {
		t.Errorf("logged %s", log.String())
	}
	f(time.Second, "http: panic serving 192.0.2.1", false)
	f(time.Second, "http: TLS handshake error", false)
	f(panicEvery, "http2: panic serving 192.0.2.1", true)
	f(-24*time.Hour, "http: panic serving 192.0.2.1", true)
}

// A node that closes an idle connection says nothing over HTTP/1.1: a request
// that is on its way would take it for its answer.
func TestGoAwaySaysNothingOverHTTP1(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	c := &connection{tcp: server}
	c.goAway(http2.ErrCodeNo)
	if _, err := server.Write([]byte("400")); err == nil {
		t.Error("the connection is open")
	}
	if c.farewell.Load() != nil {
		t.Error("its server will say something")
	}
}

// What the kernel takes of an answer before the network does would hide for
// minutes that a slow visitor takes it.
func TestTCPLeavesLittleInTheKernel(t *testing.T) {
	c := Config{Listen: "127.0.0.1:0", HTTP: "off", TLS: TLSConfig{SelfSigned: true}}
	l, err := NewListeners(c, testSteering(t), nil, admit.New(admit.Config{}, 1), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Shutdown(t.Context())
	visitor, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer visitor.Close()
	raw, err := l.socks.TCP.Accept()
	if err != nil {
		t.Fatal(err)
	}
	l.tcp.take(raw)
	defer raw.Close()
	control, err := raw.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var got int
	if failed := control.Control(func(fd uintptr) {
		got, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
	}); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	if got != unsent {
		t.Errorf("the kernel takes %d bytes, want %d", got, unsent)
	}
}
