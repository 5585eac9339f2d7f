package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"spillway/edge/outcome"
)

// tcpHandshakeTimeout bounds the TLS handshake on TCP. It is what QUIC's hard
// limit is.
const tcpHandshakeTimeout = 2 * quicHandshakeTimeout

// A tcpServer serves HTTP/2 and HTTP/1.1. It makes the TLS handshakes itself,
// before net/http sees the connection: so admission learns when one is complete,
// and none takes longer than it should.
type tcpServer struct {
	l      *Listeners
	server *http.Server
	fast   bool          // hits over HTTP/1.1 take the fast path
	ready  chan net.Conn // with complete handshakes
	closed context.Context
	close  context.CancelFunc
	// arriving counts what makes connections that are not known yet: the loop that
	// accepts them, and those whose PROXY header is awaited.
	arriving atomic.Int64
}

func newTCPServer(l *Listeners) (*tcpServer, error) {
	t := &tcpServer{l: l, ready: make(chan net.Conn), fast: l.hits != nil && l.c.HTTP1.FastPath != "off"}
	t.closed, t.close = context.WithCancel(l.life)
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	timeouts := l.c.Timeouts
	t.server = &http.Server{
		// OPTIONS * is refused and counted like any other request.
		DisableGeneralOptionsHandler: true,

		Handler:           l,
		Protocols:         &protocols,
		ReadHeaderTimeout: timeouts.Header,
		IdleTimeout:       timeouts.Idle,
		WriteTimeout:      finishTimeout(timeouts),
		MaxHeaderBytes:    int(l.c.Limits.HeaderBytes),
		ConnContext:       tcpConnContext,
		ConnState:         l.attend,
		ErrorLog:          slog.NewLogLogger(newPanicsOnly(l.log.Handler()), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          l.c.Limits.Streams,
			MaxReceiveBufferPerStream:     maxStreamWindow,
			MaxReceiveBufferPerConnection: maxConnWindow,
			// The least that RFC 9113 section 6.5.2 allows: a frame is read whole.
			MaxReadFrameSize: 16 << 10,
			// A visitor who vanished while it waits for an answer.
			SendPingTimeout: timeouts.Idle,
			PingTimeout:     timeouts.Header,
		},
	}
	return t, serveHTTP2(t.server, func(conn *tls.Conn) *frameConn {
		f := &frameConn{Conn: conn}
		c := conn.NetConn().(*tcpConn).connection
		c.frames.Store(f)
		if l.hits != nil && l.c.HTTP2.FastPath != "off" {
			f.fast = newFastHTTP2(l, c, f)
		}
		return f
	})
}

func (t *tcpServer) start() {
	t.arriving.Add(1)
	t.l.loops.Go(func() {
		defer t.arriving.Add(-1)
		t.l.fail("TCP", t.accept())
	})
	t.l.loops.Go(func() { t.l.fail("HTTP/2 and HTTP/1.1", t.server.Serve(t)) })
}

// accept admits connections until the socket is closed.
func (t *tcpServer) accept() error {
	var trouble trouble
	for delay := time.Duration(0); ; {
		raw, err := t.l.socks.TCP.Accept()
		if err == nil {
			delay = 0
			if trouble.met() && trouble.pass(time.Now()) {
				t.l.log.Info("connections are accepted again")
			}
			t.take(raw)
			continue
		}
		var passing interface{ Temporary() bool }
		if !errors.As(err, &passing) || !passing.Temporary() {
			return err
		}
		// Out of file descriptors, mostly: the backlog holds the others.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		t.l.conns.unaccepted.Add(1)
		if trouble.meet(time.Now()) {
			t.l.log.Warn("cannot accept connections, new visitors wait", "error", err)
		}
		select {
		case <-time.After(delay):
		case <-t.closed.Done():
			return err
		}
	}
}

// take has a connection admitted, once it is known whose it is: the accept loop
// does not wait for what a proxy says about it.
func (t *tcpServer) take(raw net.Conn) {
	conn, proxied := t.l.proxied.wrap(raw).(*proxiedConn)
	if !proxied {
		t.admit(raw)
		return
	}
	t.arriving.Add(1)
	t.l.loops.Go(func() {
		defer t.arriving.Add(-1)
		if conn.await(t.closed) == nil {
			t.admit(conn)
		}
	})
}

// admit lets a connection in or resets it. TCP has proved the address, or a
// trusted proxy answers for it.
func (t *tcpServer) admit(raw net.Conn) {
	socket := raw
	if p, ok := raw.(*proxiedConn); ok {
		socket = p.Conn
	}
	h, why := t.l.admit.ConnectTCP(addrPort(raw.RemoteAddr()))
	if why != outcome.None {
		reset(socket)
		return
	}
	t.l.tls.newcomers.giveWay()
	if socket != raw {
		h.Through(plainAddr(addrPort(socket.RemoteAddr()).Addr()))
	}
	limitUnsent(socket)
	c := &connection{handshake: h, tcp: raw}
	t.l.conns.add(c)
	conn := &tcpConn{Conn: raw, connection: c, registry: &t.l.conns}
	t.l.loops.Go(func() { t.handshake(tls.Server(conn, t.l.tls.tcp())) })
}

