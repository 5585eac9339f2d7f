package crowd

import (
	"fmt"
	"net/netip"
)

// A Profile says from which addresses visitors come.
type Profile string

const (
	// CarrierNAT puts 80 % of the visitors behind 8 addresses, as mobile networks
	// do, and each of the others alone on an address of its own.
	CarrierNAT Profile = "carrier-nat"

	// Single lets the kernel choose the address: all come from one.
	Single Profile = "single"
)

const (
	carriers     = 8
	carrierShare = 0.8
)

// Draws of one visitor. Each question about a visitor has its own stream, so that
// its answers do not depend on each other.
const (
	drawCarrier = iota
	drawWhich
	drawSlow
)

// source returns the address the visitor comes from, and whether it shares it. An
// invalid address leaves the choice to the kernel.
func (p Profile) source(seed, visitor uint64) (addr netip.Addr, shared bool) {
	if p != CarrierNAT {
		return netip.Addr{}, true
	}
	if fraction(seed, visitor, drawCarrier) < carrierShare {
		return carrier(draw(seed, visitor, drawWhich) % carriers), true
	}
	return loner(visitor), false
}

// carrier returns one of the shared addresses. They lie in different networks, as
// different carriers' do, so that a limit per /24 sees them apart.
func carrier(n uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{127, byte(16 + n), 0, 1})
}

// loner returns the visitor's own address in 127.64.0.0/10. Multiplying by an odd
// number permutes the numbers below 2^22: no address comes twice among four
// million visitors, and neighbours in time are not neighbours in a network.
func loner(visitor uint64) netip.Addr {
	n := uint32(visitor*2654435761) & (1<<22 - 1)
	return netip.AddrFrom4([4]byte{127, 64 | byte(n>>16), byte(n >> 8), byte(n)})
}

// fraction draws a number in [0, 1).
func fraction(seed, visitor, stream uint64) float64 {
	return float64(draw(seed, visitor, stream)>>11) / (1 << 53)
}

// draw is splitmix64 over the visitor, so that who a visitor is does not depend on
// the order in which goroutines ask.
func draw(seed, visitor, stream uint64) uint64 {
	z := seed ^ visitor*0x9e3779b97f4a7c15 ^ (stream+1)*0xd1342543de82ef95
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// checkSources refuses a profile that the target cannot be reached from: only
// loopback lets us bind to any address of 127.0.0.0/8.
func (p Profile) checkSources(target netip.Addr) error {
	if p == CarrierNAT && !(target.Is4() && target.IsLoopback()) {
		return fmt.Errorf("addresses %s: only towards 127.0.0.0/8, not %s; use --addresses single", p, target)
	}
	return nil
}
