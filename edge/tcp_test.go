package edge

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
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
