package origin

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"spillway/edge/outcome"
	"spillway/origin/limit"
)

// An exchange is one request to the origin, from the permit to the last byte of
// the response. It ends once: in Do if there is no body to wait for, else where
// its body ends.
type exchange struct {
	o      *Origin
	permit limit.Permit
	req    *http.Request
	trace  httptrace.ClientTrace
	server *server

	sent    atomic.Bool // a server was connected
	retried bool
	// Guarded by body.mu.
	paced    bool // something other than the origin decided how long it took
	long     bool // the permit is a long-lived one
	outgrown bool // the response was larger than its read-ahead
	crowded  bool // there was no long-lived place

	from *http.Response // as the transport gave it
	resp http.Response  // as the caller gets it
	body readAhead
}

func newExchange(o *Origin, req *http.Request, p limit.Permit) *exchange {
	e := &exchange{o: o, permit: p}
	e.trace.GotConn = func(httptrace.GotConnInfo) { e.sent.Store(true) }
	e.req = req.WithContext(httptrace.WithClientTrace(req.Context(), &e.trace))
	if o.config.Host != "" {
		e.req.Host = o.config.Host
	}
	return e
}

// rewind makes the request ready to be sent again.
func (e *exchange) rewind() bool {
	if e.req.Body == nil {
		return true
	}
	body, err := e.req.GetBody()
	if err != nil {
		return false
	}
	e.req.Body = body
	return true
}

// send sends the request to a server and waits for the header of the response.
// After a failure the server is rid of the exchange; the permit is not touched.
func (e *exchange) send(s *server, trial bool) (*http.Response, *verdict) {
	e.server = s
	s.inFlight.Add(1)
	s.requests.Add(1)
	// The URL was made for this request; it is set anew for every server.
	e.req.URL.Scheme, e.req.URL.Host = s.url.Scheme, s.url.Host
	if _, ok := e.req.Body.(*upload); ok {
		defer e.watchUpload()()
	}
	resp, err := e.o.transport.RoundTrip(e.req)
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols && e.req.Header["Upgrade"] == nil {
		resp.Body.Close()
		err = errUnasked
	}
	if err == nil {
		e.o.pool.answeredBy(s, trial, resp.StatusCode)
		return resp, nil
	}
	s.inFlight.Add(-1)
	v := judge(e.req.Context(), err, uploadError(e.req), e.sent.Load())
	if v.blame {
		e.o.pool.failed(s, trial, "error", err.Error())
	} else {
		e.o.pool.undecided(s, trial)
	}
	return nil, v
}

// uploadPatience is how long a client may take over a body that was too large to
// be kept before the permit becomes a long-lived one: a client on a good line
// works the origin, one on a bad line only occupies it.
const uploadPatience = time.Second

// watchUpload sees to it that slow uploads do not fill the limit. The returned
// function ends that.
func (e *exchange) watchUpload() (stop func() bool) {
	e.paced = true
	return time.AfterFunc(uploadPatience, func() {
		e.body.mu.Lock()
		defer e.body.mu.Unlock()
		e.detach()
	}).Stop
}

// begin takes the head of the response and decides how its body is read.
func (e *exchange) begin(from *http.Response) (*http.Response, error) {
	e.from, e.resp = from, *from
	stripResponse(e.resp.Header, from.StatusCode)
	e.resp.Trailer = maps.Clone(from.Trailer)
	switch {
	case from.StatusCode == http.StatusSwitchingProtocols:
		e.body.mu.Lock()
		e.detach()
		e.body.mu.Unlock()
		e.resp.Body = &tunnel{ReadWriteCloser: from.Body.(io.ReadWriteCloser), e: e}
	case bodyless(e.req.Method, from):
		from.Body.Close()
		e.resp.Body = http.NoBody
		e.body.mu.Lock()
		defer e.body.mu.Unlock()
		e.end(e.result())
	default:
		e.body.init(e, from.Body, isEventStream(e.resp.Header))
		e.resp.Body = &e.body
	}
	return &e.resp, nil
}

// bodyless reports whether the head was all of the response (RFC 9112 section
// 6.3).
func bodyless(method string, resp *http.Response) bool {
	return method == http.MethodHead || resp.ContentLength == 0 ||
		resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
}

func isEventStream(h http.Header) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), "text/event-stream")
}

// detach makes the permit a long-lived one if there is room for it. From here on
// the time says nothing about the origin.
func (e *exchange) detach() {
	e.paced = true
	if e.long {
		return
	}
	e.long = e.permit.Detach()
	if !e.long && !e.crowded && e.permit.Valid() {
		e.crowded = true
		e.o.counts.crowded.Add(1)
	}
}

// outgrow notes that the response waits for its visitor.
func (e *exchange) outgrow() {
	if !e.outgrown {
		e.outgrown = true
		e.o.counts.outgrown.Add(1)
	}
	e.detach()
}

// result is what the limiter is told of a response that came to its end.
func (e *exchange) result() limit.Result {
	if e.paced || e.retried {
		return limit.Cancel
	}
	return answered(e.resp.StatusCode)
}

// end frees the server and the permit.
func (e *exchange) end(r limit.Result) {
	e.server.inFlight.Add(-1)
	e.o.release(e.permit, r)
}

// ended ends the exchange with how its body ended, and returns the error that
// the reader of the body gets.
func (e *exchange) ended(err error, stalled bool) error {
	if err == io.EOF {
		e.end(e.result())
		return io.EOF
	}
	v := judge(e.req.Context(), err, nil, true)
	if stalled {
		e.o.counts.stalled.Add(1)
		v = &verdict{err: errStalled, reason: outcome.OriginTimeout, result: limit.Drop}
	}
	if v.result == limit.Drop {
		e.o.counts.truncated.Add(1)
		if e.paced {
			v.result = limit.Cancel
		}
	}
	e.end(v.result)
	return &Error{Reason: v.reason, Sent: true, Err: v.err}
}

// aborted ends an exchange whose body was closed before its end.
func (e *exchange) aborted() { e.end(limit.Cancel) }

// trailers hands over what came after the body.
func (e *exchange) trailers() {
	for name, values := range e.from.Trailer {
		if hopByHop(name) || values == nil {
			continue
		}
		if e.resp.Trailer == nil {
			e.resp.Trailer = make(http.Header)
		}
		e.resp.Trailer[name] = values
	}
}

// A tunnel is the body of a 101: the connection itself.
type tunnel struct {
	io.ReadWriteCloser
	e    *exchange
	once sync.Once
}

func (t *tunnel) Close() error {
	err := t.ReadWriteCloser.Close()
	t.once.Do(func() { t.e.end(limit.Cancel) })
	return err
}
