package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"spillway/cmd/surge/program"
)

// A shape is how the load is cut into connections and streams.
type shape struct {
	name        string
	connections int
	streams     int  // in flight on each connection
	fresh       bool // each request dials, as a new visitor does
}

var shapes = []shape{
	{name: "10 streams", connections: 50, streams: 10},
	{name: "1 stream", connections: 50, streams: 1},
	{name: "new visitor", connections: 16, streams: 1, fresh: true},
}

func clientTLS() *tls.Config {
	// The yardstick and the edge both make their own certificate.
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{http3.NextProtoH3}, ServerName: "localhost"}
}

// drive loads a server for d and returns how many requests were answered. It
// sends the next request when one is answered: what is measured is CPU per
// request, not latency.
func drive(ctx context.Context, s shape, addr, path string, d time.Duration) (int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := errors.New("time is up")
	time.AfterFunc(d, func() { cancel(over) })
	target, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return 0, err
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	transport := &quic.Transport{Conn: conn}
	defer conn.Close()
	defer transport.Close()
	v := &visitors{transport: transport, target: target, url: "https://localhost" + path}
	var wg sync.WaitGroup
	for range s.connections {
		wg.Go(func() {
			if err := v.visit(ctx, s); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, over) {
		return 0, cause
	}
	return v.answered.Load(), nil
}

type visitors struct {
	transport *quic.Transport
	target    net.Addr
	url       string
	answered  atomic.Int64
}

// visit keeps one connection busy, or one after the other.
func (v *visitors) visit(ctx context.Context, s shape) error {
	for ctx.Err() == nil {
		conn, err := v.transport.Dial(ctx, v.target, clientTLS(), nil)
		if err != nil {
			return err
		}
		client := new(http3.Transport).NewClientConn(conn)
		if s.fresh {
			err = v.ask(ctx, client)
		} else {
			err = v.keepAsking(ctx, client, s.streams)
		}
		conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *visitors) keepAsking(ctx context.Context, client *http3.ClientConn, streams int) error {
	errs := make(chan error, streams)
	for range streams {
		go func() {
			var err error
			for ctx.Err() == nil && err == nil {
				err = v.ask(ctx, client)
			}
			errs <- err
		}()
	}
	var err error
	for range streams {
		err = errors.Join(err, <-errs)
	}
	return err
}

func (v *visitors) ask(ctx context.Context, client *http3.ClientConn) error {
	err := program.Ask(ctx, client, http.MethodGet, v.url, hitBytes)
	if err == nil {
		v.answered.Add(1)
	}
	return err
}
