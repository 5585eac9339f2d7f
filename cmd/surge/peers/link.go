package peers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// A link is a connection, over a socket of its own as every visitor has.
type link struct {
	conn   *quic.Conn
	client *http3.ClientConn
	close  func()
}

// An unshared cache gives a session of his own to each of the many visitors who come back
// by one ticket: quic-go writes into what it gets.
type unshared struct{ tls.ClientSessionCache }

// Get implements tls.ClientSessionCache.
func (c unshared) Get(key string) (*tls.ClientSessionState, bool) {
	known, ok := c.ClientSessionCache.Get(key)
	if !ok {
		return nil, false
	}
	ticket, state, err := known.ResumptionState()
	if err != nil {
		return nil, false
	}
	b, err := state.Bytes()
	if err != nil {
		return nil, false
	}
	if state, err = tls.ParseSessionState(b); err != nil {
		return nil, false
	}
	own, err := tls.NewResumptionState(ticket, state)
	return own, err == nil
}

// Put implements tls.ClientSessionCache. Where a visitor leaves before the end of his
// handshake, crypto/tls forgets the ticket; it is the others', too.
func (c unshared) Put(key string, session *tls.ClientSessionState) {
	if session != nil {
		c.ClientSessionCache.Put(key, session)
	}
}

// dial connects. What comes with the first packet is dialed early.
func (v *visitor) dial(ctx context.Context, early bool) (*link, error) {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	transport := &quic.Transport{Conn: socket}
	dial := transport.Dial
	if early {
		dial = transport.DialEarly
	}
	conn, err := dial(ctx, v.target, &tls.Config{
		// The servers' certificate is our own.
		InsecureSkipVerify: true, ServerName: serverName, NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: v.sessions,
		CurvePreferences: []tls.CurveID{tls.X25519}, // as h2load, and unlike browsers
	}, &quic.Config{MaxIdleTimeout: 5 * time.Minute, DisablePathMTUDiscovery: true})
	if err != nil {
		return nil, errors.Join(err, transport.Close(), socket.Close())
	}
	return &link{conn, new(http3.Transport).NewClientConn(conn), func() {
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		transport.Close()
		socket.Close()
	}}, nil
}

// page is one visit: a connection, a request, and the end of both.
func (v *visitor) page(ctx context.Context, early bool) (quic.ConnectionState, error) {
	l, err := v.dial(ctx, early)
	if err != nil {
		return quic.ConnectionState{}, err
	}
	defer l.close()
	method := http.MethodGet
	if early {
		method = http3.MethodGet0RTT
	}
	err = ask(ctx, l.client, method, v.Bytes)
	return l.conn.ConnectionState(), err
}

// atOnce is how many of those that stay connect at a time: the first must not be idle
// for long when the last comes.
const atOnce = 16

// gather connects all that stay. Each has asked once.
func (v *visitor) gather(ctx context.Context) (all []*link, leave func(), err error) {
	all = make([]*link, v.Connections)
	errs := make([]error, v.Connections)
	var connecting sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i := range all {
		places <- struct{}{}
		connecting.Go(func() {
			defer func() { <-places }()
			if all[i], errs[i] = v.dial(ctx, false); errs[i] == nil {
				errs[i] = ask(ctx, all[i].client, http.MethodGet, v.Bytes)
			}
		})
	}
	connecting.Wait()
	leave = func() {
		for _, l := range all {
			if l != nil {
				l.close()
			}
		}
	}
	for i, err := range errs {
		if err != nil {
			return all, leave, fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	return all, leave, nil
}
