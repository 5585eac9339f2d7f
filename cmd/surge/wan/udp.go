package wan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// A flow is the datagrams of one client address and port.
type flow struct {
	client   netip.AddrPort
	server   *net.UDPConn
	up, down link         // each used by the goroutine that reads that way
	active   atomic.Int64 // when the last datagram came, since the epoch
}

// maxPayload is what fits a path with Ethernet's MTU of 1500: less IPv4's and
// UDP's headers. A larger datagram is dropped, as path MTU discovery expects.
const maxPayload = 1500 - 20 - 8

// buffers holds the space of datagrams under way.
var buffers = sync.Pool{New: func() any { return new([maxPayload]byte) }}

// copyOf copies p into space that release takes back.
func copyOf(p []byte) []byte {
	b := buffers.Get().(*[maxPayload]byte)
	return b[:copy(b[:], p)]
}

func release(p []byte) { buffers.Put((*[maxPayload]byte)(p[:maxPayload])) }

// readClients takes the datagrams of all clients. It is the only one that makes
// flows.
func (r *Relay) readClients(ctx context.Context, wg *sync.WaitGroup) error {
	buffer := make([]byte, maxPayload+1)
	for {
		n, client, err := r.udp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read datagrams: %w", err)
			}
			continue // an ICMP error of an earlier send
		}
		r.count.up.received.Add(1)
		f, err := r.flowOf(ctx, unmap(client), wg)
		if err != nil {
			r.count.up.failed.Add(1)
			continue
		}
		r.forward(r.up, &r.count.up, &f.up, f, buffer[:n])
	}
}

var errNoRoom = errors.New("as many flows as there may be")

// flowOf finds the client's flow, or makes it.
func (r *Relay) flowOf(ctx context.Context, client netip.AddrPort, wg *sync.WaitGroup) (*flow, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flows[client]; f != nil {
		return f, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // closeFlows would miss it
	}
	if !r.reserve() {
		r.count.flowsRefused.Add(1)
		return nil, errNoRoom
	}
	server, err := r.dialUDP(client)
	if err != nil {
		r.free()
		return nil, err
	}
	f := &flow{client: client, server: server}
	var slow bool
	f.up, f.down, slow = r.c.links(client)
	f.active.Store(int64(r.now()))
	r.flows[client] = f
	r.count.flows.Add(1)
	r.count.flowsOpened.Add(1)
	if slow {
		r.count.flowsSlow.Add(1)
	}
	wg.Go(func() { r.readServer(f) })
	return f, nil
}

func (r *Relay) dialUDP(client netip.AddrPort) (*net.UDPConn, error) {
	target := net.UDPAddrFromAddrPort(r.target)
	if local, ok := r.localAddr(client); ok {
		conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), target)
		if err == nil {
			return conn, nil
		}
	}
	return net.DialUDP("udp", nil, target)
}

// readServer takes the datagrams that the server sends to one flow. It ends when
// the flow's socket is closed, by sweep or closeFlows.
func (r *Relay) readServer(f *flow) {
	buffer := make([]byte, maxPayload+1)
	for {
		n, err := f.server.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue // nobody listens at the server's port: clients retry, so wait
		}
		r.count.down.received.Add(1)
		r.forward(r.down, &r.count.down, &f.down, f, buffer[:n])
	}
	r.count.flows.Add(-1)
	r.free()
}

// forward sends a datagram over its link.
func (r *Relay) forward(to *line, count *directionCounters, l *link, f *flow, p []byte) {
	now := r.now()
	f.active.Store(int64(now))
	if len(p) > maxPayload {
		count.dropped.Add(1)
		return
	}
	due, what := l.send(now, len(p))
	switch what {
	case lost:
		count.lost.Add(1)
		return
	case dropped:
		count.dropped.Add(1)
		return
	}
	data := copyOf(p)
	if !to.push(datagram{due: due, flow: f, data: data}) {
		release(data)
		count.dropped.Add(1)
	}
}

func (r *Relay) deliverUp(d datagram) {
	r.count.up.delivery(d, func() error {
		_, err := d.flow.server.Write(d.data)
		return err
	})
}

func (r *Relay) deliverDown(d datagram) {
	r.count.down.delivery(d, func() error {
		_, err := r.udp.WriteToUDPAddrPort(d.data, d.flow.client)
		return err
	})
}

// delivery counts before it sends: whoever has the datagram finds it counted.
func (c *directionCounters) delivery(d datagram, send func() error) {
	c.delivered.Add(1)
	c.bytes.Add(int64(len(d.data)))
	if send() != nil {
		c.delivered.Add(-1)
		c.bytes.Add(-int64(len(d.data)))
		c.failed.Add(1)
	}
	release(d.data)
}

// sweep closes flows that idle.
func (r *Relay) sweep(ctx context.Context) {
	ticker := time.NewTicker(r.c.Idle / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.expire(r.now() - r.c.Idle)
	}
}

// expire closes the flows without a datagram since then.
func (r *Relay) expire(since time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for client, f := range r.flows {
		if f.active.Load() <= int64(since) {
			delete(r.flows, client) // at once: its next datagram makes a new flow
			_ = f.server.Close()    // ends its reader
			r.count.flowsExpired.Add(1)
		}
	}
}

func (r *Relay) closeFlows() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.flows {
		_ = f.server.Close() // ends its reader
	}
}
