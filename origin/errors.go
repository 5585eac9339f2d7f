package origin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"spillway/edge/outcome"
	"spillway/origin/limit"
)

// An Error says why the origin gave no response, or not all of one.
type Error struct {
	Reason outcome.Reason
	// Sent reports that the request may have reached the origin: a server was
	// connected and was about to get it. It is false only when that is certain.
	Sent bool
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return string(e.Reason)
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

var (
	errNoServer  = errors.New("no server is up")
	errNoUpgrade = errors.New("no server that is up speaks HTTP/1.1, which an upgrade needs")
	errStalled   = errors.New("no byte of the body in time")
	errUnasked   = errors.New("server switched protocols unasked")
	errCrowded   = errors.New("no long-lived place is free")
	// errUnanswered stands for the failure after which the transport would have
	// sent the request once more.
	errUnanswered = errors.New("server closed the connection without an answer")
	// errTurnedAway and errLate end what the transport would go on with.
	errTurnedAway = errors.New("server took the request back, and may not be asked again")
	errLate       = errors.New("no answer in time")
)

// A dialError is a failure to connect: no byte of the request has left.
type dialError struct{ err error }

func (e *dialError) Error() string { return "connect: " + e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// A verdict is what a failure means to those who have to learn from it.
type verdict struct {
	err    error
	reason outcome.Reason
	// result is what the limiter is told.
	result limit.Result
	// blame reports that the failure counts against the server.
	blame bool
	// untouched reports that no server has worked on the request.
	untouched bool
}

// judge finds out whose fault it is that an exchange failed. Only what the
// server did may count against it, or a client could shut it off with requests
// that cannot be sent.
func (e *exchange) judge(err error) *verdict {
	ctx, why, dial := e.asker, context.Cause(e.req.Context()), (*dialError)(nil)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &verdict{err: err, reason: outcome.OriginTimeout, result: limit.Drop}
	case ctx.Err() != nil, uploadError(e.req) != nil:
		return &verdict{err: err, reason: outcome.ClientGone, result: limit.Cancel}
	case why == errLate:
		return &verdict{err: errLate, reason: outcome.OriginTimeout, result: limit.Drop, blame: true}
	case why == errTurnedAway:
		return &verdict{err: errTurnedAway, reason: outcome.OriginFailed, result: limit.Drop, blame: true, untouched: !e.unsure}
	case exhausted(err):
		return &verdict{err: err, reason: outcome.OriginDown, result: limit.Cancel}
	case errors.As(err, &dial):
		return &verdict{err: err, reason: outcome.OriginDown, result: limit.Drop, blame: true, untouched: !e.unsure}
	case !e.sent.Load() || strings.Contains(err.Error(), headTooLarge): // the transport refused to send it
		return &verdict{err: err, reason: outcome.BadRequest, result: limit.Cancel}
	case timedOut(err) && e.uploading():
		return &verdict{err: err, reason: outcome.OriginTimeout, result: limit.Cancel}
	case timedOut(err):
		return &verdict{err: err, reason: outcome.OriginTimeout, result: limit.Drop, blame: true}
	case e.cutShort(), headSize(e.req) > headUsual:
		return &verdict{err: err, reason: outcome.OriginFailed, result: limit.Cancel}
	}
	return &verdict{err: err, reason: outcome.OriginFailed, result: limit.Drop, blame: true}
}

// cutShort reports whether the body was not sent to its end. Servers close the
// connection on one that is too large for them or too slow, which is up to the
// client; their answer may be lost in the reset.
func (e *exchange) cutShort() bool { return e.req.Body != nil && !e.written.Load() }

const (
	// headTooLarge is in the error of a request whose head is larger than an
	// HTTP/2 server takes (RFC 9113 section 6.5.2). It is not sent, but that is
	// found out only on the connection. The error has no other mark.
	headTooLarge = "request header list larger than peer's advertised limit"
	// headUsual is the head that usual servers take. Many close the connection on
	// a larger one, and their answer is lost in the reset.
	headUsual = 8 << 10
)

// headSize is about the length of a request's head.
func headSize(req *http.Request) int {
	n := len(req.URL.Opaque) + len(req.URL.RawPath) + len(req.URL.RawQuery)
	for name, values := range req.Header {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	return n
}

// exhausted reports whether the node itself lacked what a connection needs: file
// descriptors, ports or memory. The servers can do nothing for it.
func exhausted(err error) bool {
	return slices.ContainsFunc([]syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL,
	}, func(why syscall.Errno) bool { return errors.Is(err, why) })
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// answered is what the limiter is told of an answer that came whole. A
// gateway's 502 and 504 say the same as a 503: what is behind it has too much to
// do, or is gone. Other server errors, 429, which is about one client, and 413,
// which does not wait for the body, come faster or slower than the work they
// stand for and would teach a wrong baseline.
func answered(status int) limit.Result {
	switch {
	case status == 502 || status == 503 || status == 504:
		return limit.Drop
	case status >= 500 || status == 429 || status == 413:
		return limit.Cancel
	}
	return limit.OK
}
