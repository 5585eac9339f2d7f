package wan

import "sync/atomic"

// Stats is what the relay counted. In each direction, datagrams add up:
// Received = Delivered + Lost + Dropped + Failed + under way.
type Stats struct {
	Flows        int64 `json:"flows"` // UDP, now
	FlowsOpened  int64 `json:"flows_opened"`
	FlowsSlow    int64 `json:"flows_slow"` // of the opened, those that the rate bounds
	FlowsExpired int64 `json:"flows_expired"`
	FlowsRefused int64 `json:"flows_refused"` // datagrams that found no room for their flow

	Conns        int64 `json:"conns"` // TCP, now
	ConnsOpened  int64 `json:"conns_opened"`
	ConnsSlow    int64 `json:"conns_slow"`
	ConnsFailed  int64 `json:"conns_failed"` // the server could not be reached
	ConnsRefused int64 `json:"conns_refused"`

	Up   Direction `json:"up"`
	Down Direction `json:"down"`
}

// Direction is what passed one way.
type Direction struct {
	Received  int64 `json:"received"` // datagrams
	Delivered int64 `json:"delivered"`
	Lost      int64 `json:"lost"`    // by chance
	Dropped   int64 `json:"dropped"` // a queue was full, or it was larger than the MTU
	Failed    int64 `json:"failed"`  // no room for its flow, or the kernel refused it
	Bytes     int64 `json:"bytes"`   // delivered in datagrams
	TCPBytes  int64 `json:"tcp_bytes"`
}

// counters are the live Stats.
type counters struct {
	flows, flowsOpened, flowsSlow, flowsExpired, flowsRefused atomic.Int64
	conns, connsOpened, connsSlow, connsFailed, connsRefused  atomic.Int64
	up, down                                                  directionCounters
}

type directionCounters struct {
	received, delivered, lost, dropped, failed, bytes, tcpBytes atomic.Int64
}

func (d *directionCounters) stats() Direction {
	return Direction{
		Received: d.received.Load(), Delivered: d.delivered.Load(), Lost: d.lost.Load(), Dropped: d.dropped.Load(),
		Failed: d.failed.Load(), Bytes: d.bytes.Load(), TCPBytes: d.tcpBytes.Load(),
	}
}

// Stats returns the counters.
func (r *Relay) Stats() Stats {
	c := &r.count
	return Stats{
		Flows: c.flows.Load(), FlowsOpened: c.flowsOpened.Load(), FlowsSlow: c.flowsSlow.Load(),
		FlowsExpired: c.flowsExpired.Load(), FlowsRefused: c.flowsRefused.Load(),
		Conns: c.conns.Load(), ConnsOpened: c.connsOpened.Load(), ConnsSlow: c.connsSlow.Load(),
		ConnsFailed: c.connsFailed.Load(), ConnsRefused: c.connsRefused.Load(),
		Up: c.up.stats(), Down: c.down.stats(),
	}
}
