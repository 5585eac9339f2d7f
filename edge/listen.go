package edge

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/admit"
)

// Listeners are the node's face to its visitors: HTTP/3, HTTP/2 and HTTP/1.1 on
// one port number, and the redirect from plain HTTP. They admit connections,
// bound headers, bodies, streams and silence, and hand requests to a handler.
//
// A visitor that is refused, idle or stuck costs its own connection only. When
// one of the sockets fails for good, Run returns the error.
type Listeners struct {
	c       Config
	socks   Sockets
	admit   *admit.Controller
	handler http.Handler
	hits    hitFinder // the handler, if it is one; nil: there are no fast paths
	log     *slog.Logger

	tls      *tlsState
	rules    atomic.Pointer[rules]
	short    atomic.Bool // whether the node ran short at the last sweep
	conns    registry
	proxied  proxyHeaders
	tcp      *tcpServer
	quic     *quicServer
	redirect *http.Server

	// life ends when everything has been closed, drain when a shutdown begins,
	// patience when requests in flight are given up. leave ends with drain, or
	// before, at left, when a successor takes what is new.
	life, drain, leave, patience                  context.Context
	endLife, startDrain, startLeave, losePatience context.CancelFunc
	left                                          time.Time
	mu                                            sync.Mutex // starting excludes stopping
	loops                                         sync.WaitGroup
	handlers                                      atomic.Int64
	closed                                        atomic.Bool  // all connections are: no handler but that of plain HTTP begins any more
	plain                                         atomic.Int64 // connections of plain HTTP, and the loop that accepts them
	failed                                        chan error
	started                                       chan struct{}
}

// rules are what a reload replaces.
type rules struct {
	stall     time.Duration
	step      int // see guard.step
	bodyBytes int64
	altSvc    []string
	proxies   []netip.Prefix // whose connections begin with a PROXY header
	trusted   []netip.Prefix // whose connections carry many visitors
}

// NewListeners opens the sockets that c names and returns Listeners on them.
// hosts are those of all sites; a self-signed certificate is made for them. The
// handler gets the requests of plain HTTP too, and tells them by plainPort. The visitors wait until Run.
func NewListeners(c Config, steering Steering, hosts []string, a *admit.Controller, h http.Handler, log *slog.Logger) (*Listeners, error) {
	socks, err := OpenSockets(context.Background(), c)
	if err != nil {
		return nil, err
	}
	if err := socks.Steer(context.Background(), steering); err != nil {
		return nil, errors.Join(err, socks.Close())
	}
	return NewListenersOn(socks, c, hosts, a, h, log)
}

// NewListenersOn is NewListeners for sockets that are open and steered already, such
// as adopted ones. It takes them over, and closes them on an error.
func NewListenersOn(s Sockets, c Config, hosts []string, a *admit.Controller, h http.Handler, log *slog.Logger) (*Listeners, error) {
	state, err := newTLS(c, hosts, log)
	if err != nil {
		s.Close()
		return nil, err
	}
	l := &Listeners{
		c: c, socks: s, admit: a, handler: h, log: log, tls: state,
		failed: make(chan error, 1), started: make(chan struct{}),
	}
	l.hits, _ = h.(hitFinder)
	l.life, l.endLife = context.WithCancel(context.Background())
	l.drain, l.startDrain = context.WithCancel(l.life)
	l.leave, l.startLeave = context.WithCancel(l.drain)
	l.patience, l.losePatience = context.WithCancel(l.life)
	first, err := l.newRules(c)
	if err != nil {
		s.Close()
		return nil, err
	}
	l.rules.Store(first)
	l.proxied.from = func() []netip.Prefix { return l.rules.Load().proxies }
	l.conns.start, l.conns.grant = time.Now(), l.grant
	if s.TCP != nil {
		if l.tcp, err = newTCPServer(l); err != nil {
			s.Close()
			return nil, err
		}
	}
	if s.HTTP != nil {
		l.redirect = newRedirect(h, port(l.Addr()), log)
		l.redirect.ConnState = l.attend
	}
	if len(s.UDP) > 0 && c.HTTP3.Enabled {
		if l.quic, err = newQUICServer(l); err != nil {
			s.Close()
			return nil, err
		}
	}
	return l, nil
}

func (l *Listeners) newRules(c Config) (*rules, error) {
	proxies, err := parsePrefixes("proxy_protocol", c.ProxyProtocol)
	if err != nil {
		return nil, err
	}
	trusted, err := parsePrefixes("trusted_proxies", c.TrustedProxies)
	if err != nil {
		return nil, err
	}
	step := min(max(int(c.Timeouts.Stall.Seconds()*minRate), 16<<10), 256<<10)
	altSvc := "clear" // RFC 7838 section 3: forget what was said
	if c.HTTP3.Enabled && len(l.socks.UDP) > 0 {
		altSvc = fmt.Sprintf(`h3=":%d"; ma=%d`, port(l.Addr()), int(c.HTTP3.AltSvcMaxAge.Seconds()))
	}
	return &rules{
		stall: c.Timeouts.Stall, step: step, bodyBytes: c.Limits.BodyBytes,
		altSvc: []string{altSvc}, proxies: proxies, trusted: trusted,
	}, nil
}

