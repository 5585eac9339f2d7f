package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/quic-go/quic-go"

	"spillway/edge/admit"
)

// A lookedAt context tells when somebody looks whether it has ended.
type lookedAt struct {
	context.Context
	look func()
}

func (c lookedAt) Err() error {
	c.look()
	return c.Context.Err()
}

// A drain that begins while a connection is admitted waits for it: the connection is
// counted before it is looked whether the node drains. What is refused is not counted.
func TestDrainWaitsForWhoIsBeingAdmitted(t *testing.T) {
	c := Config{Listen: "127.0.0.1:0", HTTP: "off", TLS: TLSConfig{SelfSigned: true}, HTTP3: HTTP3Config{Enabled: true}}
	l, err := NewListeners(c, testSteering(t), nil, admit.New(admit.Config{}, 1), http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Shutdown(t.Context())
	drain := l.drain
	defer func() { l.drain = drain }()
	f := func(what string, drains context.Context, left int64) {
		t.Helper()
		ctx, end := context.WithCancel(t.Context())
		defer end()
		looks := 0
		l.drain = lookedAt{drains, func() {
			if looks++; l.quic.alive.Load() != 1 {
				t.Errorf("%s: %d are counted when it is looked", what, l.quic.alive.Load())
			}
		}}
		l.quic.admit(ctx, &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv6loopback}})
		if n := l.quic.alive.Load(); n != left || looks == 0 {
			t.Errorf("%s: %d are counted after %d looks, want %d", what, n, looks, left)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	f("it drains", ended, 0)
	f("it does not", t.Context(), 1)
}
