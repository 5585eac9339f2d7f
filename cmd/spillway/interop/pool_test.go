package interop

//lint:file-ignore SA1019 net/http can neither ping nor be told which connection to use

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// settingsTime is how long golang.org/x/net/http2 waits for a client's first SETTINGS,
// which come with the first bytes. Then it closes the connection without a word.
const settingsTime = 2 * time.Second

// A pool has the connections over HTTP/2 of one visitor, one after the other. Each is
// used when a ping has come back. One that is closed before that, after settingsTime, met
// a node that stood still: the visitor comes again. That the node closes one earlier is a
// failure as any other.
type pool struct {
	transport http2.Transport
	node      *node
	mu        sync.Mutex
	conns     []*http2.ClientConn
}

func newPool(n *node) *pool {
	p := &pool{node: n}
	p.transport.ConnPool = p
	return p
}

// GetClientConn implements http2.ClientConnPool.
func (p *pool) GetClientConn(r *http.Request, _ string) (*http2.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.conns) - 1; last >= 0 && p.conns[last].ReserveNewRequest() {
		return p.conns[last], nil
	}
	for {
		began := time.Now()
		conn, err := p.open(r.Context())
		if err == nil && conn.ReserveNewRequest() {
			return conn, nil
		}
		if err != nil && (r.Context().Err() != nil || time.Since(began) < settingsTime) {
			return nil, err
		}
	}
}

// open returns a new connection that has carried a ping.
func (p *pool) open(ctx context.Context) (*http2.ClientConn, error) {
	dialer := tls.Dialer{Config: p.node.tls(http2.NextProtoTLS)}
	socket, err := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+p.node.port)
	if err != nil {
		return nil, err
	}
	conn, err := p.transport.NewClientConn(socket)
	if err != nil {
		socket.Close()
		return nil, err
	}
	p.conns = append(p.conns, conn)
	return conn, conn.Ping(ctx)
}

// MarkDead implements http2.ClientConnPool. A dead connection takes no requests.
func (p *pool) MarkDead(*http2.ClientConn) {}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		conn.Close()
	}
}
