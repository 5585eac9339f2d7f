package wan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// A chunk is what is read at once, and chunks how many may be under way: a
	// window of 1 MiB, far above what a test's bandwidth and delay need.
	chunkBytes = 16 << 10
	chunks     = 64
)

// A chunk is bytes under way; without data it is the end of the stream.
type chunk struct {
	due  time.Duration
	data []byte
}

var chunkBuffers = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// accept takes TCP connections.
func (r *Relay) accept(ctx context.Context, wg *sync.WaitGroup) error {
	for {
		client, err := r.tcp.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = client.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		case err != nil:
			// Out of descriptors: wait for some to be given back.
			if !sleep(ctx, 10*time.Millisecond) {
				return nil
			}
			continue
		case !r.reserve():
			r.count.connsRefused.Add(1)
			reset(client)
			continue
		}
		r.count.conns.Add(1)
		r.count.connsOpened.Add(1)
		wg.Go(func() {
			defer r.free()
			defer r.count.conns.Add(-1)
			r.relayTCP(ctx, client)
		})
	}
}

// relayTCP relays one connection until both directions have ended or one failed.
func (r *Relay) relayTCP(ctx context.Context, client *net.TCPConn) {
	address := unmap(client.RemoteAddr().(*net.TCPAddr).AddrPort())
	up, down, slow := r.c.links(address)
	// The kernel completed the client's handshake at once; the round trip that it
	// should have taken is waited for here.
	if !sleep(ctx, r.c.RTT) {
		reset(client)
		return
	}
	server, err := r.dialTCP(ctx, address)
	if err != nil {
		r.count.connsFailed.Add(1)
		reset(client)
		return
	}
	if slow {
		r.count.connsSlow.Add(1)
		// Else the kernel would take in megabytes for a flow that is said to be slow.
		_ = client.SetReadBuffer(int(r.c.Queue))
		_ = server.SetReadBuffer(int(r.c.Queue))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	abort := context.AfterFunc(ctx, func() {
		reset(client)
		reset(server)
	})
	var both sync.WaitGroup
	both.Go(func() { cancelOn(cancel, r.pipe(ctx, client, server, &up, &r.count.up)) })
	both.Go(func() { cancelOn(cancel, r.pipe(ctx, server, client, &down, &r.count.down)) })
	both.Wait()
	if abort() { // both ended in order
		_ = client.Close()
		_ = server.Close()
	}
}

func cancelOn(cancel context.CancelCauseFunc, err error) {
	if err != nil {
		cancel(err)
	}
}

// dialTCP connects to the server, from the client's address where that works.
func (r *Relay) dialTCP(ctx context.Context, client netip.AddrPort) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if local, ok := r.localAddr(client); ok {
		bound := dialer
		bound.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
		if conn, err := bound.DialContext(ctx, "tcp", r.target.String()); err == nil {
			return conn.(*net.TCPConn), nil
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", r.target.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// pipe carries one direction: a goroutine of its own reads and stamps, this one
// waits and writes. A stream that ends is ended towards the other side, when its end arrives.
func (r *Relay) pipe(ctx context.Context, from, to *net.TCPConn, l *link, count *directionCounters) error {
	under := make(chan chunk, chunks)
	failed := make(chan error, 1)
	go func() {
		defer close(under)
		failed <- r.readChunks(ctx, from, l, under)
	}()
	err := r.writeChunks(ctx, to, under, count)
	if err != nil {
		reset(from) // ends the reader
		for range under {
		}
	}
	return errors.Join(err, <-failed)
}

// readChunks reads while the link's queue and the window have room. What it does
// not read, the kernel holds back at the sender.
func (r *Relay) readChunks(ctx context.Context, from *net.TCPConn, l *link, under chan<- chunk) error {
	size := chunkBytes
	if l.rate > 0 {
		// About fifty reads a second, so that a slow stream flows and does not jump.
		size = int(min(chunkBytes, max(fullDatagram, l.rate/50)))
	}
	for {
		if !sleep(ctx, l.full(r.now())) {
			return ctx.Err()
		}
		buffer := chunkBuffers.Get().(*[chunkBytes]byte)
		n, err := from.Read(buffer[:size])
		c := chunk{due: l.transmit(r.now(), n), data: buffer[:n]}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		select {
		case under <- c: // n is 0 at the end
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			return nil
		}
	}
}

// writeChunks writes what arrives.
func (r *Relay) writeChunks(ctx context.Context, to *net.TCPConn, under <-chan chunk, count *directionCounters) error {
	for c := range under {
		if !sleep(ctx, c.due-r.now()) {
			return ctx.Err()
		}
		if len(c.data) == 0 {
			return to.CloseWrite()
		}
		n, err := to.Write(c.data)
		count.tcpBytes.Add(int64(n))
		if err != nil {
			return err
		}
		chunkBuffers.Put((*[chunkBytes]byte)(c.data[:chunkBytes]))
	}
	return nil
}

// reset closes a connection so that its peer sees a failure, not an end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
