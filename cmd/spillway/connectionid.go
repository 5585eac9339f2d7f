package main

import (
	"context"
	"fmt"

	"spillway/bpf"
	"spillway/config"
	"spillway/edge"
	"spillway/edge/admit"
)

// connectionIDs are the format of the node's connection IDs, and what keeps its keys
// up to date. All that makes or recognises connection IDs shares the format.
type connectionIDs struct {
	*bpf.ConnectionIDs
	keys *edge.ConnectionIDKeys
}

// openConnectionIDs makes the format, with the keys and the length of the process that
// this one succeeds beside it, if it does.
func openConnectionIDs(c *config.Config, before *inheritance) (connectionIDs, error) {
	server, err := admit.ParseServerID(c.Admission.QUICLB.ServerID)
	if err != nil {
		return connectionIDs{}, fmt.Errorf("admission.quic_lb.server_id: %w", err)
	}
	keys, err := edge.OpenConnectionIDKeys(c.Edge, before.idKey)
	if err != nil {
		return connectionIDs{}, err
	}
	pair, epoch := keys.Keys()
	ids, err := bpf.NewConnectionIDs(server, pair)
	if err != nil {
		return connectionIDs{}, err
	}
	if had := before.idLength; had != 0 && had != ids.Len() {
		return connectionIDs{}, fmt.Errorf("connection IDs have %d bytes now and had %d, "+
			"because admission.quic_lb.server_id has changed; restart the node instead", ids.Len(), had)
	}
	ids.SetKeys(pair, epoch)
	return connectionIDs{ids, keys}, nil
}

// run changes the keys when their time has come. The kernel hears of it with the next
// heartbeat.
func (c connectionIDs) run(ctx context.Context) error {
	return c.keys.Run(ctx, func(keys [2][16]byte, epoch int) { c.SetKeys(keys, epoch) })
}
