package edge

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// retryPlaces is how many Retries quic-go keeps for the goroutine that sends them.
// It drops the others, and their clients try again only after 200 ms.
const retryPlaces = 8

// retryPatience bounds the wait for a place. A Retry takes some 50 µs.
var retryPatience = 10 * time.Millisecond

// A watchedSocket is a UDP socket that sees when a Retry is sent, so that no more of them
// come into being than there are places, and how many first packets were read (see
// intake). Whoever waits for a place holds up nothing but other new connections, of which a
// thousand can wait. It has all methods of the *net.UDPConn, so that quic-go keeps its
// batches, offloads and ECN. Nil watches nothing.
type watchedSocket struct {
	*net.UDPConn
	batch  *ipv4.PacketConn
	places chan struct{} // that are taken
	intake intake
	// heldLast is the reader's: it gave out held packets last.
	heldLast bool

	deadline sync.Mutex // of reads
	ending   bool       // quic-go has set it
}

// watch returns what quic-go is to send and read by, and who watches it, and counts what is
// lost there: nobody does for the conn of a test that is no socket.
func watch(conn net.PacketConn, lost *unprocessed) (net.PacketConn, *watchedSocket) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return conn, nil
	}
	s := &watchedSocket{UDPConn: udp, batch: ipv4.NewPacketConn(udp), places: make(chan struct{}, retryPlaces), intake: intake{lost: lost}}
	return s, s
}

// took notes that quic-go has come to the first packet with this address.
func (s *watchedSocket) took(from net.Addr) {
	if s != nil {
		s.intake.took(from, time.Now())
	}
}

// await waits for a place.
func (s *watchedSocket) await() {
	if s == nil {
		return
	}
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
func (s *watchedSocket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if isRetry(b) {
		select {
		case <-s.places:
		default:
		}
	}
	return s.UDPConn.WriteMsgUDP(b, oob, addr)
}

// The versions of QUIC that quic-go speaks. The types of packets with long headers (RFC 9000
// section 17.2) have other numbers in version 2 (RFC 9369 section 3.2).
const version1, version2 = 1, 0x6b3343cf

// isRetry reports whether a packet is a Retry.
func isRetry(packet []byte) bool { return isLong(packet, 0xf0, 0xc0) }

// isInitial reports whether a packet is an Initial.
func isInitial(packet []byte) bool { return isLong(packet, 0xc0, 0xd0) }

// isLong reports whether a packet has a long header of this type, as it begins in version 1
// or 2. In others nothing is known of it, and quic-go does little for it.
func isLong(packet []byte, v1, v2 byte) bool {
	if len(packet) < 5 || packet[0]&0x80 == 0 {
		return false
	}
	switch binary.BigEndian.Uint32(packet[1:]) {
	case version1:
		return packet[0]&0xf0 == v1
	case version2:
		return packet[0]&0xf0 == v2
	}
	return false
}
