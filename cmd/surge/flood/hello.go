package flood

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// hellos is how many genuine Initials there are, so that one is sent again only when
// the handshake that it began has been given up: a server completes no more than some
// thousand in a second.
const hellos = 8192

// writeHellos writes the first datagrams of that many clients to a file, one after
// the other, all of initialLen bytes. A client that would need two datagrams, as with
// post-quantum keys, would cost the server less with one of them.
func writeHellos(ctx context.Context, file string, count int) error {
	sink := &sink{wanted: count, full: make(chan struct{}), closed: make(chan struct{})}
	transport := &quic.Transport{Conn: sink}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var dialing sync.WaitGroup
	for range 16 {
		dialing.Go(func() {
			for ctx.Err() == nil && !sink.isFull() {
				one, enough := context.WithTimeout(ctx, 5*time.Millisecond)
				// Nobody answers.
				_, _ = transport.Dial(one, sink.LocalAddr(), &tls.Config{
					ServerName: serverName, NextProtos: []string{http3.NextProtoH3}, CurvePreferences: []tls.CurveID{tls.X25519},
				}, &quic.Config{InitialPacketSize: initialLen, DisablePathMTUDiscovery: true})
				enough()
			}
		})
	}
	dialing.Wait()
	transport.Close()
	if !sink.isFull() {
		return fmt.Errorf("make %d ClientHellos: %w", count, context.Cause(ctx))
	}
	return os.WriteFile(file, sink.datagrams, 0o600)
}

// A sink is a socket that keeps the first datagram of each client.
type sink struct {
	wanted       int
	full, closed chan struct{}
	closing      sync.Once

	mu        sync.Mutex
	seen      map[string]bool
	datagrams []byte
}

// WriteTo implements net.PacketConn.
func (s *sink) WriteTo(b []byte, _ net.Addr) (int, error) {
	const initial, kind = 0xc0, 0xf0 // of the first byte, version 1
	if len(b) != initialLen || b[0]&kind != initial {
		return len(b), nil
	}
	id := string(b[6 : 6+b[5]])
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) < s.wanted && !s.seen[id] {
		if s.seen == nil {
			s.seen = map[string]bool{}
		}
		s.seen[id] = true
		s.datagrams = append(s.datagrams, b...)
		if len(s.seen) == s.wanted {
			close(s.full)
		}
	}
	return len(b), nil
}

func (s *sink) isFull() bool {
	select {
	case <-s.full:
		return true
	default:
		return false
	}
}

// ReadFrom implements net.PacketConn: nothing ever comes.
func (s *sink) ReadFrom([]byte) (int, net.Addr, error) {
	<-s.closed
	return 0, nil, net.ErrClosed
}

// Close implements net.PacketConn.
func (s *sink) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (s *sink) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

// SetReadBuffer does nothing. A transport asks for it, and complains of sockets without.
func (s *sink) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing either.
func (s *sink) SetWriteBuffer(int) error { return nil }

// SetDeadline implements net.PacketConn.
func (s *sink) SetDeadline(time.Time) error { return errors.ErrUnsupported }

// SetReadDeadline implements net.PacketConn. A transport sets one to stop reading.
func (s *sink) SetReadDeadline(time.Time) error { return s.Close() }

// SetWriteDeadline implements net.PacketConn.
func (s *sink) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
