package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
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
	asker  context.Context // of the request as the caller gave it
	begun  time.Time
	req    *http.Request
	trace  httptrace.ClientTrace
	// stop ends what is under way at the transport, and says why.
	stop context.CancelCauseFunc
	// deadline is when the header must be there. An upload has none: it takes as
	// long as its client.
	deadline time.Time
	timer    *time.Timer // of the deadline, or of the upload
	server   *server
	link     *link  // to server; its configuration holds for the exchange
	host     string // that was asked for

	sent    atomic.Bool // a server was connected
	written atomic.Bool // the request as a whole; told only if it has a body
	retried bool
	// unsure reports that it was sent once more although a server may have worked
	// on it.
	unsure bool
	// Over HTTP/2: whether its head was written since it was last counted, and how
	// many connections one server was tried on.
	headed atomic.Bool
	tries  int
	// line is the connection that carries this request alone, and before what it
	// had written until then. With HTTP/2 there is none.
	line   *conn
	before int64
	trial  bool // the request is the trial of its server
	// Guarded by body.mu.
	paced    bool      // something other than the origin decided how long it took
	long     bool      // the permit is a long-lived one
	outgrown time.Time // since when the response is larger than its read-ahead
	crowded  bool      // there was no long-lived place

	interim interim
	from    *http.Response // as the transport gave it
	resp    http.Response  // as the caller gets it
	body    readAhead
}

func newExchange(o *Origin, req *http.Request, p limit.Permit) *exchange {
	e := &exchange{o: o, permit: p, asker: req.Context(), req: req, host: req.Host, begun: time.Now()}
	e.trace.GotConn, e.trace.WroteHeaders = e.connected, e.wroteHead
	if req.Body != nil {
		e.trace.WroteRequest = e.wrote
	}
	if !isUpload(req) {
		e.deadline = e.begun.Add(o.config.Load().Timeout)
	}
	if relay, ok := req.Context().Value(informationalKey{}).(func(int, http.Header)); ok {
		e.interim.relay = relay
		e.trace.Got1xxResponse = e.interim.got
	}
	return e
}

// bind gives the request a context of its own for one server. The context is not
// ended with the exchange, but with that of the caller: HTTP/2 would reset a
// stream that has just ended.
func (e *exchange) bind() {
	ctx, stop := context.WithCancelCause(e.asker)
	e.stop = stop
	ctx = context.WithValue(ctx, exchangeKey{}, e)
	e.req = e.req.WithContext(httptrace.WithClientTrace(ctx, &e.trace))
	if e.deadline.IsZero() {
		e.timer = time.AfterFunc(uploadPatience, e.outlast)
	} else {
		e.timer = time.AfterFunc(time.Until(e.deadline), func() { stop(errLate) })
	}
}

// upgrade reports whether the request asks for the connection for itself.
func (e *exchange) upgrade() bool { return e.req.Header["Upgrade"] != nil }

// pick is the pool's, for this request.
func (e *exchange) pick(not *server, brave bool) (s *server, trial bool) {
	if e.upgrade() {
		return e.o.pool.pickUpgrade(not)
	}
	return e.o.pool.pick(not, brave)
}

// nowhere is the error of a request that no server can take.
func (e *exchange) nowhere() *Error {
	if e.upgrade() && e.o.Up() {
		return &Error{Reason: outcome.OriginFailed, Err: errNoUpgrade}
	}
	return &Error{Reason: outcome.OriginDown, Err: errNoServer}
}

// again makes the request ready to be sent a second time, if that can and may be
// done.
func (e *exchange) again() bool {
	late := !e.deadline.IsZero() && !time.Now().Before(e.deadline)
	return !late && e.rewind() && e.allow()
}

// allow reports whether the request may be sent a second time. It never is a third
// time, and the retry budget must have something left.
func (e *exchange) allow() bool {
	if e.retried {
		return false
	}
	if !e.o.retries.allow(e.o.pool.now()) {
		e.o.counts.refused.Add(1)
		return false
	}
	e.o.counts.retried.Add(1)
	e.retried, e.line = true, nil
	e.headed.Store(false)
	return true
}

type exchangeKey struct{}

