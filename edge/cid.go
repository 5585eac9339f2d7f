package edge

import (
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/quic-go/quic-go"
)

// cidLength is the length of the node's connection IDs. quic-go's own are 4
// bytes, which a packet filter cannot tell from those that clients choose (8 or
// more) and that collide early.
const cidLength = 8

// maxCIDLength is that of RFC 9000 section 17.2.
const maxCIDLength = 20

// cids generates connection IDs of random bytes. RFC 9000 section 5.1 demands
// that an observer cannot tell which belong together, so they come out of a
// cryptographic generator; it is seeded once, because the operating system's
// would cost a system call per connection.
type cids struct {
	length int
	mu     sync.Mutex
	random *rand.ChaCha8
}

var _ quic.ConnectionIDGenerator = (*cids)(nil)

func newCIDs(length int) (*cids, error) {
	if length < 1 || length > maxCIDLength {
		return nil, fmt.Errorf("connection IDs of %d bytes: must be 1 to %d", length, maxCIDLength)
	}
	var seed [32]byte
	crand.Read(seed[:])
	return &cids{length: length, random: rand.NewChaCha8(seed)}, nil
}

// GenerateConnectionID implements quic.ConnectionIDGenerator. It is called by
// the goroutines of all connections.
func (g *cids) GenerateConnectionID() (quic.ConnectionID, error) {
	var b [maxCIDLength]byte
	g.mu.Lock()
	g.random.Read(b[:g.length])
	g.mu.Unlock()
	return quic.ConnectionIDFromBytes(b[:g.length]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (g *cids) ConnectionIDLen() int { return g.length }
