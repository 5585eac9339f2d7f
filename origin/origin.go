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
// A request is sent a second time if its server certainly did not work on it: to
// another one, or to the same one of HTTP/2 that took it back when there is no
// other. A safe one is too if it went out on a used connection that closed without
// an answer. There is no third time, the retry budget must allow the second, and
// one timeout bounds both, but for uploads. Everything else is the caller's
// decision: an *Error says what went wrong and whether the request may have
// reached the origin. A response that is cut off ends with an error, never with a
// clean end.
//
// What fails while a client has yet to send of its body says nothing about the
// server, nor does an exchange in which the client was waited for.
//
// # What it does not do
//
// It does not queue, choose between origin and functions, cache, or answer for
// the origin. It does not follow redirects. An upgrade needs a server that speaks
// HTTP/1.1: h2c servers are passed over for it.
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
	"spillway/origin/scale"
)

// An Origin runs requests on the servers of one pool.
type Origin struct {
	name    string
	limiter *limit.Limiter
	pool    *pool
	names   *names
	dial    dialFunc // names.dial
	buffers buffers
	retries retryBudget
	refused refused
	counts  counts
	scale   *scale.Signal

	// changing is held while links are replaced, so that a change of the
	// configuration and one of an address do not overtake each other.
	changing sync.Mutex
	config   atomic.Pointer[Config] // exchanges go by that of their link
	changed  chan struct{}          // tells Run
}

// counts are events since the start.
type counts struct {
	results   [limit.Cancel + 1]atomic.Uint64
	retried   atomic.Uint64
	refused   atomic.Uint64 // retries that the budget did not allow
	truncated atomic.Uint64
	stalled   atomic.Uint64
	outgrown  atomic.Uint64
	crowded   atomic.Uint64
}

// New returns the origin called name. It starts nothing.
func New(name string, c Config, log *slog.Logger) (*Origin, error) {
	o := &Origin{
		name: name, limiter: limit.New(c.Limit), pool: newPool(log.With("origin", name)),
		names: newNames(), changed: make(chan struct{}, 1), scale: scale.New(name, log.With("origin", name)),
	}
	o.dial = o.names.dial
	apply, err := o.Prepare(c)
	if err != nil {
		return nil, err
	}
	apply()
	return o, nil
}

// connect is how links connect.
func (o *Origin) connect(ctx context.Context, network, address string) (net.Conn, error) {
	return o.dial(ctx, network, address)
}

// Run adjusts the limit, probes the servers, follows their names and delivers what
// is said of their number until ctx ends.
func (o *Origin) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer o.retire()
	defer wg.Wait()
	wg.Go(func() {
		for ctx.Err() == nil {
			o.attend(ctx)
		}
	})
	wg.Go(func() { o.scale.Run(ctx) })
	return o.limiter.Run(ctx)
}

// attend looks after the servers of one configuration, until it changes.
func (o *Origin) attend(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	c := o.config.Load()
	if c.Resolve > 0 {
		wg.Go(func() { o.follow(ctx, c) })
	}
	if c.Health.Path == "" {
		o.pool.forgetProbes()
	} else {
		for _, s := range o.pool.all() {
			wg.Go(func() { o.watch(ctx, s, c.Health) })
		}
	}
	select {
	case <-ctx.Done():
	case <-o.changed:
	}
}

// retire closes the connections of all servers as they go idle.
func (o *Origin) retire() {
	for _, s := range o.pool.all() {
		s.link.Load().retire()
	}
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
	defer e.interim.close()
	movable := req.Body == nil || req.GetBody != nil
	s, trial := e.pick(nil, movable && safe(req.Method) && len(o.pool.all()) > 1)
	if s == nil {
		o.release(p, limit.Cancel)
		return nil, e.nowhere()
	}
	o.retries.request(o.pool.now())
	resp, failure := e.send(s, trial)
	if failure != nil && failure.untouched && movable {
		if other, trial := e.pick(s, false); other != nil {
			if e.again() {
				resp, failure = e.send(other, trial)
			} else {
				o.pool.undecided(other, trial)
			}
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
