package wan

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Config describes a network between clients and one server. The zero value of a
// field means its default, and of a defect that there is none.
type Config struct {
	Listen string // where clients connect, for UDP and TCP; a concrete address
	To     string // where the server is
	// RTT is the round trip that the network adds, half in each direction. A
	// datagram may take up to Jitter more, but never overtakes another of its flow.
	RTT    time.Duration
	Jitter time.Duration
	// Loss is the share of datagrams that are lost, in each direction.
	Loss float64
	// Rate bounds each slow flow in each direction, in bytes a second. 0 is no bound.
	Rate int64
	// Slow is the share of the flows that Rate bounds, chosen by a hash of the
	// client's address and port. 0 means all.
	Slow float64
	// Queue is how many bytes of a flow may wait for its rate in each direction.
	// What comes on top is dropped (UDP) or not read (TCP). 0 means half a second at
	// the rate, at least ten full datagrams.
	Queue int64
	// Idle is how long a UDP flow without datagrams is kept. 1m.
	Idle time.Duration
	// MaxFlows bounds the UDP flows and TCP connections together. 10000.
	MaxFlows int
	Seed     uint64 // of losses, jitter and the choice of the slow
}

const fullDatagram = 1500

func (c Config) withDefaults() (Config, error) {
	if c.Slow == 0 {
		c.Slow = 1
	}
	if c.Queue == 0 {
		c.Queue = max(c.Rate/2, 10*fullDatagram)
	}
	if c.Idle == 0 {
		c.Idle = time.Minute
	}
	if c.MaxFlows == 0 {
		c.MaxFlows = 10000
	}
	for _, address := range []struct{ name, value string }{{"listen", c.Listen}, {"to", c.To}} {
		if host, _, err := net.SplitHostPort(address.value); err != nil || host == "" {
			return c, fmt.Errorf("%s %q: want HOST:PORT, such as 127.0.0.1:9443", address.name, address.value)
		}
	}
	switch {
	case c.RTT < 0 || c.Jitter < 0:
		return c, errors.New("rtt and jitter: want 0 or more")
	case c.Idle < time.Second:
		return c, errors.New("idle: want at least 1s")
	case !(c.Loss >= 0 && c.Loss <= 1):
		return c, errors.New("loss: want 0% to 100%")
	case !(c.Slow > 0 && c.Slow <= 1):
		return c, errors.New("slow: want more than 0%, up to 100%")
	case c.Rate < 0 || c.Rate > 0 && c.Rate < 100:
		return c, errors.New("rate: want at least 100B, or 0 for no bound")
	case c.Queue < fullDatagram:
		return c, fmt.Errorf("queue: want at least a full datagram, %dB", fullDatagram)
	case c.MaxFlows < 1:
		return c, errors.New("max flows: want at least 1")
	}
	return c, nil
}
