package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/edge/outcome"
)

// Limits of QUIC that are not knobs.
const (
	// A handshake that hears nothing for this long is given up, and any after
	// twice as long. Each holds 75 KiB.
	quicHandshakeTimeout = 3 * time.Second
	// HTTP/3 needs three streams from the client (RFC 9114 section 6.2); some
	// are left for those that browsers grease with.
	quicUniStreams = 8
	// An upload starts small and may grow to what fills 250 ms of 100 Mbit/s.
	// A connection's window allows for a picture or two.
	streamWindow, maxStreamWindow = 64 << 10, 1 << 20
	connWindow, maxConnWindow     = 128 << 10, 3 << 20
	// uploadWindows bounds what all connections may have under way beyond their
	// initial windows. When it is used up uploads are slow, not refused.
	uploadWindows = 256 << 20
)

// A quicServer owns the accept loops of HTTP/3, of connections and of their
// streams.
type quicServer struct {
	l       *Listeners
	server  *http3.Server // makes the connections' HTTP/3 side; its own loops are not used
	sockets []*quicSocket
	windows atomic.Int64
	gsoSaid atomic.Bool
	alive   atomic.Int64 // connections, from their first packet on
	lost    unprocessed

	mu      sync.Mutex
	closing bool
	serving sync.WaitGroup
}

// A quicSocket is one UDP socket with its transport. All share their keys, so
// that a token or ticket from one is good at another, and any can reset connections
// that nobody has.
type quicSocket struct {
	transport *quic.Transport
	listener  *quic.EarlyListener
}

func newQUICServer(l *Listeners) (*quicServer, error) {
	if err := disableOffloads(l.c.HTTP3); err != nil {
		return nil, err
	}
	q := &quicServer{l: l}
	q.server = &http3.Server{
		Handler:        l,
		Port:           port(l.Addr()),
		MaxHeaderBytes: int(l.c.Limits.HeaderBytes),
		// A handler finds its connection in one step.
		ConnContext: func(ctx context.Context, conn *quic.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connectionOf(conn.Context()))
		},
		Logger: slog.New(newPanicsOnly(l.log.Handler())),
	}
	steering := &l.socks.Steering
	if steering.IDs == nil {
		return nil, errors.New("HTTP/3 needs connection IDs")
	}
	token := quic.TokenGeneratorKey(l.tls.keys.file.Token)
	var reset *quic.StatelessResetKey
	// Where packets can come to a socket that is not their connection's, a reset would
	// end a connection that lives.
	if l.socks.steered() != steeredByNothing {
		reset = (*quic.StatelessResetKey)(l.tls.keys.file.StatelessReset)
	} else {
		l.log.Warn("UDP packets are not steered by connection ID: HTTP/3 connections end when a visitor's address changes",
			"sockets", len(l.socks.UDP), "error", l.socks.unsteered)
	}
	for i, conn := range l.socks.UDP {
		sock, watched := watch(conn, &q.lost)
		q.sockets = append(q.sockets, &quicSocket{transport: &quic.Transport{
			Conn:                  sock,
			ConnectionIDGenerator: socketIDs{steering.IDs, steering.slot(i)},
			TokenGeneratorKey:     &token,
			StatelessResetKey:     reset,
			VerifySourceAddress:   func(a net.Addr) bool { return q.mustProve(a, watched) },
			ConnContext: func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
				watched.took(info.RemoteAddr)
				return q.admit(ctx, info)
			},
			Tracer: &q.lost,
		}})
	}
	return q, nil
}

// mustProve reports whether a new client must prove its address, by a Retry. It runs
// on the socket's one goroutine for new connections.
func (q *quicServer) mustProve(a net.Addr, sock *watchedSocket) bool {
	sock.took(a)
	if !q.l.admit.Retry(addrPort(a).Addr()) {
		return false
	}
	sock.await()
	return true
}

// config is the QUIC side of all connections. The limits are promised in
// tickets: those given before they were lowered are void (see tlsState.limits).
func (q *quicServer) config() *quic.Config {
	idle := q.l.c.Timeouts.Idle
	return &quic.Config{
		HandshakeIdleTimeout: quicHandshakeTimeout,
		MaxIdleTimeout:       idle,
		// A visitor who waits for a slow answer is silent. The sweep closes those
		// who wait for nothing, so that a ping keeps alive only who does.
		KeepAlivePeriod:                idle / 2,
		MaxIncomingStreams:             int64(q.l.c.Limits.Streams),
		MaxIncomingUniStreams:          quicUniStreams,
		InitialStreamReceiveWindow:     streamWindow,
		MaxStreamReceiveWindow:         maxStreamWindow,
		InitialConnectionReceiveWindow: connWindow,
		MaxConnectionReceiveWindow:     maxConnWindow,
		AllowConnectionWindowIncrease:  q.widen,
		Allow0RTT:                      true,
		// See hits3.release. Every stream that is accepted must be released.
		RequireStreamCreditRelease: true,
	}
}

