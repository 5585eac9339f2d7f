package flood

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// A profile is whose addresses the flood uses, and whose the visitors have.
type profile string

const (
	// random: any address of the Internet.
	random profile = "random"
	// spoofed: those of the block that some of the visitors are in.
	spoofed profile = "spoofed"
	// shared: all visitors have one address, and half of the flood has it too.
	shared profile = "shared"
)

var profiles = []profile{random, spoofed, shared}

var (
	// block is a provider's, for instance.
	block = netip.MustParsePrefix("198.19.200.0/24")
	// sharedAddr is of a carrier's address translation.
	sharedAddr = netip.MustParseAddr("198.19.3.3")
)

// source draws where a packet of the flood says that it is from.
func (p profile) source(r *rand.Rand) netip.AddrPort {
	port := uint16(1024 + r.UintN(1<<16-1024))
	switch {
	case p == spoofed:
		return netip.AddrPortFrom(within(block, r), port)
	case p == shared && r.Uint32()&1 == 0:
		return netip.AddrPortFrom(sharedAddr, port)
	}
	// 11.0.0.0 to 126.255.255.255 has no network that is special (RFC 6890).
	return netip.AddrPortFrom(address(11<<24+r.Uint32N(116<<24)), port)
}

func within(p netip.Prefix, r *rand.Rand) netip.Addr {
	first := p.Addr().As4()
	return address(binary.BigEndian.Uint32(first[:]) | r.Uint32()>>p.Bits())
}

func address(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

// A class is what a visitor's chances depend on.
type class string

const (
	// returning has loaded a page before the flood, and has a token and a ticket.
	returning class = "returning"
	// first has never been here: each of its loads is that of a new visitor, from an
	// address of its own where the profile gives one.
	first class = "first"
	// inBlock is of either kind, and in the block that the flood says it is from.
	inBlock class = "block"
)

var classes = []class{returning, first, inBlock}

// Numbers of visitors. Half of them, and of those in the block, are returning.
const (
	visitorCount = 50
	blockCount   = 10
)

// A visitor is one of those whom the node is for.
type visitor struct {
	class     class
	returning bool
	number    int
}

// visitors returns all of them.
func (p profile) visitors() []visitor {
	all := make([]visitor, visitorCount)
	for i := range all {
		v := visitor{class: first, returning: i%2 == 0, number: i}
		if v.returning {
			v.class = returning
		}
		if p == spoofed && i >= visitorCount-blockCount {
			v.class = inBlock
		}
		all[i] = v
	}
	return all
}

// address returns the one from which a visitor loads a page for the nth time. Who is
// first there comes from 198.19.16.0 to 198.19.143.255, who returns from 198.19.4.0/24.
func (v visitor) address(p profile, nth int) netip.Addr {
	base := visitorNet.Addr().As4()
	from := func(third, last int) netip.Addr {
		return netip.AddrFrom4([4]byte{base[0], base[1], byte(third), byte(last)})
	}
	switch {
	case p == shared:
		return sharedAddr
	case v.class == inBlock && v.returning:
		return from(int(block.Addr().As4()[2]), v.number)
	case v.class == inBlock:
		return from(int(block.Addr().As4()[2]), 64+(nth*visitorCount+v.number)%192)
	case v.returning:
		return from(4, v.number)
	}
	n := nth*visitorCount + v.number
	return from(16+n/256%128, n%256)
}
