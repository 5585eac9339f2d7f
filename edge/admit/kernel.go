package admit

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Mode is where packets are judged.
type Mode string

// The modes. In user space only handshakes are judged, not packets.
const (
	Native    Mode = "native"
	Generic   Mode = "generic"
	TCX       Mode = "tcx"
	UserSpace Mode = "user_space"
)

// Modes are all of them, the best first.
var Modes = []Mode{Native, Generic, TCX, UserSpace}

// A Level is what is left of normal operation. Each adds to the one before.
type Level uint32

// The levels.
const (
	Normal   Level = iota // only what RFC 9000 lets a server discard is dropped
	Guarded               // sources are limited, QUIC clients prove their address
	Shedding              // new connections have a budget
	Closed                // only who is proven, known, allowed or lucky gets in
)

var levelNames = [...]string{"normal", "guarded", "shedding", "closed"}

// String returns the word of the metrics and of the command.
func (l Level) String() string { return levelNames[l] }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (l *Level) UnmarshalText(text []byte) error {
	i := slices.Index(levelNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("%q is no level; they are %s", text, strings.Join(levelNames[:], ", "))
	}
	*l = Level(i)
	return nil
}

// A Rate is a limit. The zero Rate lets everything pass.
type Rate struct {
	PerSecond float64 // that pass for ever
	Burst     float64 // that pass at once
}

// A Policy is what the kernel does to packets.
type Policy struct {
	Level   Level
	Enforce bool
	// DropFragments drops all UDP fragments from Guarded on: only the first tells a port.
	DropFragments bool
	// Stale is the age of this policy from which on everything passes.
	Stale time.Duration
	// Source is what one source may begin and not complete, from Guarded on.
	Source Rate
	// QUIC and TCP are what all sources may begin, at Shedding.
	QUIC, TCP Rate
	// Proven is for Initials with a connection ID of the node, from Guarded on; a
	// connection takes one, and one more after a Retry.
	Proven Rate
	// Known is for sources that completed a handshake within KnownFor and found the
	// budget spent.
	Known    Rate
	KnownFor time.Duration
	// QUICTrickle and TCPTrickle are for everybody over a limit: below Closed what QUIC
	// and TCP have left.
	QUICTrickle, TCPTrickle Rate
	// Reset is for packets of no connection at level Normal.
	Reset Rate
	// Sample is of how many judged packets of one reason one is sampled; zero is none.
	Sample uint32
}

// A Rule is what becomes of new connections from a prefix. The longest prefix of an
// address counts.
type Rule struct {
	Prefix netip.Prefix `json:"prefix"`
	Allow  bool         `json:"allow"`          // over all limits; otherwise they are dropped
	Until  time.Time    `json:"until,omitzero"` // zero is never
}

// A Count is how many packets met one reason.
type Count struct {
	Reason string `json:"reason"`
	Drop   bool   `json:"drop"`
	// Packets passed, or were dropped; Unenforced were to be dropped and passed.
	Packets    uint64 `json:"packets"`
	Unenforced uint64 `json:"unenforced"`
}

// A Sample is one of the packets that were judged.
type Sample struct {
	// Source of the packet. Over UDP anybody may have written it.
	Source   netip.AddrPort
	TCP      bool
	Length   int // of the UDP payload, in bytes
	Reason   string
	Drop     bool
	Enforced bool
}

// A TopSource is a source and how many samples were of it.
type TopSource struct {
	Addr netip.Addr `json:"addr"` // an IPv4 address, or the first of a /56
	// Samples is at most that many, and Over less at least.
	Samples uint64 `json:"samples"`
	Over    uint64 `json:"over"`
}

// A Kernel judges packets before the node sees them. All methods may be called
// concurrently; those that read and refund what sources owe are without system calls.
type Kernel interface {
	// Attach lets the packets of the node's interfaces be judged, natively or else
	// in the best other mode. On an error nothing is judged where it was not before.
	Attach(native bool) (Mode, error)
	// Refused says why a better mode was not to be had; nil if none was tried.
	Refused() error
	// Check says why packets are not judged any more that were, or nil.
	Check() error
	// Configure sets the policy, and is the heartbeat.
	Configure(Policy) error
	// Owes returns what a source began and did not complete, as the time until it has
	// paid that off at Policy.Source.
	Owes(source netip.Addr, tcp bool) time.Duration
	// Refund gives one charge back. cost is 1 / Policy.Source.PerSecond.
	Refund(source netip.Addr, tcp bool, cost time.Duration)
	// Know notes that a source completed a handshake.
	Know(source netip.Addr)
	// Charge adds a cost to what a source owes, unless it owes most already.
	Charge(source netip.Addr, tcp bool, cost, most time.Duration)
	// Forget forgets what sources owe and who is known.
	Forget()
	SetRule(Rule) error
	RemoveRule(netip.Prefix) error
	Rules() ([]Rule, error)
	// Counts returns what became of packets, and how many samples were lost.
	Counts() (counts []Count, lost uint64, err error)
	// Next waits for a sample, until Close.
	Next() (Sample, error)
	// Top returns at most n of the sources that most samples were of.
	Top(n int) []TopSource
	Close() error
}

// ConnectionIDs makes the connection IDs by which the kernel recognises established
// connections. Its methods may be called concurrently.
type ConnectionIDs interface {
	// Len is the length of all of them, at most 20 (RFC 9000 section 17.2).
	Len() int
	// New returns a new one for the socket in a slot, 0 to 63.
	New(slot int) []byte
	// Slot returns the slot of one of the node's, and false for any other.
	Slot(id []byte) (int, bool)
}

// Steering hands datagrams to the socket of their connection.
type Steering interface {
	// SetSocket gives a slot to a socket.
	SetSocket(slot int, conn syscall.Conn) error
	// Steer governs the group (SO_REUSEPORT) that a socket is in.
	Steer(conn syscall.Conn) error
	// Route hands new flows to count sockets from slot first on.
	Route(first, count int) error
}
