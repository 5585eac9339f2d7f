package admit

import (
	"encoding/hex"
	"fmt"
)

// Config says how new connections and clients are admitted.
type Config struct {
	// Enforce acts on the verdicts. When false they are counted only.
	Enforce bool `koanf:"enforce" default:"true"`
	// Allow are addresses and networks whose new connections are over all limits, Deny
	// those whose new connections are dropped. The longest prefix of an address counts.
	Allow []string `koanf:"allow" format:"prefix"`
	Deny  []string `koanf:"deny" format:"prefix"`
	// HandshakesPerCore is the number of new QUIC connections per second and core
	// above which clients must prove their address by a Retry.
	HandshakesPerCore int `koanf:"handshakes_per_core" default:"500" min:"1"`
	// HalfOpen is the number of unfinished handshakes above which clients must
	// prove their address; at four times as many, new connections are refused.
	HalfOpen int `koanf:"half_open" default:"1000" min:"1"`
	// Connections is the number of connections above which the node refuses new
	// ones. Zero derives it from the memory of the machine.
	Connections int `koanf:"connections" unit:"auto" default:"auto" min:"1"`
	// InFlight is the number of requests in flight above which a source is held
	// to its share. Zero derives it from the number of cores.
	InFlight int `koanf:"in_flight" unit:"auto" default:"auto" min:"1"`
	// Kernel says whether packets are judged in the kernel, before they cost anything:
	// auto does where the machine lets it.
	Kernel string `koanf:"kernel" enum:"auto,off" default:"auto"`
	// Interfaces are those whose packets the kernel judges. Without any it is that of
	// Listen's address, or those with a default route.
	Interfaces []string `koanf:"interfaces"`
	// Pin is a folder of a BPF file system in which the kernel keeps what sources owe and
	// who is known, over the end of the process. Empty pins nothing.
	Pin string `koanf:"pin"`
	// DropFragments drops UDP fragments of whatever port while the level is guarded or
	// higher. QUIC has none, and other services on the machine lose theirs.
	DropFragments bool `koanf:"drop_fragments"`
	// QUICLB is for a balancer in front.
	QUICLB QUICLBConfig `koanf:"quic_lb"`
}

// QUICLBConfig is for a balancer that routes QUIC by connection ID
// (draft-ietf-quic-load-balancers).
type QUICLBConfig struct {
	// ServerID is what the balancer knows this node by, up to 8 bytes in hexadecimal
	// digits (8 on AWS). Empty if none routes by it.
	ServerID string `koanf:"server_id" format:"server_id"`
}

// ParseServerID returns the bytes of a server ID, none for an empty text.
func ParseServerID(text string) ([]byte, error) {
	id, err := hex.DecodeString(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not an even number of hexadecimal digits", text)
	case len(id) > maxServerID:
		return nil, fmt.Errorf("%d bytes are more than a server ID may have", len(id))
	}
	return id, nil
}

// maxServerID is what fits into a connection ID beside slot and tag.
const maxServerID = 8