// Addr returns the address of HTTP/3, HTTP/2 and HTTP/1.1.
func (l *Listeners) Addr() net.Addr {
	if l.socks.TCP != nil {
		return l.socks.TCP.Addr()
	}
	return l.socks.UDP[0].LocalAddr()
}

// HTTPAddr returns the address of plain HTTP, or nil.
func (l *Listeners) HTTPAddr() net.Addr {
	if l.socks.HTTP == nil {
		return nil
	}
	return l.socks.HTTP.Addr()
}

// Certificate returns the default certificate in use.
func (l *Listeners) Certificate() *x509.Certificate { return l.tls.leaf() }

// ECHConfigList returns what the HTTPS records of the hosts must have as ech
// for visitors to encrypt whom they ask for, in base64. It is empty when
// Encrypted Client Hello is off.
func (l *Listeners) ECHConfigList() string { return echList(l.tls.current.Load().ech) }

// TicketKeys are the keys for tickets of waiting rooms, made of those that sign TLS
// tickets, and so the same on all nodes that share a secret. The first signs.
func (l *Listeners) TicketKeys() [][32]byte { return l.tls.current.Load().waiting }

func port(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// Run takes visitors in until Shutdown, or until ctx ends, which begins a
// shutdown that lasts at most Timeouts.Drain. It returns nil after a shutdown
// and an error when a socket failed.
func (l *Listeners) Run(ctx context.Context) error {
	l.start()
	var failure error
	select {
	case failure = <-l.failed:
	case <-ctx.Done():
	case <-l.drain.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.c.Timeouts.Drain)
	defer cancel()
	return errors.Join(failure, l.Shutdown(patience))
}

func (l *Listeners) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.drain.Err() != nil {
		return
	}
	l.loops.Go(l.sweep)
	l.loops.Go(func() { l.tls.run(l.life) })
	if l.tcp != nil {
		l.tcp.start()
	}
	if l.quic != nil {
		l.quic.start()
	}
	if l.redirect != nil {
		l.plain.Add(1)
		l.loops.Go(func() {
			defer l.plain.Add(-1)
			l.fail("redirect", l.redirect.Serve(plainListener{l.socks.HTTP, l}))
		})
	}
	if len(l.failed) == 0 {
		close(l.started)
	}
}

// attend has a shutdown wait for the goroutine of each connection of net/http, which
// outlives the connection: over HTTP/2 by a second, if a visitor's error ended it.
func (l *Listeners) attend(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		l.loops.Add(1) // said by the loop that accepts, which is one of them
	case http.StateClosed, http.StateHijacked:
		l.loops.Done()
	}
}

// fail ends Run, unless the end was asked for.
func (l *Listeners) fail(what string, err error) {
	if err == nil || l.leaving() {
		return
	}
	select {
	case l.failed <- fmt.Errorf("serve %s: %w", what, err):
	default:
	}
}

// forced is how long handlers have to notice that their requests were given up.
const forced = 5 * time.Second

var errHandlersRun = errors.New("shut down: handlers go on although their requests were canceled")

// Shutdown takes nothing new in and takes leave of those who are here as HandOver
// does, but sooner: connections that have been idle for 2 s (HTTP/3: 5 s) are closed,
// new QUIC flows refused at once. Everybody who was accepted gets a first answer within
// the usual time-outs, and what is in flight may last until ctx ends. Then everything
// is closed.
//
// Who waits in the kernel's queue of a stream socket is left to whoever else holds the
// socket, such as a service manager. If nobody does, the kernel resets them.
//
// It returns when all of the listeners' goroutines have ended, with the error of
// ctx if somebody was cut off. It may be called more than once; the first ctx
// that ends counts.
func (l *Listeners) Shutdown(ctx context.Context) error {
	l.mu.Lock()
	if l.drain.Err() == nil {
		if !l.leaving() {
			l.part()
		}
		l.startDrain()
		go l.shutdown()
	}
	l.mu.Unlock()
	select {
	case <-l.life.Done():
	case <-ctx.Done():
	}
	if l.life.Err() != nil { // also when both are done
		l.loops.Wait()
		return nil
	}
	l.losePatience()
	select {
	case <-l.life.Done():
		l.loops.Wait()
		return fmt.Errorf("shut down: requests in flight were cut off: %w", ctx.Err())
	case <-time.After(forced):
		return errHandlersRun
	}
}

// handlerPoll is how late a shutdown may notice that the last handler has ended.
const handlerPoll = 10 * time.Millisecond

// shutdown waits until nobody is left or patience is lost, ends the servers side by
// side, then closes the sockets.
func (l *Listeners) shutdown() {
	l.awaitFinished(l.patience)
	var servers sync.WaitGroup
	if l.redirect != nil {
		servers.Go(func() { l.redirect.Close() })
	}
	if l.tcp != nil {
		servers.Go(l.tcp.shutdown)
	}
	if l.quic != nil {
		servers.Go(l.quic.shutdown)
	}
	servers.Wait()
	// Closing a connection does not wait for its handlers, of which some may be about to
	// begin.
	l.closed.Store(true)
	for l.handlers.Load() > 0 {
		time.Sleep(handlerPoll)
	}
	l.socks.Close()
	l.endLife()
}

