package bpf

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
)

// A packetCase is a frame and what becomes of it, by level: normal, guarded,
// shedding, closed.
type packetCase struct {
	name  string
	frame []byte
	want  [4]Reason
}

func always(r Reason) [4]Reason                   { return [4]Reason{r, r, r, r} }
func unlessNormal(normal, other Reason) [4]Reason { return [4]Reason{normal, other, other, other} }
func unlessClosed(r Reason) [4]Reason             { return [4]Reason{r, r, r, PassTrickle} }

var chosen8 = []byte("8 octets")

func packetCases(ids *ConnectionIDs) []packetCase {
	first := udp(testUDPPort, long(version1, initial, chosen8, 1200))
	own := ids.New(3)
	forged := bytes.Clone(own)
	forged[len(forged)-1] ^= 1
	otherSlot := bytes.Clone(own)
	otherSlot[len(otherSlot)-11] ^= 1
	otherEpoch := bytes.Clone(own)
	otherEpoch[len(otherEpoch)-11] ^= 0x80
	withFixedBitZero := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[0] &^= 0x40
		return b
	}
	padded := func(length int) []byte { return long(version1, initial, chosen8, length) }

	cases := []packetCase{
		{"ARP", ethernet(0x0806, make([]byte, 28)), always(PassOther)},
		{"a frame without a header", ethernet(0x0800, make([]byte, 19)), unlessNormal(PassMalformed, DropMalformed)},
		{"ICMP", ipv4(client4, 1, 0, 0, make([]byte, 8)), always(PassOther)},
		{"UDP to another port", ipv4(client4, protocolUDP, 0, 0, udp(53, make([]byte, 30))), always(PassOther)},
		{"TCP to another port", ipv4(client4, protocolTCP, 0, 0, tcp(22, synFlag)), always(PassOther)},
		{"IPv4 of version 5", withByte(udp4(first), 14, 0x55), unlessNormal(PassMalformed, DropMalformed)},
		{"IPv4 with a header of 16 bytes", withByte(udp4(first), 14, 0x44), unlessNormal(PassMalformed, DropMalformed)},

		{"Initial", ipv4(client4, protocolUDP, 0, 0, first), unlessClosed(PassNewQUIC)},
		{"Initial, IPv6", ipv6(client6, protocolUDP, first), unlessClosed(PassNewQUIC)},
		{"Initial behind options", ipv4(client4, protocolUDP, 40, 0, first), unlessClosed(PassNewQUIC)},
		{"Initial in a VLAN", vlan(ipv4(client4, protocolUDP, 0, 0, first), 0x8100), unlessClosed(PassNewQUIC)},
		{"Initial in a VLAN in a VLAN", vlan(ipv6(client6, protocolUDP, first), 0x88a8, 0x8100), unlessClosed(PassNewQUIC)},
		{"Initial behind three tags", vlan(ipv4(client4, protocolUDP, 0, 0, first), 0x88a8, 0x8100, 0x8100), always(PassOther)},

		{"Initial of version 2", udp4(long(version2, initial, chosen8, 1200)), unlessClosed(PassNewQUIC)},
		{"Initial with the longest ID", udp4(long(version1, initial, make([]byte, 20), 1200)), unlessClosed(PassNewQUIC)},
		{"Initial with an ID as long as ours", udp4(long(version1, initial, make([]byte, ids.Len()), 1200)), unlessClosed(PassNewQUIC)},
		{"Initial of 1199 bytes", udp4(padded(1199)), always(DropSmallInitial)},
		{"Initial with an ID of 7 bytes", udp4(long(version1, initial, chosen8[:7], 1200)), always(DropConnectionID)},
		{"Initial with an ID of 21 bytes", udp4(long(version1, initial, make([]byte, 21), 1200)), always(DropConnectionID)},
		{"Initial with the fixed bit zero", udp4(withFixedBitZero(padded(1200))), always(DropFixedBit)},
		{"0-RTT", udp4(long(version1, zeroRTT, chosen8, 400)), unlessClosed(PassNewQUIC)},
		{"0-RTT of version 2", udp4(long(version2, zeroRTT, chosen8, 400)), unlessClosed(PassNewQUIC)},
		{"0-RTT with an ID of 7 bytes", udp4(long(version1, zeroRTT, chosen8[:7], 400)), always(DropConnectionID)},
		{"Handshake of nobody", udp4(long(version1, handshake, chosen8, 300)), always(DropForeignHandshake)},
		{"Handshake of nobody, version 2", udp4(long(version2, handshake, chosen8, 300)), always(DropForeignHandshake)},
		{"Handshake without an ID", udp4(long(version1, handshake, nil, 300)), always(DropForeignHandshake)},
		{"Retry", udp4(long(version1, retry, chosen8, 1200)), always(DropRetry)},
		{"Retry of version 2", udp4(long(version2, retry, chosen8, 1200)), always(DropRetry)},
		{"version negotiation", udp4(long(0, initial, chosen8, 1200)), always(DropVersionNegotiation)},
		{"version negotiation with the fixed bit zero", udp4(withFixedBitZero(long(0, initial, chosen8, 1200))), always(DropVersionNegotiation)},
		{"a version to come", udp4(long(0x0a1a2a3a, initial, chosen8, 1200)), unlessNormal(PassUnknownVersion, DropUnknownVersion)},
		{"a version to come with the fixed bit zero", udp4(withFixedBitZero(long(0x0a1a2a3a, initial, chosen8, 1200))), unlessNormal(PassUnknownVersion, DropUnknownVersion)},
		{"a version to come with an ID of 255 bytes", udp4(long(0x0a1a2a3a, initial, make([]byte, 255), 1200)), unlessNormal(PassUnknownVersion, DropUnknownVersion)},
		{"a long header of 6 bytes", udp4(padded(0)[:6]), unlessNormal(PassMalformed, DropMalformed)},
		{"UDP without a payload", udp4(nil), unlessNormal(PassMalformed, DropMalformed)},
		{"UDP of length 7", withByte(withByte(udp4(padded(1200)), 14+20+4, 0), 14+20+5, 7), unlessNormal(PassMalformed, DropMalformed)},

		{"short header of ours", udp4(short(own, 40)), always(PassEstablishedQUIC)},
		{"short header of ours, IPv6", udp6(short(own, 40)), always(PassEstablishedQUIC)},
		{"short header that ends with our ID", udp4(short(own, 0)), always(PassEstablishedQUIC)},
		{"short header that ends within our ID", udp4(short(own[:len(own)-1], 0)), unlessNormal(PassUnmatched, DropUnmatched)},
		{"short header that ends within our ID, in a padded frame", append(udp4(short(own[:len(own)-1], 0)), own[len(own)-1]), unlessNormal(PassUnmatched, DropUnmatched)},
		{"short header with the fixed bit zero", udp4(withFixedBitZero(short(own, 40))), always(DropFixedBit)},
		{"short header with a wrong tag", udp4(short(forged, 40)), unlessNormal(PassUnmatched, DropUnmatched)},
		{"short header with another slot", udp4(short(otherSlot, 40)), unlessNormal(PassUnmatched, DropUnmatched)},
		{"short header with the tag of the other epoch", udp4(short(otherEpoch, 40)), unlessNormal(PassUnmatched, DropUnmatched)},
		{"Handshake of ours", udp4(long(version1, handshake, own, 300)), always(PassEstablishedQUIC)},
		{"Handshake of ours, version 2", udp6(long(version2, handshake, own, 300)), always(PassEstablishedQUIC)},
		{"Handshake with a wrong tag", udp4(long(version1, handshake, forged, 300)), always(DropForeignHandshake)},
		{"Initial after a Retry", udp4(long(version1, initial, own, 1200)), always(PassProven)},
		{"Initial after a Retry, version 2", udp6(long(version2, initial, own, 1200)), always(PassProven)},
		{"Initial after a Retry of 1199 bytes", udp4(long(version1, initial, own, 1199)), always(DropSmallInitial)},
		{"0-RTT after a Retry", udp4(long(version1, zeroRTT, own, 100)), always(PassProven)},
		{"Initial with a wrong tag", udp4(long(version1, initial, forged, 1200)), unlessClosed(PassNewQUIC)},

		{"fragment of UDP, the first", ipv4(client4, protocolUDP, 0, 0x2000, first), unlessNormal(PassFragment, DropFragment)},
		{"fragment of UDP, a later one", ipv4(client4, protocolUDP, 0, 0x0010, first), unlessNormal(PassFragment, DropFragment)},
		{"UDP that must not be fragmented", ipv4(client4, protocolUDP, 0, 0x4000, first), unlessClosed(PassNewQUIC)},
		{"fragment of UDP to another port, the first", ipv4(client4, protocolUDP, 0, 0x2000, udp(53, first)), always(PassOther)},
		{"fragment of TCP, the first", ipv4(client4, protocolTCP, 0, 0x2000, tcp(testTCPPort, synFlag)), unlessClosed(PassNewTCP)},
		{"fragment of TCP, the first, without all of the header", ipv4(client4, protocolTCP, 0, 0x2000, tcp(testTCPPort, synFlag)[:16]), unlessNormal(PassMalformed, DropMalformed)},
		{"fragment of TCP, a later one", ipv4(client4, protocolTCP, 0, 0x0001, tcp(testTCPPort, synFlag)), always(PassFragment)},
		{"fragment of ICMP", ipv4(client4, 1, 0, 0x2000, make([]byte, 8)), always(PassOther)},
		{"fragment of UDP, IPv6", ipv6(client6, 44, fragment6(protocolUDP, 1, first)), unlessNormal(PassFragment, DropFragment)},
		{"fragment of UDP, IPv6, a later one", ipv6(client6, 44, fragment6(protocolUDP, 8, first)), unlessNormal(PassFragment, DropFragment)},
		{"fragment of what is behind options, IPv6", ipv6(client6, 44, fragment6(60, 8, first)), unlessNormal(PassFragment, DropFragment)},
		{"fragment of UDP behind options, IPv6", ipv6(client6, 44, fragment6(60, 1, extension(protocolUDP, 1, first))), unlessNormal(PassFragment, DropFragment)},
		{"fragment of TCP, IPv6", ipv6(client6, 44, fragment6(protocolTCP, 1, tcp(testTCPPort, synFlag))), unlessClosed(PassNewTCP)},
		{"fragment of TCP behind options, IPv6", ipv6(client6, 44, fragment6(60, 1, extension(protocolTCP, 1, tcp(testTCPPort, synFlag)))), unlessClosed(PassNewTCP)},
		{"fragment of TCP, IPv6, a later one", ipv6(client6, 44, fragment6(protocolTCP, 9, tcp(testTCPPort, synFlag))), always(PassFragment)},
		{"fragment of ICMP, IPv6", ipv6(client6, 44, fragment6(58, 1, make([]byte, 8))), always(PassOther)},
		{"the only fragment, IPv6", ipv6(client6, 44, fragment6(protocolUDP, 0, first)), unlessClosed(PassNewQUIC)},
		{"no next header, IPv6", ipv6(client6, 59, nil), always(PassOther)},
		{"IPv6 of version 5", withByte(udp6(padded(1200)), 14, 0x50), unlessNormal(PassMalformed, DropMalformed)},
	}
	// Chains of headers: four are read, one more hides.
	for _, kind := range []byte{0, 43, 60} {
		chain := first
		next := byte(protocolUDP)
		for n := 1; n <= 5; n++ {
			chain, next = extension(next, 1+n%2, chain), kind
			want := unlessClosed(PassNewQUIC)
			if n > 4 {
				want = unlessNormal(PassMalformed, DropMalformed)
			}
			cases = append(cases, packetCase{fmt.Sprintf("%d headers of type %d", n, kind), ipv6(client6, kind, chain), want})
		}
	}
	// All flags of TCP.
	for flags := range 64 {
		want := always(PassEstablishedTCP)
		if flags&(synFlag|ackFlag) == synFlag {
			want = unlessClosed(PassNewTCP)
		}
		frame := ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, byte(flags)))
		cases = append(cases, packetCase{fmt.Sprintf("TCP with flags %#x", flags), frame, want})
	}
	return append(cases,
		packetCase{"SYN, IPv6", ipv6(client6, protocolTCP, tcp(testTCPPort2, synFlag)), unlessClosed(PassNewTCP)},
		packetCase{"SYN behind a header, IPv6", ipv6(client6, 60, extension(protocolTCP, 1, tcp(testTCPPort, synFlag))), unlessClosed(PassNewTCP)},
		packetCase{"TCP of 19 bytes", ipv4(client4, protocolTCP, 0, 0, tcp(testTCPPort, ackFlag)[:19]), unlessNormal(PassMalformed, DropMalformed)},
	)
}

