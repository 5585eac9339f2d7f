package edge

import (
	"github.com/quic-go/quic-go"

	"spillway/edge/admit"
)

// socketIDs generates the connection IDs of one socket. They name its slot, so that
// packets find it whatever address they come from, and carry the tag by which the
// kernel tells established connections.
type socketIDs struct {
	ids  admit.ConnectionIDs
	slot int
}

var _ quic.ConnectionIDGenerator = socketIDs{}

// GenerateConnectionID implements quic.ConnectionIDGenerator. It is called by the
// goroutines of all connections, for each of the IDs that one has in its life.
func (g socketIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	return quic.ConnectionIDFromBytes(g.ids.New(g.slot)), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (g socketIDs) ConnectionIDLen() int { return g.ids.Len() }
