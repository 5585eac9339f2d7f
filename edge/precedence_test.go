package edge

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"spillway/edge/admit"
)

// TestPrecedence has one processor, on which a handshake and a visitor's request become
// ready at the same time: the request is first. The runtime looks into the common queue
// once in some sixty times before all else, so that a few may be an exception.
func TestPrecedence(t *testing.T) {
	s, _, err := newTestTLS(t, writePair(t, t.TempDir(), time.Now().Add(time.Hour), false))
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	f := func(what string, handshake func()) {
		t.Helper()
		const rounds = 200
		first := 0
		for range rounds {
			s.newcomers.until.Store(nil) // the machine may have kept the last one waiting
			var served atomic.Bool
			done := make(chan struct{})
			go func() {
				served.Store(true)
				close(done)
			}()
			handshake()
			if served.Load() {
				first++
			}
			<-done
		}
		if first < rounds*3/4 {
			t.Errorf("%s: the request was first %d times of %d", what, first, rounds)
		}
	}
	shake := func(c *tls.Config) func() {
		return func() {
			if _, err := c.GetConfigForClient(hello("edge.test", true)); err != nil {
				t.Error(err)
			}
		}
	}
	f("TCP", shake(s.tcp()))
	f("QUIC", shake(s.quic()))
	l := &Listeners{admit: admit.New(admit.Config{}, 1), tls: s}
	l.drain, l.leave = t.Context(), t.Context()
	q := &quicServer{l: l}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	f("a first packet", func() {
		if _, err := q.admit(ctx, &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv6loopback}}); err != nil {
			t.Error(err)
		}
	})
	if n := s.newcomers.waiting.Load(); n != 0 {
		t.Errorf("%d handshakes wait, and there are none", n)
	}
}

// TestPrecedenceHasAnEnd: newcomers who had to wait for long do not give way at once again.
func TestPrecedenceHasAnEnd(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const rounds = 40
	went := 0
	for range rounds {
		var p precedence
		go func() {
			for begun := time.Now(); time.Since(begun) < 5*time.Millisecond; { // as who has work does
			}
		}()
		p.giveWay()
		var served atomic.Bool
		done := make(chan struct{})
		go func() {
			served.Store(true)
			close(done)
		}()
		p.giveWay()
		if !served.Load() {
			went++
		}
		<-done
	}
	if went < rounds*3/4 {
		t.Errorf("the second newcomer went on %d times of %d", went, rounds)
	}
}
