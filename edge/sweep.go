package edge

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// A registry holds all connections, for the sweep.
type registry struct {
	start time.Time
	grant func(*connection) // sets what depends on the peer

	mu  sync.Mutex
	all []*connection

	headerTimeouts, idleTimeouts, crowded, stalls, excesses, unaccepted, shedStreams atomic.Uint64
}

func (r *registry) add(c *connection) {
	r.grant(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	c.index = len(r.all)
	r.all = append(r.all, c)
}

func (r *registry) remove(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.all) - 1
	r.all[c.index] = r.all[last]
	r.all[c.index].index = c.index
	r.all[last] = nil
	r.all = r.all[:last]
}

// snapshot appends all connections to buf, so that a sweep does not keep new
// ones waiting.
func (r *registry) snapshot(buf []*connection) []*connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(buf, r.all...)
}

func (r *registry) count() (tcp, quic int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		if c.quic == nil {
			tcp++
		} else {
			quic++
		}
	}
	return tcp, quic
}

// sweep looks at every connection several times per timeout, until life ends.
func (l *Listeners) sweep() {
	t := l.c.Timeouts
	every := min(t.Header, t.Idle, l.rules.Load().stall) / sweepsPerTimeout
	every = min(max(every, time.Millisecond), time.Second)
	tick := time.NewTicker(every)
	defer tick.Stop()
	leaving, last := time.Duration(-1), time.Since(l.conns.start)
	var buf []*connection
	var tired []idler
	for {
		select {
		case <-l.life.Done():
			return
		case <-tick.C:
		}
		l.short.Store(l.admit.Short())
		now := time.Since(l.conns.start)
		if leaving < 0 && l.leaving() {
			leaving = now
		}
		s := sight{now: now, tick: min(now-last, 2*every), stall: l.rules.Load().stall, finish: finishTimeout(t)}
		last = now
		idle := l.idleLimit()
		buf = l.conns.snapshot(buf[:0])
		for _, c := range buf {
			look := l.sweepTCP
			if c.quic != nil {
				look = l.sweepQUIC
			}
			if age, inTheWay := look(c, s, idle, leaving); inTheWay {
				tired = append(tired, idler{c, age})
			}
			if c.noisy(s.tick, l.c.Limits.HeaderBytes) {
				l.excess(c)
			}
		}
		for _, i := range longestIdle(tired, closings(len(buf), l.admit.Surplus(), s.tick)) {
			l.crowdOut(i.connection)
		}
		clear(tired)
		tired = tired[:0]
		clear(buf) // a connection that ends must not wait for the next sweep
	}
}

// idleLimit is how long a connection may be without a request. It falls from the
// configured time to nothing while the last quarter of the connections is taken, or
// the memory runs short, so that those close first that have been idle for longest,
// and connections that only stand there do not lock visitors out.
func (l *Listeners) idleLimit() time.Duration {
	idle := l.c.Timeouts.Idle
	return max(time.Duration(l.admit.Room()*float64(idle)), min(idle, leastIdle))
}

// leastIdle is left to every visitor to send a first request over a slow network.
const leastIdle = 2 * time.Second

// An idler is a connection that has been idle for longer than there is room for.
type idler struct {
	*connection
	age time.Duration
}

// closings is how many idle connections of so many may be closed to make room after
// what has passed since the last sweep: a quarter in a second, and one at least. More
// would go than need be, for the memory that they leave is seen only when the
// collector has run, and their visitors would come back all at once. Of a surplus, whose
// number is known, twice as many may go: half of all where the node is full, which is
// how many can come in a second if leastIdle is left to each.
func closings(connections int, surplus int64, tick time.Duration) int {
	return max(int(float64(connections)*tick.Seconds()/4), int(2*surplus), 1)
}

// longestIdle returns the most of them that may go, those first that have been idle
// for longest.
func longestIdle(idle []idler, most int) []idler {
	if len(idle) <= most {
		return idle
	}
	slices.SortFunc(idle, func(a, b idler) int { return cmp.Compare(b.age, a.age) })
	return idle[:most]
}