func (q *quicServer) start() {
	for _, s := range q.sockets {
		var err error
		if s.listener, err = s.transport.ListenEarly(q.l.tls.quic(), q.config()); err != nil {
			q.l.fail("HTTP/3", err)
			return
		}
		q.l.loops.Go(func() { q.l.fail("HTTP/3", q.accept(s.listener)) })
	}
	q.l.fail("HTTP/3", q.l.socks.draw())
}

func (q *quicServer) accept(l *quic.EarlyListener) error {
	for {
		conn, err := l.Accept(q.l.life)
		if err != nil {
			return err
		}
		q.l.loops.Go(func() { q.handle(conn) })
	}
}

var errRefused = errors.New("connection refused")

// admit decides about a new connection before its first packet is decrypted. It
// runs on the socket's one goroutine. An error refuses the connection, and
// browsers then come over TCP at once; while the node drains that tells them to try
// another node, which silence would not. Who comes late in a hand-over is not refused.
func (q *quicServer) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	q.alive.Add(1) // before the look: a drain that begins after it would find nobody, and end
	if q.l.drain.Err() != nil {
		q.alive.Add(-1)
		return nil, errRefused
	}
	h, why := q.l.admit.Connect(addrPort(info.RemoteAddr), info.AddrVerified)
	if why != outcome.None {
		q.alive.Add(-1)
		return nil, errRefused
	}
	q.l.tls.newcomers.giveWay() // a burst of first packets is more than a processor's turn
	c := &connection{handshake: h}
	context.AfterFunc(ctx, func() {
		q.alive.Add(-1)
		c.settle()
		q.windows.Add(-c.window.Load())
	})
	return context.WithValue(ctx, connectionKey{}, c), nil
}

// settle books how the handshake of a connection that has ended came out. The packet that
// completed it may have come with the one that ended the connection, before anybody saw
// the first: who asks one thing, in early data or not, owes nothing for having left.
func (c *connection) settle() {
	if c.accepted.Load() == nil {
		runtime.Gosched() // it may be about to be
	}
	if conn := c.accepted.Load(); conn != nil {
		select {
		case <-conn.HandshakeComplete():
			c.handshake.Done()
		default:
		}
	}
	c.handshake.Close()
}

// handle serves one connection until it ends. The connection may still be in
// its handshake and bring early data.
func (q *quicServer) handle(conn *quic.Conn) {
	c := connectionOf(conn.Context())
	c.quic = conn
	c.accepted.Store(conn)
	q.mu.Lock()
	if q.closing {
		q.mu.Unlock()
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "going away")
		return
	}
	q.serving.Add(1)
	q.mu.Unlock()
	defer q.serving.Done()

	q.l.conns.add(c)
	defer q.l.conns.remove(c)
	q.l.loops.Go(func() {
		select {
		case <-conn.HandshakeComplete():
			c.handshake.Done()
			c.served.Store(true)
			q.checkGSO(conn)
		case <-conn.Context().Done():
		}
	})
	if err := q.serve(c); err != nil {
		q.l.log.Debug("HTTP/3 connection ended", "error", err)
	}
}

// widen grants a connection a larger receive window while all are within
// bounds. It must not call into the connection.
func (q *quicServer) widen(conn *quic.Conn, delta uint64) bool {
	if q.windows.Add(int64(delta)) > uploadWindows {
		q.windows.Add(-int64(delta))
		return false
	}
	connectionOf(conn.Context()).window.Add(int64(delta))
	return true
}

// checkGSO warns once where the kernel or the interface lacks segmentation
// offload.
func (q *quicServer) checkGSO(conn *quic.Conn) {
	if !q.l.c.HTTP3.GSO || q.gsoSaid.Swap(true) || conn.ConnectionState().GSO {
		return
	}
	if _, real := q.l.socks.UDP[0].(*net.UDPConn); real {
		q.l.log.Warn("UDP segmentation offload is not available: large HTTP/3 answers cost about half as much CPU again")
	}
}

// shutdown closes everything once the connections have ended, which those that are
// still here do because the listeners have lost their patience.
func (q *quicServer) shutdown() {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.serving.Wait()
	for _, s := range q.sockets {
		if s.listener != nil {
			s.listener.Close()
		}
		s.transport.Close()
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return a.AddrPort()
	case *net.TCPAddr:
		return a.AddrPort()
	}
	ap, _ := netip.ParseAddrPort(a.String())
	return ap
}

// disableOffloads tells quic-go what not to use. It offers no other way than
// the environment, which it reads when it takes a socket over.
func disableOffloads(c HTTP3Config) error {
	var errs []error
	if !c.GSO {
		errs = append(errs, os.Setenv("QUIC_GO_DISABLE_GSO", "true"))
	}
	if !c.ECN {
		errs = append(errs, os.Setenv("QUIC_GO_DISABLE_ECN", "true"))
	}
	return errors.Join(errs...)
}
