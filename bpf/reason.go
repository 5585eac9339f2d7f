package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// A Reason says why a packet passed or was dropped. Its values are those of enum
// reason in maps.h, which has a line about each.
type Reason uint8

// The reasons. From DropMalformed on a packet is dropped.
const (
	PassOther Reason = iota
	PassFragment
	PassEstablishedQUIC
	PassEstablishedTCP
	PassStale
	PassMalformed
	PassUnmatched
	PassUnknownVersion
	PassAllowed
	PassFlow
	PassProven
	PassNewQUIC
	PassNewTCP
	PassKnown
	PassTrickle
	DropMalformed
	DropFragment
	DropVersionNegotiation
	DropFixedBit
	DropRetry
	DropConnectionID
	DropSmallInitial
	DropForeignHandshake
	DropUnmatched
	DropUnknownVersion
	DropDenied
	DropFlow
	DropSource
	DropBudget
	DropClosed
	// Reasons is how many there are.
	Reasons
)

// reasonNames leave out whether the packet was dropped, which Drop tells.
var reasonNames = [Reasons]string{
	"other", "fragment", "established_quic", "established_tcp", "stale", "malformed", "unmatched", "unknown_version",
	"allowed", "flow", "proven", "new_quic", "new_tcp", "known", "trickle",
	"malformed", "fragment", "version_negotiation", "fixed_bit", "retry", "connection_id", "small_initial",
	"foreign_handshake", "unmatched", "unknown_version", "denied", "flow", "source", "budget", "closed",
}

// String returns the reason as a metric label. A pass and a drop may share one.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// Drop reports whether packets are dropped for this reason.
func (r Reason) Drop() bool { return r >= DropMalformed && r < Reasons }

// A Count is how many packets met one reason.
type Count struct {
	// Packets passed, or were dropped.
	Packets uint64
	// Unenforced were to be dropped and passed, because Enforce was off.
	Unenforced uint64
}

// Counts are the packets since Load, by reason.
type Counts struct {
	Packets [Reasons]Count
	// SamplesLost found the ring full.
	SamplesLost uint64
}

// Counts returns the sums over all processors, in one system call.
func (a *Admission) Counts() (Counts, error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return Counts{}, fmt.Errorf("count processors: %w", err)
	}
	keys := make([]uint32, a.maps.Counters.MaxEntries())
	values := make([]uint64, len(keys)*cpus)
	var cursor ebpf.MapBatchCursor
	n, err := a.maps.Counters.BatchLookup(&cursor, keys, values, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // which marks the end
		return Counts{}, fmt.Errorf("read the counters of the packet filter: %w", err)
	}
	var counts Counts
	for i, key := range keys[:n] {
		// In the order of enum reason: as enforced, as not enforced, samples lost.
		counter := &counts.SamplesLost
		switch {
		case key < uint32(Reasons):
			counter = &counts.Packets[key].Packets
		case key < 2*uint32(Reasons):
			counter = &counts.Packets[key-uint32(Reasons)].Unenforced
		}
		for _, v := range values[i*cpus : (i+1)*cpus] {
			*counter += v
		}
	}
	return counts, nil
}