// sweepTCP cuts requests that are stuck, and the connection when it does not
// take what is written. Headers and idleness are the business of net/http, as
// long as there is room for idle connections. It reports whether the connection is
// idle and in the way of others, and for how long it has been idle.
func (l *Listeners) sweepTCP(c *connection, s sight, idleLimit, leaving time.Duration) (age time.Duration, inTheWay bool) {
	cuts, idle, age := c.sweep(s)
	switch {
	case c.writes.stuck(s.now, s.stall):
		c.tcp.Close()
		cuts++
	case idle && c.served.Load() && c.farewell.Load() == nil && idleLimit < l.c.Timeouts.Idle && age >= idleLimit:
		inTheWay = true
	case idle && age >= crossing && c.crossed(s.now) && c.farewell.Load() == nil:
		c.goAway(http2.ErrCodeNo)
	case leaving >= 0 && idle && c.served.Load() && c.farewell.Load() == nil && l.spent(c, s.now-leaving, age):
		c.goAway(http2.ErrCodeNo)
	}
	l.conns.stalls.Add(uint64(cuts))
	return age, inTheWay
}

// spent reports whether a shutdown that began a while ago waits no longer for a
// connection that has been idle for age: nothing is on its way that was sent before
// its visitor could know, and no first request is either that comes in pieces.
func (l *Listeners) spent(c *connection, since, age time.Duration) bool {
	if l.drain.Err() == nil || since < crossing || age < crossing {
		return false
	}
	return !c.fresh() || c.noise.silent >= crossing || age >= l.c.Timeouts.Header
}

// What an HTTP/3 connection is left from the first GOAWAY on: the last one, which names
// the requests that are answered, comes later. Visitors close it themselves once they
// have their answers, and must have them first. Who comes during a hand-over has as
// much time for a first request as ever.
const (
	drainGrace = crossing + time.Second
	drainQuiet = 5 * time.Second
)

// sweepQUIC cuts requests that are stuck, and connections on which nothing
// comes: http3.Server knows no header timeout, and its idle timeout neither sees
// a stream on which half a header came nor minds PINGs. It returns what sweepTCP does.
func (l *Listeners) sweepQUIC(c *connection, s sight, idleLimit, leaving time.Duration) (age time.Duration, inTheWay bool) {
	l.quic.takeUni(c)
	cuts, idle, age := c.sweep(s)
	l.conns.stalls.Add(uint64(cuts))
	switch {
	case !idle:
	case c.fresh() && age >= l.c.Timeouts.Header:
		l.conns.headerTimeouts.Add(1)
		dismiss(c.quic, http3.ErrCodeNoError, "no request")
	case age >= l.c.Timeouts.Idle:
		l.conns.idleTimeouts.Add(1)
		dismiss(c.quic, http3.ErrCodeNoError, "idle")
	case age >= idleLimit:
		inTheWay = true
	case leaving < 0 || s.now-leaving < drainGrace:
	case c.fresh() && l.spent(c, s.now-leaving, age), !c.fresh() && age >= drainQuiet:
		dismiss(c.quic, http3.ErrCodeNoError, "going away")
	}
	return age, inTheWay
}

// crowdOut closes an idle connection to make room, unless a request has come while the
// sweep looked at the others. A source that never asked for anything owes for it as for a
// handshake that it left hanging.
func (l *Listeners) crowdOut(c *connection) {
	if !c.resting() {
		return
	}
	l.conns.crowded.Add(1)
	if c.fresh() {
		c.blame(1)
	}
	if c.quic != nil {
		dismiss(c.quic, http3.ErrCodeNoError, "idle")
	} else {
		c.goAway(http2.ErrCodeNo)
	}
}

// dismiss closes a connection. It may block until the close was sent, so that it
// has its own goroutine.
func dismiss(c *quic.Conn, code http3.ErrCode, why string) {
	go c.CloseWithError(quic.ApplicationErrorCode(code), why)
}