// unsent is how much the kernel takes of what is written before the network does.
// By itself it takes up to some MiB, which a visitor at the least rate needs
// minutes for: nothing moves meanwhile that the node can see, priorities are of
// no use, and each slow visitor costs that memory.
const unsent = 128 << 10

// limitUnsent bounds what the kernel holds of a connection. Where that fails, as it
// may for multipath TCP, only what is said at unsent is lost.
func limitUnsent(socket net.Conn) {
	raw, ok := socket.(syscall.Conn)
	if !ok {
		return // a simulated network
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return // closed meanwhile
	}
	_ = control.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	})
}

func (t *tcpServer) handshake(conn *tls.Conn) {
	ctx, cancel := context.WithTimeout(t.closed, tcpHandshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return
	}
	c := conn.NetConn().(*tcpConn).connection
	protocol := conn.ConnectionState().NegotiatedProtocol
	c.http2.Store(protocol == http2.NextProtoTLS)
	c.handshake.Done()
	var ready net.Conn = conn
	if t.fast && (protocol == "" || protocol == "http/1.1") {
		ready = newHitConn(t.l, c, conn)
	}
	select {
	case t.ready <- ready:
	case <-t.closed.Done():
		conn.Close()
	}
}

// Accept, Close and Addr make a net.Listener of the connections that have
// completed their handshakes.
func (t *tcpServer) Accept() (net.Conn, error) {
	select {
	case conn := <-t.ready:
		return conn, nil
	case <-t.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (t *tcpServer) Close() error {
	t.close()
	return t.l.socks.TCP.Close()
}

// Addr implements net.Listener.
func (t *tcpServer) Addr() net.Addr { return t.l.socks.TCP.Addr() }

// shutdown cuts off who is still here, which is nobody unless patience was lost. TLS
// would say goodbye on each, one after the other, and wait for 5 s where the visitor
// takes nothing; and the server knows nothing of connections that were taken over.
func (t *tcpServer) shutdown() {
	t.Close()
	for _, c := range t.l.conns.snapshot(nil) {
		if c.tcp != nil {
			c.tcp.Close()
		}
	}
	t.server.Close()
}

func tcpConnContext(ctx context.Context, conn net.Conn) context.Context {
	c := conn.(interface{ NetConn() net.Conn }).NetConn().(*tcpConn).connection
	c.served.Store(true)
	return context.WithValue(ctx, connectionKey{}, c)
}

// goAway ends a TCP connection in the words of its protocol: its reader fails
// with what the HTTP/2 server then sends as GOAWAY. HTTP/1.1 has no word for it,
// and its server would take the failure for a bad request and answer that.
func (c *connection) goAway(code http2.ErrCode) {
	if !c.http2.Load() {
		c.tcp.Close()
		return
	}
	end := http2.ConnectionError(code)
	c.farewell.Store(&end)
	c.tcp.SetReadDeadline(past)
}

// tcpConn marks the writes of a TCP connection. TLS writes one record of at
// most 16 KiB at a time, so that any response shows its progress here.
type tcpConn struct {
	net.Conn
	connection *connection
	registry   *registry
	once       sync.Once
}

// Read implements net.Conn.
func (c *tcpConn) Read(b []byte) (int, error) {
	if end := c.connection.farewell.Load(); end != nil {
		return 0, *end
	}
	n, err := c.Conn.Read(b)
	c.connection.in.Add(int64(n))
	if end := c.connection.farewell.Load(); end != nil && err != nil {
		err = *end
	}
	return n, err
}

// Write implements net.Conn.
func (c *tcpConn) Write(b []byte) (int, error) {
	c.connection.writes.begin()
	defer c.connection.writes.end()
	n, err := c.Conn.Write(b)
	c.connection.out.Add(int64(n))
	return n, err
}

// Close implements net.Conn.
func (c *tcpConn) Close() error {
	c.once.Do(func() {
		c.registry.remove(c.connection)
		c.connection.handshake.Close()
	})
	return c.Conn.Close()
}

// panicsOnly lets through what the protocols' servers log when a handler
// panics, once in a while: who finds a request that does it could fill the log.
// All else that they log is visitors' mistakes.
type panicsOnly struct {
	slog.Handler
	last *atomic.Int64 // when one was let through, since the Unix epoch
}

func newPanicsOnly(h slog.Handler) panicsOnly { return panicsOnly{h, new(atomic.Int64)} }

// panicEvery is how often the log tells of a panic.
const panicEvery = 10 * time.Second

// Handle implements slog.Handler.
func (p panicsOnly) Handle(ctx context.Context, r slog.Record) error {
	if !strings.Contains(r.Message, "panic serving") {
		return nil
	}
	last := p.last.Load()
	now := r.Time.UnixNano()
	// A clock that was set back must not silence it until the old time comes.
	if since := now - last; 0 <= since && since < int64(panicEvery) || !p.last.CompareAndSwap(last, now) {
		return nil
	}
	r.Level = slog.LevelError
	// How much of an address is kept is log.client's to say.
	r.Message = servedAddress.ReplaceAllString(r.Message, "panic serving a visitor: ")
	return p.Handler.Handle(ctx, r)
}

var servedAddress = regexp.MustCompile(`panic serving \S+:\d+: `)

// Enabled implements slog.Handler.
func (p panicsOnly) Enabled(ctx context.Context, _ slog.Level) bool {
	return p.Handler.Enabled(ctx, slog.LevelError)
}