func withByte(frame []byte, at int, value byte) []byte {
	frame[at] = value
	return frame
}

// servers are the forms of connection IDs: our own, and those that a balancer
// routes by a server ID.
var servers = map[string][]byte{"own": nil, "1 byte": {9}, "4 bytes": []byte("node"), "8 bytes": []byte("server 1")}

var programs = []string{admissionProgAdmitXdp, admissionProgAdmitTcx}

// TestVerdicts runs each packet at each level through both programs, with the shortest
// and the longest connection IDs.
func TestVerdicts(t *testing.T) {
	for _, form := range []string{"own", "8 bytes"} {
		server := servers[form]
		ids := testIDs(t, server)
		a := needKernel(t, Options{ConnectionIDs: ids})
		cases := packetCases(ids)
		for _, name := range programs {
			program := programOf(t, a, name)
			for level := Normal; level <= Closed; level++ {
				if err := a.Configure(configured(level)); err != nil {
					t.Fatal(err)
				}
				for _, c := range cases {
					if name == admissionProgAdmitTcx && len(c.frame) < 34 {
						continue // the kernel makes no skb of it
					}
					if r := c.want[Normal]; r == PassNewQUIC || r == PassProven {
						a.Forget()
					}
					var dropped bool
					got := judged(t, a, func() { dropped = run(t, program, c.frame) })
					want := c.want[level]
					if len(got) != 1 || got[want] != (Count{Packets: 1}) || dropped != want.Drop() {
						t.Errorf("%s, %s, server ID %s, level %d: dropped %v, counted %v; want %v, %v",
							c.name, name, form, level, dropped, got, want.Drop(), want)
					}
				}
			}
		}
	}
}

