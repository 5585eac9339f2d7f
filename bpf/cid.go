package bpf

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// The last twelve bytes of a connection ID: one byte of what is before, epoch and
// slot, six random bytes, and the tag of these seven.
const (
	cidTail   = 12
	tagged    = 8
	tagLength = cidTail - tagged
)

// MaxServerID is the longest server ID: RFC 9000 section 17.2 allows connection IDs
// of 20 bytes.
const MaxServerID = 8

// Slots is how many sockets connection IDs can name.
const Slots = 64

// A Keys pair tags connection IDs. One of the two makes new ones; both are believed,
// so that connections outlive a change of keys; therefore none may be left zero. Whoever knows them can forge
// established traffic, no more: they are no part of any encryption.
type Keys [2][16]byte

// ConnectionIDs makes the node's connection IDs, which the programs recognise
// without a table. One is
//
//	1 byte        QUIC-LB's first octet (draft-ietf-quic-load-balancers)
//	0 to 8 bytes  server ID, by which a balancer routes
//	1 byte        key epoch (1 bit), zero (1 bit), slot of the socket (6 bits)
//	6 bytes       random
//	4 bytes       SipHash-1-3 of the seven bytes before it, truncated
//
// The tag marks a lane and authenticates nothing else: a guess has a chance of one
// in 2^32. Its methods may be called concurrently.
type ConnectionIDs struct {
	serverID []byte
	keys     atomic.Pointer[epochs]
}

type epochs struct {
	keys    Keys
	current uint8
}

// NewConnectionIDs returns the format with the given server ID, which is empty
// unless a balancer routes by it (8 bytes on AWS). The first key makes new IDs.
func NewConnectionIDs(serverID []byte, keys Keys) (*ConnectionIDs, error) {
	if len(serverID) > MaxServerID {
		return nil, fmt.Errorf("server ID of %d bytes: at most %d fit into a connection ID", len(serverID), MaxServerID)
	}
	c := &ConnectionIDs{serverID: append([]byte(nil), serverID...)}
	c.SetKeys(keys, 0)
	return c, nil
}

// SetKeys changes the keys; epoch, 0 or 1, is the key that makes new IDs. The kernel
// knows of it after the next Configure, so that a key must be set some time before
// it becomes the current one.
func (c *ConnectionIDs) SetKeys(keys Keys, epoch int) {
	c.keys.Store(&epochs{keys: keys, current: uint8(epoch & 1)})
}

// Len returns the length of all connection IDs, 12 to 20.
func (c *ConnectionIDs) Len() int { return cidTail + len(c.serverID) }

// New returns a new connection ID for a socket's slot, which is below Slots.
func (c *ConnectionIDs) New(slot int) []byte {
	id := make([]byte, c.Len())
	_, _ = rand.Read(id) // never fails
	// Balancers know no node by what has all three bits set, and the configuration
	// 0 otherwise.
	if id[0] |= 0xe0; len(c.serverID) > 0 {
		id[0] &^= 0xe0
	}
	copy(id[1:], c.serverID)
	e := c.keys.Load()
	tail := id[len(c.serverID):]
	tail[1] = e.current<<7 | uint8(slot%Slots)
	copy(tail[tagged:], e.tag(tail))
	return id
}

// Slot returns the slot of a connection ID of the node, and false for any other.
func (c *ConnectionIDs) Slot(id []byte) (int, bool) {
	if len(id) != c.Len() {
		return 0, false
	}
	tail := id[len(c.serverID):]
	if subtle.ConstantTimeCompare(c.keys.Load().tag(tail), tail[tagged:]) == 0 {
		return 0, false
	}
	return int(tail[1] % Slots), true
}

func (e *epochs) tag(tail []byte) []byte {
	word := binary.LittleEndian.Uint64(tail)
	sum := siphash(keyWords(e.keys[tail[1]>>7]), word>>8)
	return binary.LittleEndian.AppendUint32(nil, uint32(sum))
}

func keyWords(key [16]byte) [2]uint64 {
	return [2]uint64{binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])}
}

// tagKeys returns the keys as the programs read them.
func (c *ConnectionIDs) tagKeys() [2][2]uint64 {
	keys := c.keys.Load().keys
	return [2][2]uint64{keyWords(keys[0]), keyWords(keys[1])}
}