// Reload puts the parts of c in force that can change while visitors are
// connected: certificates, hosts, proxies, stall timeout, body limit and
// Alt-Svc. It refuses any other change. On an error everything stays.
func (l *Listeners) Reload(c Config, hosts []string) error {
	if names := FixedChanges(l.c, c); len(names) > 0 {
		return fmt.Errorf("%s cannot change while the node runs; restart it", strings.Join(names, ", "))
	}
	next, err := l.newRules(c)
	if err != nil {
		return err
	}
	if err := l.tls.load(c.TLS, hosts); err != nil {
		return err
	}
	l.rules.Store(next)
	return nil
}

// FixedChanges names the settings that differ and are fixed while the node
// runs.
func FixedChanges(a, b Config) []string {
	var names []string
	changed := func(name string, differs bool) {
		if differs {
			names = append(names, name)
		}
	}
	changed("listen", a.Listen != b.Listen)
	changed("http", a.HTTP != b.HTTP)
	changed("state", a.State != b.State)
	changed("tls.secret", a.TLS.Secret != b.TLS.Secret)
	changed("tls.ech", a.TLS.ECH != b.TLS.ECH)
	changed("log.access", a.Log.Access != b.Log.Access)
	changed("log.client", a.Log.Client != b.Log.Client)
	changed("log.recorder", a.Log.Recorder != b.Log.Recorder)
	changed("timeouts.header", a.Timeouts.Header != b.Timeouts.Header)
	changed("timeouts.idle", a.Timeouts.Idle != b.Timeouts.Idle)
	changed("limits.header_bytes", a.Limits.HeaderBytes != b.Limits.HeaderBytes)
	changed("limits.streams", a.Limits.Streams != b.Limits.Streams)
	changed("http1.fast_path", a.HTTP1 != b.HTTP1)
	changed("http2.fast_path", a.HTTP2 != b.HTTP2)
	changed("http3.fast_path", a.HTTP3.FastPath != b.HTTP3.FastPath)
	changed("http3.enabled", a.HTTP3.Enabled != b.HTTP3.Enabled)
	changed("http3.gso", a.HTTP3.GSO != b.HTTP3.GSO)
	changed("http3.ecn", a.HTTP3.ECN != b.HTTP3.ECN)
	return names
}

// ServeHTTP puts the guard between a protocol's server and the handler.
func (l *Listeners) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.handlers.Add(1)
	defer l.handlers.Add(-1)
	if l.closed.Load() { // after the count, or a shutdown could miss both
		return
	}
	c := connectionOf(r.Context())
	now := l.rules.Load()
	// RFC 8470 section 3: only safe methods may be acted on before the handshake
	// is complete. What the handler may do for those, Early and awaitHandshake
	// let it decide.
	if Early(r) && r.Method != http.MethodGet && r.Method != http.MethodHead {
		if awaitHandshake(r) != nil {
			return // the connection is gone, and with it whoever would read an answer
		}
	}
	if r.ProtoMajor == 3 {
		// The stream's deadline was for the header.
		http.NewResponseController(w).SetReadDeadline(time.Time{})
		c.hear(r.Header)
	}
	g := &guard{ResponseWriter: w, l: l, conn: c}
	if r.ProtoMajor > 1 {
		g.step = now.step
		g.pending = true // QUIC's flow control holds headers back too
	}
	// While the node runs short nobody is invited to HTTP/3, which costs it more.
	if r.ProtoMajor < 3 && !l.short.Load() {
		w.Header()["Alt-Svc"] = now.altSvc
	}
	if r.Body != nil && r.Body != http.NoBody {
		g.body = upload{from: r.Body, limit: now.bodyBytes, left: now.bodyBytes}
		r = guarded(r, &g.body)
	}
	c.enter(g)
	if l.leaving() {
		l.tell(c)
	}
	defer func() {
		givenUp := r.ProtoMajor > 1 && r.Context().Err() != nil
		if c.leave(g, givenUp) {
			l.excess(c)
		}
		if givenUp {
			c.charge(churnWork)
		}
		g.end(now.stall)
	}()
	l.handler.ServeHTTP(g, r)
}

// guarded returns the request with another body. Over HTTP/1.1 it is a copy: when
// the handler has ended, net/http looks at the body of its own request, and must
// know it, to tell whether the rest is a body that is still to come or the next
// request. Over HTTP/3 it must not be one: trailers come into the request itself.
func guarded(r *http.Request, body io.ReadCloser) *http.Request {
	if r.ProtoMajor == 1 {
		if r.Trailer == nil {
			r.Trailer = http.Header{} // one map for both: what was not announced comes later
		}
		copied := *r
		r = &copied
	}
	r.Body = body
	return r
}
