package edge

import (
	"encoding/binary"
	"net"
	"time"
)

const (
	// retryPlaces is how many Retries quic-go keeps for the goroutine that sends them.
	// It drops the others, and their clients try again only after 200 ms.
	retryPlaces = 8
	// retryPatience bounds the wait for a place. A Retry takes some 50 µs.
	retryPatience = 10 * time.Millisecond
)

// A retrySocket is a UDP socket that sees when a Retry is sent, so that no more of
// them come into being than there are places. Whoever waits holds up nothing but
// other new connections, of which a thousand can wait. It has all methods of the
// *net.UDPConn, so that quic-go keeps its batches, offloads and ECN.
type retrySocket struct {
	*net.UDPConn
	places chan struct{} // that are taken
}

// withRetryPlaces returns what quic-go is to send by, and what waits for a place. The
// conn of a test that is no socket has none.
func withRetryPlaces(conn net.PacketConn) (net.PacketConn, func()) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return conn, func() {}
	}
	s := &retrySocket{udp, make(chan struct{}, retryPlaces)}
	return s, s.await
}

// await waits for a place.
func (s *retrySocket) await() {
	select {
	case s.places <- struct{}{}:
		return
	default:
	}
	late := time.NewTimer(retryPatience)
	defer late.Stop()
	select {
	case s.places <- struct{}{}:
	case <-late.C: // fail open: one too many is dropped
	}
}

// WriteMsgUDP implements quic.OOBCapablePacketConn.
func (s *retrySocket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if isRetry(b) {
		select {
		case <-s.places:
		default:
		}
	}
	return s.UDPConn.WriteMsgUDP(b, oob, addr)
}

// isRetry reports whether a packet is a Retry (RFC 9000 section 17.2.5), which version
// 2 numbers otherwise (RFC 9369 section 3.2).
func isRetry(packet []byte) bool {
	const version2 = 0x6b3343cf
	if len(packet) < 5 || packet[0]&0x80 == 0 {
		return false
	}
	kind := byte(0xf0)
	if binary.BigEndian.Uint32(packet[1:]) == version2 {
		kind = 0xc0
	}
	return packet[0]&0xf0 == kind
}
