package flood

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// Lengths of the headers.
const (
	ethernetLen = 14
	ipLen       = 20
	udpLen      = 8
	synLen      = 24 // with the maximum segment size
	headerLen   = ethernetLen + ipLen + udpLen
	// initialLen is the least of a client's datagram with an Initial (RFC 9000
	// section 14.1).
	initialLen = 1200
)

// cidLen is the length of a client's first connection ID, the least allowed (RFC 9000
// section 7.2).
const cidLen = 8

// putHeaders writes the headers of a datagram with a payload of that length. The
// source and the checksum of IP are missing; that of UDP may be (RFC 768).
func putHeaders(frame []byte, to netip.AddrPort, protocol byte, payload int) {
	copy(frame, nodeMAC)
	copy(frame[6:], outsideMAC)
	binary.BigEndian.PutUint16(frame[12:], 0x0800)
	h := frame[ethernetLen:]
	clear(h[:ipLen])
	h[0] = 0x45
	binary.BigEndian.PutUint16(h[2:], uint16(ipLen+payload))
	h[8], h[9] = 64, protocol
	copy(h[16:], to.Addr().AsSlice())
}

// Protocols of IPv4.
const (
	protocolTCP = 6
	protocolUDP = 17
)

// putUDP writes the headers of a datagram from a source.
func putUDP(frame []byte, from, to netip.AddrPort, payload int) {
	putHeaders(frame, to, protocolUDP, udpLen+payload)
	putSource(frame, from.Addr())
	h := frame[ethernetLen+ipLen:]
	binary.BigEndian.PutUint16(h, from.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	binary.BigEndian.PutUint16(h[4:], uint16(udpLen+payload))
	binary.BigEndian.PutUint16(h[6:], 0)
}

// putSYN writes a whole frame that asks for a connection.
func putSYN(frame []byte, from, to netip.AddrPort, sequence uint32) {
	putHeaders(frame, to, protocolTCP, synLen)
	putSource(frame, from.Addr())
	h := frame[ethernetLen+ipLen:][:synLen]
	clear(h)
	binary.BigEndian.PutUint16(h, from.Port())
	binary.BigEndian.PutUint16(h[2:], to.Port())
	binary.BigEndian.PutUint32(h[4:], sequence)
	h[12], h[13] = synLen/4<<4, 2
	binary.BigEndian.PutUint16(h[14:], 64240)
	copy(h[20:], []byte{2, 4, 1460 >> 8, 1460 & 0xff})
	// The checksum is also of a pseudo header (RFC 9293 section 3.1).
	addresses := frame[ethernetLen+12 : ethernetLen+ipLen]
	binary.BigEndian.PutUint16(h[16:], ^fold(sum(addresses)+protocolTCP+synLen+sum(h)))
}

// putSource completes the header of IP.
func putSource(frame []byte, from netip.Addr) {
	h := frame[ethernetLen : ethernetLen+ipLen]
	source := from.As4()
	copy(h[12:], source[:])
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^fold(sum(h)))
}

// sum and fold are the checksum of the Internet (RFC 1071).
func sum(b []byte) uint32 {
	var s uint32
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	return s
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// newGarbage returns an Initial whose header is right (RFC 9000 section 17.2.2) and
// whose payload means nothing: a server derives keys and decrypts before it knows.
func newGarbage(random *rand.Rand) []byte {
	b := make([]byte, initialLen)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	header := []byte{0xc3, 0, 0, 0, 1, cidLen}
	n := copy(b, header) + cidLen
	b[n], b[n+1] = 0, 0 // no connection ID of its own, no token
	n += 2
	binary.BigEndian.PutUint16(b[n:], uint16(0x4000|(initialLen-n-2)))
	return b
}

// garbageID is where the connection ID of a newGarbage is.
func garbageID(b []byte) []byte { return b[6 : 6+cidLen] }
