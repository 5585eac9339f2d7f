package load

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A lane is one connection.
type lane struct {
	http.RoundTripper
	broken func() bool // it will carry no further request
	close  func()
	taken  int // requests on it; guarded by its pool
}

// A dialer opens a lane to an address.
type dialer func(ctx context.Context, address string) (*lane, error)

func newDialer(protocol string, conf *tls.Config) dialer {
	if protocol == H3 {
		return dialQUIC(conf)
	}
	t := &http.Transport{TLSClientConfig: conf, DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP2(true)
	return func(ctx context.Context, address string) (*lane, error) {
		cc, err := t.NewClientConn(ctx, "https", address)
		if err != nil {
			return nil, err
		}
		return &lane{
			RoundTripper: cc,
			broken:       func() bool { return cc.Err() != nil },
			close:        func() { cc.Close() },
		}, nil
	}
}

// dialQUIC gives each connection a socket of its own, so that a relay tells them
// apart.
func dialQUIC(conf *tls.Config) dialer {
	conf.NextProtos = []string{http3.NextProtoH3}
	settings := &quic.Config{
		KeepAlivePeriod:         15 * time.Second,
		MaxIncomingStreams:      -1, // HTTP/3 servers open no bidirectional ones (RFC 9114 section 6.1)
		DisablePathMTUDiscovery: true,
	}
	return func(ctx context.Context, address string) (*lane, error) {
		to, err := net.ResolveUDPAddr("udp", address)
		if err != nil {
			return nil, err
		}
		socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, err
		}
		transport := &quic.Transport{Conn: socket}
		conn, err := transport.Dial(ctx, to, conf, settings)
		if err != nil {
			transport.Close()
			socket.Close()
			return nil, err
		}
		client := (&http3.Transport{DisableCompression: true}).NewClientConn(conn)
		return &lane{
			RoundTripper: client,
			broken:       func() bool { return conn.Context().Err() != nil },
			close: func() {
				conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
				transport.Close()
				socket.Close()
			},
		}, nil
	}
}

// perLane is how many requests share a connection: a little less than the hundred
// that servers commonly allow.
const perLane = 90

// A pool is the connections that visitors share.
type pool struct {
	dial func(context.Context) (*lane, error)

	mu    sync.Mutex
	lanes []*lane
	turn  int
}

// open dials n lanes.
func (p *pool) open(ctx context.Context, n int) error {
	errs := make([]error, n)
	var dialing sync.WaitGroup
	for i := range n {
		dialing.Go(func() {
			l, err := p.dial(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.lanes = append(p.lanes, l)
		})
	}
	dialing.Wait()
	return errors.Join(errs...)
}

// take returns the next lane with room, or a new one. It must be put back.
func (p *pool) take(ctx context.Context) (*lane, error) {
	if l := p.free(); l != nil {
		return l, nil
	}
	l, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.taken++
	p.lanes = append(p.lanes, l)
	return l, nil
}

// free takes the lanes in turn, and drops those that broke.
func (p *pool) free() *lane {
	p.mu.Lock()
	defer p.mu.Unlock()
	for tries := len(p.lanes); tries > 0; tries-- {
		p.turn = (p.turn + 1) % len(p.lanes)
		l := p.lanes[p.turn]
		if l.broken() {
			p.lanes = append(p.lanes[:p.turn], p.lanes[p.turn+1:]...)
			if l.taken == 0 {
				l.close()
			}
			if len(p.lanes) == 0 {
				return nil
			}
			continue
		}
		if l.taken < perLane {
			l.taken++
			return l
		}
	}
	return nil
}

func (p *pool) put(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.taken--
	if l.taken == 0 && l.broken() {
		l.close()
	}
}

// close closes all lanes, once their requests have ended.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.lanes {
		l.close()
	}
}
