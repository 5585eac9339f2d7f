// Package load sends the requests of a plan at their times, whether or not the
// server keeps up, and keeps what became of each.
//
// Package crowd plays visitors who dial; this package has its connections open
// beforehand and spends some tens of microseconds on a request, so that a crowd of
// thousands a second fits on the machine that also runs the server. Latency is
// measured from the intended time, and how late the driver itself was is measured
// too: a driver that was late has measured itself.
//
// What the server fails is a result. Play fails only when the connections cannot be
// opened at the start.
package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// The protocols.
const (
	H2 = "h2"
	H3 = "h3"
)

// PlaceHeader is the field in which backends say who they are.
const PlaceHeader = "X-Place"

// A Request is one of a plan.
type Request struct {
	At     time.Duration // since the start
	Target string        // path and query
	Upload int64         // bytes of the body of a POST; 0 is a GET
	Alone  bool          // on a connection of its own, to Config.Alone
}

// A Sample says what became of the request of the same index.
type Sample struct {
	Lag      time.Duration // by which it was sent late
	Took     time.Duration // from its intended time to the last byte
	Status   int           // of the last attempt; 0 is none
	Place    string        // who answered it, in the word of PlaceHeader
	Error    string        // why there is no status: timeout, reset
	Attempts int
}

// OK reports whether the visitor got what it came for.
func (s Sample) OK() bool { return s.Status >= 200 && s.Status < 400 }

// Config says how requests are sent.
type Config struct {
	Protocol string // H2 or H3
	Address  string // host:port of the shared connections
	Alone    string // host:port of those that visitors have for themselves
	RootCAs  *x509.CertPool
	Lanes    int // shared connections at the start; more open when they are full
	// Patience is how long a visitor waits from its intended time.
	Patience time.Duration
	// Retries is how often a visitor asks again, at once, when it got an error or
	// no answer within RetryAfter. They have no budget.
	Retries    int
	RetryAfter time.Duration
}

// A driver plays one plan.
type driver struct {
	c     Config
	dial  dialer
	pool  pool
	start time.Time
}

// Play sends the requests, which are ordered by time, and returns when the last
// has ended. begun is called with the start when the connections are open. When
// ctx ends first it returns why.
func Play(ctx context.Context, c Config, requests []Request, begun func(start time.Time)) ([]Sample, error) {
	d := &driver{c: c}
	d.dial = newDialer(c.Protocol, &tls.Config{RootCAs: c.RootCAs, ServerName: "localhost"})
	d.pool.dial = func(ctx context.Context) (*lane, error) { return d.dial(ctx, c.Address) }
	defer d.pool.close()
	if err := d.pool.open(ctx, c.Lanes); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.Address, err)
	}
	d.start = time.Now()
	begun(d.start)
	samples := make([]Sample, len(requests))
	var present sync.WaitGroup
	for i, r := range requests {
		if sleep(ctx, time.Until(d.start.Add(r.At))) != nil {
			break
		}
		present.Go(func() { samples[i] = d.visit(ctx, i, r) })
	}
	present.Wait()
	return samples, context.Cause(ctx)
}

func sleep(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// visit sends one request until it is answered or the visitor gives up.
func (d *driver) visit(ctx context.Context, n int, r Request) Sample {
	intended := d.start.Add(r.At)
	s := Sample{Lag: time.Since(intended)}
	ctx, cancel := context.WithDeadline(ctx, intended.Add(d.c.Patience))
	defer cancel()
	for s.Attempts = 1; ; s.Attempts++ {
		s.Status, s.Place, s.Error = d.attempt(ctx, n, r)
		if s.OK() || s.Attempts > d.c.Retries || ctx.Err() != nil {
			break
		}
	}
	s.Took = time.Since(intended)
	return s
}

// attempt sends the request once.
func (d *driver) attempt(ctx context.Context, n int, r Request) (status int, place, failure string) {
	if d.c.Retries > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.c.RetryAfter)
		defer cancel()
	}
	l, err := d.lane(ctx, r)
	if err != nil {
		return 0, "", failed(ctx)
	}
	defer d.leave(l, r)
	resp, err := l.RoundTrip(newRequest(ctx, n, r))
	if err != nil {
		return 0, "", failed(ctx)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, "", failed(ctx)
	}
	return resp.StatusCode, resp.Header.Get(PlaceHeader), ""
}

func failed(ctx context.Context) string {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return "timeout"
	}
	return "reset"
}

// lane finds the request's connection.
func (d *driver) lane(ctx context.Context, r Request) (*lane, error) {
	if r.Alone {
		return d.dial(ctx, d.c.Alone)
	}
	return d.pool.take(ctx)
}

func (d *driver) leave(l *lane, r Request) {
	if r.Alone {
		l.close()
		return
	}
	d.pool.put(l)
}

// newRequest makes each visitor another one: a node tells them apart by address
// and User-Agent, and all of ours have one address.
func newRequest(ctx context.Context, n int, r Request) *http.Request {
	method, body := http.MethodGet, io.Reader(nil)
	if r.Upload > 0 {
		method, body = http.MethodPost, io.LimitReader(zeros{}, r.Upload)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://localhost"+r.Target, body)
	if err != nil {
		panic("BUG: a target of the plan does not parse: " + err.Error())
	}
	req.ContentLength = r.Upload
	req.Header["User-Agent"] = []string{"surge visitor " + strconv.Itoa(n)}
	return req
}

// zeros is what uploads are made of.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
