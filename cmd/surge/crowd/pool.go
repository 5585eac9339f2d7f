package crowd

import (
	"context"
	"crypto/tls"
	"net/http"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// lanes is how many HTTP/3 connections a pool has. A server commonly allows 100
// requests at once on a connection, and an HTTP/3 transport opens no second one by
// itself, as those for HTTP/1.1 and HTTP/2 do.
const lanes = 8

// A pool is the connections of one address that its visitors share.
type pool struct {
	lanes []http.RoundTripper
	close func()
}

// share returns the visitor's lane in the pool of its address.
func (d *dialer) share(v visitor) (*connection, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.pools[v.addr]
	if p == nil {
		var err error
		if p, err = d.newPool(v); err != nil {
			return nil, err
		}
		d.pools[v.addr] = p
	}
	return &connection{
		RoundTripper: p.lanes[v.n%uint64(len(p.lanes))],
		broken:       func() bool { return false }, // the pool dials anew
		close:        func() {},
	}, nil
}

func tcpPool(t *http.Transport) *pool {
	return &pool{lanes: []http.RoundTripper{t}, close: t.CloseIdleConnections}
}

// pool opens the socket of the visitor's address and puts lanes on it.
func (d *quicDialer) pool(v visitor) (*pool, error) {
	src, err := d.sources.acquire(sourceFor(v.addr, d.target))
	if err != nil {
		return nil, err
	}
	p := new(pool)
	var transports []*http3.Transport
	for range lanes {
		t := &http3.Transport{
			TLSClientConfig:    d.tls,
			QUICConfig:         d.conf.Clone(),
			DisableCompression: true,
			Dial: func(ctx context.Context, _ string, tlsConf *tls.Config, conf *quic.Config) (*quic.Conn, error) {
				return src.Dial(ctx, d.target, tlsConf, conf)
			},
		}
		transports = append(transports, t)
		p.lanes = append(p.lanes, t)
	}
	p.close = func() {
		for _, t := range transports {
			t.Close()
		}
		d.sources.release(src)
	}
	return p, nil
}