// TestAddress judges what is for the address of the node, and leaves the same ports of
// others alone. The second port of TCP may be at another address.
func TestAddress(t *testing.T) {
	first, syn := udp(testUDPPort, long(version1, initial, chosen8, 1200)), tcp(testTCPPort, synFlag)
	refused := udp(testUDPPort, long(version1, handshake, chosen8, 1200))
	elsewhere := func(frame []byte, last int) []byte {
		frame = bytes.Clone(frame)
		frame[14+last] ^= 1
		return frame
	}
	v4 := func(protocol byte, payload []byte) []byte { return ipv4(client4, protocol, 0, 0, payload) }
	v6 := func(protocol byte, payload []byte) []byte { return ipv6(client6, protocol, payload) }
	f := func(a *Admission, what string, frame []byte, want Reason) {
		t.Helper()
		for _, name := range programs {
			a.Forget()
			program := programOf(t, a, name)
			if got := judged(t, a, func() { run(t, program, frame) }); len(got) != 1 || got[want].Packets != 1 {
				t.Errorf("%s, %s: %v, want %v", what, name, got, want)
			}
		}
	}
	at := func(address netip.Addr) *Admission {
		a := needKernel(t, Options{Address: address})
		if err := a.Configure(configured(Guarded)); err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, address := range []string{"198.51.100.1", "::ffff:198.51.100.1"} {
		a := at(netip.MustParseAddr(address))
		f(a, "Initial", v4(protocolUDP, first), PassNewQUIC)
		f(a, "SYN", v4(protocolTCP, syn), PassNewTCP)
		f(a, "Initial elsewhere", elsewhere(v4(protocolUDP, first), 19), PassOther)
		f(a, "Handshake elsewhere", elsewhere(v4(protocolUDP, refused), 16), PassOther)
		f(a, "the first fragment elsewhere", elsewhere(ipv4(client4, protocolUDP, 0, 0x2000, first), 19), PassOther)
		f(a, "SYN elsewhere", elsewhere(v4(protocolTCP, syn), 19), PassOther)
		f(a, "SYN elsewhere to the second port", elsewhere(v4(protocolTCP, tcp(testTCPPort2, synFlag)), 19), PassNewTCP)
		f(a, "Initial over IPv6", v6(protocolUDP, first), PassOther)
	}
	a := at(node6)
	f(a, "Initial over IPv6", v6(protocolUDP, first), PassNewQUIC)
	f(a, "Initial elsewhere over IPv6", elsewhere(v6(protocolUDP, first), 39), PassOther)
	f(a, "SYN elsewhere over IPv6", elsewhere(v6(protocolTCP, syn), 24), PassOther)
	f(a, "Initial over IPv4", v4(protocolUDP, first), PassOther)
	for _, any := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		a := at(any)
		f(a, "any address", elsewhere(v4(protocolUDP, first), 19), PassNewQUIC)
		f(a, "any address over IPv6", elsewhere(v6(protocolUDP, first), 39), PassNewQUIC)
	}
}

// TestNoPort judges nothing of a protocol that has no port.
func TestNoPort(t *testing.T) {
	a, err := Load(Options{ConnectionIDs: testIDs(t, nil)})
	need(t, err)
	defer a.Close()
	if err := a.Configure(configured(Guarded)); err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		program := programOf(t, a, name)
		got := judged(t, a, func() {
			run(t, program, ipv4(client4, protocolUDP, 0, 0, udp(0, long(version1, initial, chosen8, 1200))))
			run(t, program, ipv4(client4, protocolTCP, 0, 0, tcp(0, synFlag)))
		})
		if len(got) != 1 || got[PassOther].Packets != 2 {
			t.Errorf("%s: %v", name, got)
		}
	}
}
