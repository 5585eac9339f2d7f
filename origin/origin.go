// Package origin is the origin as seen from the edge: a pool of servers that
// answer alike, how to reach them, which of them are well, and what is sent to
// and taken from them.
//
// # A permit covers the origin's work, never the visitor's network
//
// Do takes over a permit of package limit and sees to it that it ends once. It
// ends when the last byte of the response was read from the server, so the time
// that the limiter sees is the time from the permit to that byte: what the
// origin worked on. How fast the visitor reads does not count, because the node
// reads ahead of it, into memory that is bounded per response and in all. A
// response that outgrows its read-ahead goes on at the visitor's pace, and its
// permit becomes a long-lived one, which teaches the limiter nothing. Event
// streams and upgrades become long-lived at their headers. When the origin has
// no long-lived place left, event streams and upgrades end there, as if the
// origin were saturated; a large response keeps its permit, and is cut off when
// it has held the permit for one timeout at the visitor's pace. So visitors can
// not take the limit for good, and the origin is never given more than both
// bounds allow.
//
// # When it fails
//
// A server that fails five times in a row, or fails all requests for a second,
// gets none for a second, and for up to 30 s if its trials fail too. The answers
// 502, 503 and 504 count as failures until half of the pool is out. Probes of a
// health path, when configured, take servers out and bring them back in addition.
// A request that certainly did not reach its server moves to another one, once.
// A safe one that went out on a used connection, which closed without an answer,
// is sent once more to the same server. Everything else is the caller's decision: an *Error says what went wrong and
// whether the request may have reached the origin. A response that is cut off
// ends with an error, never with a clean end.
//
// # What it does not do
//
// It does not queue, choose between origin and functions, cache, or answer for
// the origin. Informational responses (1xx) other than 101 are read and not
// relayed. Request trailers are dropped. It does not follow redirects.
package origin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"spillway/edge/outcome"
	"spillway/origin/limit"
)

// An Origin runs requests on the servers of one pool.
type Origin struct {
	name      string
	config    Config
	limiter   *limit.Limiter
	pool      *pool
	dialer    *dialer
	transport *http.Transport
	buffers   buffers
	counts    counts
}

// counts are events since the start.
type counts struct {
	results   [limit.Cancel + 1]atomic.Uint64
	retried   atomic.Uint64
	truncated atomic.Uint64
	stalled   atomic.Uint64
	outgrown  atomic.Uint64
	crowded   atomic.Uint64
}

// New returns the origin called name. It starts nothing.
func New(name string, c Config, log *slog.Logger) (*Origin, error) {
	p, err := newPool(c.Servers, log.With("origin", name))
	if err != nil {
		return nil, fmt.Errorf("origin %s: %w", name, err)
	}
	o := &Origin{name: name, config: c, limiter: limit.New(c.Limit), pool: p}
	o.limiter.SetLongLived(c.LongLived)
	o.buffers.total = c.ReadAhead.Total
	o.dialer = &dialer{dial: new(net.Dialer).DialContext, config: c}
	o.transport = newTransport(o.dialer)
	return o, nil
}

// Run adjusts the limit and probes the servers until ctx ends.
func (o *Origin) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer o.transport.CloseIdleConnections()
	defer wg.Wait()
	if o.config.Health.Path != "" {
		for _, s := range o.pool.servers {
			wg.Go(func() { o.watch(ctx, s) })
		}
	}
	return o.limiter.Run(ctx)
}

// Limiter gives out the permits for Do.
func (o *Origin) Limiter() *limit.Limiter { return o.limiter }

// Up reports whether any server takes requests: neither down by its probes nor
// waiting with an open breaker.
func (o *Origin) Up() bool { return o.pool.up() }

// Do sends a request made by Outgoing to a server and returns its response as
// soon as its header is there. It takes over the permit: whatever happens, the
// permit ends once. The caller must read the body to its end or close it; one
// goroutine at a time may read. Trailer is complete when Read has returned
// io.EOF. The error is an *Error.
//
// A 101 is accepted only if the caller has put Upgrade into the request; its
// body is an io.ReadWriteCloser.
func (o *Origin) Do(req *http.Request, p limit.Permit) (*http.Response, error) {
	e := newExchange(o, req, p)
	movable := req.Body == nil || req.GetBody != nil
	s, trial := o.pool.pick(nil, movable && safe(req.Method) && len(o.pool.servers) > 1)
	if s == nil {
		o.release(p, limit.Cancel)
		return nil, &Error{Reason: outcome.OriginDown, Err: errNoServer}
	}
	resp, failure := e.send(s, trial)
	if failure != nil && failure.blame && movable && !e.sent.Load() && e.rewind() {
		if other, trial := o.pool.pick(s, false); other != nil {
			o.counts.retried.Add(1)
			e.retried = true
			resp, failure = e.send(other, trial)
		}
	}
	if failure != nil {
		o.release(p, failure.result)
		return nil, &Error{Reason: failure.reason, Sent: e.sent.Load(), Err: failure.err}
	}
	if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
		// RFC 9110 section 15: there is no such final status.
		resp.Body.Close()
		e.end(limit.Drop)
		return nil, &Error{Reason: outcome.OriginFailed, Sent: true, Err: fmt.Errorf("status %d", resp.StatusCode)}
	}
	return e.begin(resp)
}

// release ends a permit. Nothing else does.
func (o *Origin) release(p limit.Permit, r limit.Result) {
	o.counts.results[r].Add(1)
	p.Release(r)
}