// ListenState is what the listeners hold and have done, for metrics and status.
type ListenState struct {
	// TCP and QUIC are the connections there are.
	TCP  int `json:"tcp"`
	QUIC int `json:"quic"`
	// Newcomers are handshakes that wait for visitors who are here to leave them a
	// processor.
	Newcomers int64 `json:"newcomers"`
	// HeaderTimeouts and IdleTimeouts count connections closed because no request
	// came, or none any more (HTTP/3; the other protocols' server does not tell).
	HeaderTimeouts uint64 `json:"header_timeouts"`
	IdleTimeouts   uint64 `json:"idle_timeouts"`
	// Crowded counts idle connections closed before their time, to make room.
	Crowded uint64 `json:"crowded"`
	// Stalls counts requests and connections cut for want of progress.
	Stalls uint64 `json:"stalls"`
	// ProxyHeaders counts connections of trusted proxies that were closed because
	// their PROXY header was malformed, too long or late.
	ProxyHeaders uint64 `json:"proxy_headers"`
	// Excesses counts connections closed because their requests were given up too
	// often, or because they brought too much that was no request.
	Excesses uint64 `json:"excesses"`
	// ShedStreams counts streams of HTTP/3 that were rejected unread because the node was
	// overwhelmed.
	ShedStreams uint64 `json:"shed_streams"`
	// Unaccepted counts failures to accept a TCP connection, such as for want of
	// file descriptors.
	Unaccepted uint64 `json:"unaccepted"`
	// CertificateExpiry is when the first of the certificates in use expires.
	CertificateExpiry time.Time `json:"certificate_expiry"`
	// CertificatesRefused counts changed files of certificates that did not load.
	CertificatesRefused uint64 `json:"certificates_refused"`
	// KeysUnsaved tells that ticket keys are in memory only, because the state
	// folder cannot be written.
	KeysUnsaved bool `json:"keys_unsaved"`
	// UDPSockets is how many sockets HTTP/3 has, and UDPSteering how its datagrams find
	// theirs: by the kernel, by classic BPF, none where they should and do not, single
	// where there is nothing to find. UDPUnsteered says why the kernel does not.
	UDPSockets   int    `json:"udp_sockets"`
	UDPSteering  string `json:"udp_steering,omitempty"`
	UDPUnsteered string `json:"udp_unsteered,omitempty"`
	// UDPBuffer is the least receive buffer of these sockets, in bytes. UDPDropped counts
	// packets that did not fit into one, and UDPUnprocessed those of new visitors that were
	// read and found no place in a queue, or waited there for too long.
	UDPBuffer      int64  `json:"udp_buffer"`
	UDPDropped     uint64 `json:"udp_dropped"`
	UDPUnprocessed uint64 `json:"udp_unprocessed"`
	// UploadWindow is how many bytes beyond the initial windows visitors may
	// have under way to the node over HTTP/3.
	UploadWindow int64 `json:"upload_window"`
}

// State returns the present state.
func (l *Listeners) State() ListenState {
	s := ListenState{
		Newcomers:      l.tls.newcomers.waiting.Load(),
		HeaderTimeouts: l.conns.headerTimeouts.Load(),
		IdleTimeouts:   l.conns.idleTimeouts.Load(),
		Crowded:        l.conns.crowded.Load(),
		Stalls:         l.conns.stalls.Load(),
		ProxyHeaders:   l.proxied.refused.Load(),
		Excesses:       l.conns.excesses.Load(),
		Unaccepted:     l.conns.unaccepted.Load(),
		ShedStreams:    l.conns.shedStreams.Load(),

		CertificateExpiry:   l.tls.current.Load().expiry,
		CertificatesRefused: l.tls.certs.refused.Load(),
		KeysUnsaved:         l.tls.keys.held(),
	}
	s.TCP, s.QUIC = l.conns.count()
	if l.quic != nil {
		s.UploadWindow = l.quic.windows.Load()
		s.UDPSockets, s.UDPSteering = len(l.socks.UDP), l.socks.steered()
		s.UDPUnprocessed = l.quic.lost.packets.Load()
		for i, sock := range l.socks.UDP {
			if b, err := backlogOf(sock); err == nil { // else it is closed, or none
				s.UDPDropped += b.dropped
				if i == 0 || b.buffer < s.UDPBuffer {
					s.UDPBuffer = b.buffer
				}
			}
		}
		if l.socks.unsteered != nil {
			s.UDPUnsteered = l.socks.unsteered.Error()
		}
	}
	return s
}
