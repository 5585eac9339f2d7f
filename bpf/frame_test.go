package bpf

import (
	"encoding/binary"
	"net/netip"
)

const (
	testUDPPort  = 443
	testTCPPort  = 443
	testTCPPort2 = 80
	clientPort   = 40000
)

var (
	client4 = netip.MustParseAddr("192.0.2.7")
	client6 = netip.MustParseAddr("2001:db8:1:2ff::7")
	node4   = netip.MustParseAddr("198.51.100.1")
	node6   = netip.MustParseAddr("2001:db8:ffff::1")
)

// The parts of frames, each with what it carries.

func ethernet(etherType uint16, payload []byte) []byte {
	frame := make([]byte, 14, 14+len(payload))
	frame[5], frame[11] = 1, 2
	binary.BigEndian.PutUint16(frame[12:], etherType)
	return append(frame, payload...)
}

// vlan puts tags of the given types (0x8100, 0x88a8) into a frame.
func vlan(frame []byte, tags ...uint16) []byte {
	inner := frame[12:]
	for i := len(tags) - 1; i >= 0; i-- {
		tag := binary.BigEndian.AppendUint16(nil, tags[i])
		inner = append(append(tag, 0, byte(i+1)), inner...)
	}
	return append(append([]byte(nil), frame[:12]...), inner...)
}

func ipv4(source netip.Addr, protocol byte, options int, fragment uint16, payload []byte) []byte {
	h := make([]byte, 20+options, 20+options+len(payload))
	h[0] = 0x40 | byte(len(h)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(payload)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h[8], h[9] = 64, protocol
	copy(h[12:], source.AsSlice())
	copy(h[16:], node4.AsSlice())
	return ethernet(0x0800, append(h, payload...))
}

func ipv6(source netip.Addr, next byte, payload []byte) []byte {
	h := make([]byte, 40, 40+len(payload))
	h[0] = 0x60
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	h[6], h[7] = next, 64
	copy(h[8:], source.AsSlice())
	copy(h[24:], node6.AsSlice())
	return ethernet(0x86dd, append(h, payload...))
}

// extension is a header of IPv6 in front of what comes next, in words of 8 bytes.
func extension(next byte, words int, payload []byte) []byte {
	h := make([]byte, 8*words, 8*words+len(payload))
	h[0], h[1] = next, byte(words-1)
	return append(h, payload...)
}

func fragment6(next byte, offsetAndMore uint16, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	h[0] = next
	binary.BigEndian.PutUint16(h[2:], offsetAndMore)
	return append(h, payload...)
}

func udp(port uint16, payload []byte) []byte {
	h := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(h, clientPort)
	binary.BigEndian.PutUint16(h[2:], port)
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(payload)))
	return append(h, payload...)
}

func tcp(port uint16, flags byte) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, clientPort)
	binary.BigEndian.PutUint16(h[2:], port)
	h[12], h[13] = 5<<4, flags
	return h
}

const (
	synFlag = 0x02
	rstFlag = 0x04
	ackFlag = 0x10
	finFlag = 0x01

	version1 = 0x00000001
	version2 = 0x6b3343cf
)

// The types of long headers, as version 1 counts them.
const (
	initial = iota
	zeroRTT
	handshake
	retry
)

// long is a packet with a long header, in the type numbers of its version, with the
// length of a datagram.
func long(version uint32, kind byte, id []byte, length int) []byte {
	if version == version2 {
		kind = (kind + 1) & 3
	}
	b := binary.BigEndian.AppendUint32([]byte{0xc0 | kind<<4}, version)
	b = append(append(b, byte(len(id))), id...)
	b = append(b, 0)
	return append(b, make([]byte, max(0, length-len(b)))...)
}

func short(id []byte, length int) []byte {
	b := append([]byte{0x40}, id...)
	return append(b, make([]byte, max(0, length-len(b)))...)
}

func udp4(payload []byte) []byte { return ipv4(client4, protocolUDP, 0, 0, udp(testUDPPort, payload)) }
func udp6(payload []byte) []byte { return ipv6(client6, protocolUDP, udp(testUDPPort, payload)) }