// connected is called each time that the transport has a connection for the
// request, before it writes to it.
func (e *exchange) connected(info httptrace.GotConnInfo) {
	e.sent.Store(true)
	e.written.Store(false)
	if e.line = nil; e.server.address.scheme != "h2c" {
		e.line = lineOf(info.Conn)
	}
	if e.line != nil {
		e.before = e.line.written.Load()
	} else if !e.mayTry() {
		e.stop(errTurnedAway)
	}
	if e.trial && isUpload(e.req) {
		// When the answer comes is up to the client, so this must do as a proof.
		e.trial = false
		e.o.pool.succeeded(e.server, true)
	}
}

// triesMost is how many connections of HTTP/2 a request may find closed or full
// before it was written to one; not a knob: when many requests come at once, all
// but a few meet the bound on streams on each new connection.
const triesMost = 100

// mayTry decides whether a request may go on with one more connection of HTTP/2.
// If it was written before, the server has taken it back: then Do asks another one
// if there is one.
func (e *exchange) mayTry() bool {
	if e.tries++; e.tries > triesMost {
		return false
	}
	return !e.headed.Swap(false) || !e.o.pool.anotherWell(e.server) && e.allow()
}

func (e *exchange) wroteHead() { e.headed.Store(true) }

// wrote is called when the request was written, or could not be.
func (e *exchange) wrote(info httptrace.WroteRequestInfo) {
	e.written.Store(info.Err == nil)
	if e.deadline.IsZero() {
		e.timer.Stop() // an upload's; what still lasts is up to the server
	}
}

// lineOf returns the connection below c if it carries one request at a time.
func lineOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		c = t.NetConn()
	}
	line, _ := c.(*conn)
	return line
}

// onlyOnce is asked by the transport before it takes a connection. By itself it
// sends a request that it holds for idempotent again and again, as long as it
// finds a used connection that closes without an answer: a request that brings
// the server down would run once for each of them, on one permit. It may go on
// only while nothing was written.
//
// HTTP/2 goes its own way: a request is sent again, and without end, when the
// server has said that it has not processed it (RFC 9113 section 8.7). There
// connected sees to it that this happens once, and not without the retry budget.
// (A stream that the server ends with PROTOCOL_ERROR is sent again like that too;
// servers do so with requests that they will not read.)
func onlyOnce(req *http.Request) (*url.URL, error) {
	e, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if ok && e.line != nil && e.line.written.Load() != e.before {
		return nil, errUnanswered
	}
	return nil, nil // no proxy
}

// roundTrip sends the request, and a safe one (RFC 9110 section 9.2.1) once more
// if it went out on a used connection that closed without an answer: most often
// the server had closed it at that moment.
func (e *exchange) roundTrip() (*http.Response, error) {
	transport := e.link.transport(e.upgrade())
	resp, err := transport.RoundTrip(e.req)
	if errors.Is(err, errUnanswered) && safe(e.req.Method) && e.again() {
		e.unsure = true
		resp, err = transport.RoundTrip(e.req)
	}
	return resp, err
}

func safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// rewind makes the request ready to be sent again.
func (e *exchange) rewind() bool {
	if e.req.Body == nil {
		return true
	}
	if e.req.GetBody == nil {
		return false
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
	e.server, e.link, e.trial, e.line, e.tries = s, s.link.Load(), trial, nil, 0
	e.headed.Store(false)
	s.inFlight.Add(1)
	s.requests.Add(1)
	e.bind()
	// The URL was made for this request; it is set anew for every server.
	e.req.URL.Scheme, e.req.URL.Host = s.address.url()
	if e.req.Host = e.host; e.link.config.Host != "" {
		e.req.Host = e.link.config.Host
	}
	resp, err := e.roundTrip()
	if err != nil || !isUpload(e.req) {
		e.timer.Stop()
	}
	if err == nil && resp.StatusCode == http.StatusSwitchingProtocols && !e.upgrade() {
		resp.Body.Close()
		err = errUnasked
	}
	if err == nil {
		e.o.pool.answeredBy(s, e.trial, resp.StatusCode)
		return resp, nil
	}
	s.inFlight.Add(-1)
	v := e.judge(err)
	if v.blame {
		e.o.pool.failed(s, e.trial, "error", err.Error())
	} else {
		e.o.pool.undecided(s, e.trial)
	}
	return nil, v
}

// begin takes the head of the response and decides how its body is read.
func (e *exchange) begin(from *http.Response) (*http.Response, error) {
	e.from, e.resp = from, *from
	e.o.heed(from, e.req.RemoteAddr)
	stripResponse(e.resp.Header, from.StatusCode)
	e.resp.Trailer = allowedTrailers(from.Trailer)
	switch {
	case from.StatusCode == http.StatusSwitchingProtocols:
		if !e.settle() {
			return nil, e.refuse()
		}
		e.resp.Body = &tunnel{ReadWriteCloser: from.Body.(io.ReadWriteCloser), e: e}
	case bodyless(e.req.Method, from):
		from.Body.Close()
		e.resp.Body = http.NoBody
		e.body.mu.Lock()
		defer e.body.mu.Unlock()
		if isStream(e.resp.Header) {
			e.paced = true // a call that failed at once is no measure of those that do not
		}
		e.end(e.result())
	default:
		stream := isStream(e.resp.Header)
		if stream && !e.settle() {
			return nil, e.refuse()
		}
		e.body.init(e, from.Body, stream)
		e.resp.Body = &e.body
	}
	return &e.resp, nil
}

// settle makes the permit of an exchange without an end in sight a long-lived
// one. If there is no room, false, the exchange must not go on: on permits, such
// exchanges would take the whole limit and give none of it back.
func (e *exchange) settle() bool {
	e.body.mu.Lock()
	defer e.body.mu.Unlock()
	e.detach()
	return e.long || !e.permit.Valid()
}

// refuse gives a response up at its head.
func (e *exchange) refuse() error {
	e.from.Body.Close()
	e.end(limit.Cancel)
	return &Error{Reason: outcome.OriginSaturated, Sent: true, Err: errCrowded}
}

// bodyless reports whether the head was all of the response (RFC 9112 section
// 6.3).
func bodyless(method string, resp *http.Response) bool {
	return method == http.MethodHead || resp.ContentLength == 0 ||
		resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified
}

// isStream reports whether a response goes on as long as somebody has something
// to say: event streams and conversations.
func isStream(h http.Header) bool {
	return mediaType(h) == "text/event-stream" || Converses(h)
}

// Converses reports whether a message is one side of a conversation, in which a
// request and its response flow at the same time: gRPC, and Connect's streams.
// gRPC-Web is none, since browsers send requests whole.
func Converses(h http.Header) bool {
	t := mediaType(h)
	return t == "application/grpc" || strings.HasPrefix(t, "application/grpc+") || strings.HasPrefix(t, "application/connect+")
}

func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
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
	if e.outgrown.IsZero() {
		e.outgrown = time.Now()
		e.o.counts.outgrown.Add(1)
	}
	e.detach()
}

// occupies reports whether a response holds its permit at the pace of its
// visitor.
func (e *exchange) occupies() bool {
	return !e.outgrown.IsZero() && !e.long && e.permit.Valid()
}

// result is what the limiter is told of a response that came to its end.
func (e *exchange) result() limit.Result {
	r := answered(e.resp.StatusCode)
	if e.paced || e.retried || r == limit.OK && e.awaited() {
		return limit.Cancel
	}
	return r
}

// end frees the server and the permit.
func (e *exchange) end(r limit.Result) {
	e.timer.Stop() // of an upload that the answer did not wait for
	e.server.inFlight.Add(-1)
	e.o.release(e.permit, r)
}

// ended ends the exchange with how its body ended, and returns the error that
// the reader of the body gets. givenUp is why the node ended it, if it did.
func (e *exchange) ended(err, givenUp error) error {
	if err == io.EOF {
		e.end(e.result())
		return io.EOF
	}
	v := e.judge(err)
	switch givenUp {
	case errStalled:
		e.o.counts.stalled.Add(1)
		v = &verdict{err: errStalled, reason: outcome.OriginTimeout, result: limit.Drop}
	case errCrowded:
		e.o.counts.truncated.Add(1)
		v = &verdict{err: errCrowded, reason: outcome.OriginSaturated, result: limit.Cancel}
	}
	if v.result == limit.Drop || v.reason == outcome.OriginFailed {
		e.o.counts.truncated.Add(1)
	}
	if v.result == limit.Drop && (e.paced || e.uploading()) {
		v.result = limit.Cancel
	}
	e.end(v.result)
	return &Error{Reason: v.reason, Sent: true, Err: v.err}
}

// aborted ends an exchange whose body was closed before its end.
func (e *exchange) aborted() { e.end(limit.Cancel) }

// trailers hands over what came after the body. gRPC reports load there.
func (e *exchange) trailers() {
	e.o.report(e.from.Trailer)
	for name, values := range e.from.Trailer {
		if !noTrailer(name) && values != nil {
			e.resp.Trailer[name] = values
		}
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
