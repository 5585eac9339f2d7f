// Package remote is how the node speaks to others than origins, by URLs of its
// configuration: where it never connects to, what secrets it shows them, and how
// it signs what it says.
//
// It connects to nobody itself. A secret that becomes unreadable keeps its last
// value, and addresses where clouds hand out credentials are refused whatever name
// leads to them.
package remote

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// metadata are the addresses where clouds hand out credentials, beside the
// link-local ones.
var metadata = map[netip.Addr]bool{
	netip.MustParseAddr("fd00:ec2::254"):   true, // AWS
	netip.MustParseAddr("fd00:ec2::23"):    true, // AWS, for containers
	netip.MustParseAddr("fd20:ce::254"):    true, // Google
	netip.MustParseAddr("100.100.100.200"): true, // Alibaba
	netip.MustParseAddr("168.63.129.16"):   true, // Azure
	netip.MustParseAddr("192.0.0.192"):     true, // Oracle
}

// nat64 is the prefix behind which a translator reaches IPv4, RFC 6052 section
// 2.1. One that a network has chosen for itself cannot be known.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// ErrMetadata is what Deny refuses with.
var ErrMetadata = errors.New("address hands out the node's credentials")

// Deny keeps a net.Dialer, as its Control, from the addresses where clouds hand out
// credentials. It is safe for concurrent use.
func Deny(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("parse address %s: %w", address, err)
	}
	addr := ap.Addr().WithZone("").Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	if addr.IsLinkLocalUnicast() || metadata[addr] {
		return fmt.Errorf("%w: %s", ErrMetadata, addr)
	}
	return nil
}
