// Package wan is a network in user space: a relay for UDP and TCP that adds delay,
// jitter, loss and a rate between clients and one server, for machines whose
// kernel cannot.
//
// A flow is a client's address and port; it has one socket towards the server, so
// that the server sees it as one flow too, and from the same address when both are
// in 127.0.0.0/8. Part of the flows can be slow and the rest not, so that one relay
// makes a mixed crowd.
//
// UDP is lost and dropped as on a router; ECN marks are not carried. TCP is not lost
// but held back: the kernels at both ends of the relay see a perfect network, and
// what a real one does shows as delay and back-pressure. Its set-up takes one round
// trip, paid before the first byte. When the server is gone, clients are reset.
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

// A Relay relays. Use New, then Run or Close.
type Relay struct {
	c      Config
	target netip.AddrPort
	epoch  time.Time
	udp    *net.UDPConn
	tcp    *net.TCPListener
	count  counters
	places atomic.Int64 // taken by flows and connections

	up, down *line

	mu    sync.Mutex
	flows map[netip.AddrPort]*flow
}

// New opens the sockets, so that Addr is known; it starts nothing.
func New(c Config) (*Relay, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	target, err := net.ResolveUDPAddr("udp", c.To)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", c.To, err)
	}
	r := &Relay{c: c, target: unmap(target.AddrPort()), epoch: time.Now(), flows: map[netip.AddrPort]*flow{}}
	r.up, r.down = newLine(r.epoch), newLine(r.epoch)
	if err := r.listen(); err != nil {
		return nil, err
	}
	return r, nil
}

// listen opens UDP and TCP on one port number. When the kernel chooses it, the
// number that is free for one may be taken for the other: try again.
func (r *Relay) listen() error {
	var failed error
	for range 10 {
		tcp, err := net.Listen("tcp", r.c.Listen)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", r.c.Listen, err)
		}
		address := tcp.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: address.IP, Port: address.Port, Zone: address.Zone})
		if err == nil {
			r.tcp, r.udp = tcp.(*net.TCPListener), udp
			// Best effort: the kernel's own limit may be lower.
			_ = udp.SetReadBuffer(4 << 20)
			_ = udp.SetWriteBuffer(4 << 20)
			return nil
		}
		failed = errors.Join(err, tcp.Close())
	}
	return fmt.Errorf("listen on %s: %w", r.c.Listen, failed)
}

// Addr is where clients connect.
func (r *Relay) Addr() netip.AddrPort {
	return r.udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// Close closes the sockets of a relay that is not run.
func (r *Relay) Close() error {
	return errors.Join(r.udp.Close(), r.tcp.Close())
}

// Run relays until ctx is done. What is under way then is discarded.
func (r *Relay) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { r.up.run(ctx, r.deliverUp) })
	wg.Go(func() { r.down.run(ctx, r.deliverDown) })
	wg.Go(func() { r.sweep(ctx) })
	ended := make(chan error, 2)
	wg.Go(func() { ended <- r.readClients(ctx, &wg) })
	wg.Go(func() { ended <- r.accept(ctx, &wg) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-ended: // a listening socket failed
	}
	cancel()
	_ = r.Close() // ends the loops that read
	r.closeFlows()
	wg.Wait()
	return err
}

func (r *Relay) now() time.Duration { return time.Since(r.epoch) }

// localAddr is the address to bind towards the server: the client's own where
// that can work, so that the server can tell visitors apart by address.
func (r *Relay) localAddr(client netip.AddrPort) (netip.Addr, bool) {
	a := client.Addr()
	return a, a.Is4() && a.IsLoopback() && r.target.Addr().IsLoopback()
}

// reserve takes a place for a flow or connection, if there is one; free gives it
// back.
func (r *Relay) reserve() bool {
	if r.places.Add(1) > int64(r.c.MaxFlows) {
		r.places.Add(-1)
		return false
	}
	return true
}

func (r *Relay) free() { r.places.Add(-1) }

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
