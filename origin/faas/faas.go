// Package faas calls functions on serverless platforms: it gives every platform
// one face, bounds how many calls run at once and what they may cost, and says
// of every failure what kind it is and whether the function may have run.
//
// A [Provider] speaks to one platform. A [Function] wraps it: it lets calls in by
// a gate that knows how many instances are ready and how fast the platform starts
// more, has them started ahead of time, charges the worst case before the call,
// watches the platform through a breaker, holds the call to its deadline and size, cleans the answer, and
// settles the charge when the answer has been read.
//
// It fails closed: without a slot, without money, or with an open breaker
// nothing is called, and the caller goes on down its ladder. It never retries;
// whether another function may be tried is the caller's choice, made from
// [Error.Executed]. It does not decide when a function is needed.
package faas

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"spillway/edge/outcome"
)

// A Request is what a function is asked, in the words of the visitor.
type Request struct {
	Method string
	// Host is the host that the visitor asked for.
	Host string
	// Path is the escaped path and Query the query without its question mark,
	// both as they were sent: neither is ever decoded and encoded again.
	Path, Query string
	Header      http.Header
	Body        []byte
	// Client is the address of the visitor, believed by the edge.
	Client netip.Addr
	// Proto is the scheme that the visitor used: "https" or "http".
	Proto string
	// ID names the request in the logs of both sides.
	ID string
	// MaxAnswer is how large an answer may be; a provider that takes answers whole
	// receives no more. Zero means what the platform allows. [Function.Invoke]
	// sets it.
	MaxAnswer int64
	// Tally, if there is one, is told what the call did cost. Avoidable says that the
	// origin could have done the work.
	Tally     *Tally
	Avoidable bool
	// WarmUp says that it is asked for the sake of an instance alone.
	WarmUp bool
}

// Fields is the header as the function sees it: without what must not reach one,
// and marked if it is a warm-up.
func (r *Request) Fields() http.Header {
	h := r.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	CleanRequest(h)
	if r.WarmUp {
		h.Set(WarmUpField, "1")
	}
	return h
}

// A Provider speaks to one platform. Invoke returns the function's answer, whose
// Body the caller closes, or an *[Error]. A context that ends aborts the call.
type Provider interface {
	Invoke(ctx context.Context, r *Request) (*http.Response, error)
}

// A Class says what kind of failure a call met.
type Class string

// The classes of failure.
const (
	Throttled     Class = "throttled"      // the platform turned the call away for load
	Unavailable   Class = "unavailable"    // the platform could not be reached or could not run it
	Auth          Class = "auth"           // the platform did not accept our credentials
	TooLarge      Class = "too_large"      // the request or the answer is over a limit
	FunctionError Class = "function_error" // the function itself failed, or answered garbage
	Timeout       Class = "timeout"        // no complete answer in time
	Ambiguous     Class = "ambiguous"      // the platform's failure or the function's: it does not say
	// Refused means that the call was never made: no slot, no money, or an open
	// breaker. [Error.Refusal] tells which.
	Refused Class = "refused"
	// Canceled means that the visitor left.
	Canceled Class = "canceled"
)

// reasons are the words that the visitor and the logs see for a class.
var reasons = map[Class]outcome.Reason{
	Throttled:     outcome.FunctionThrottled,
	Unavailable:   outcome.FunctionUnavailable,
	Auth:          outcome.FunctionAuth,
	TooLarge:      outcome.FunctionTooLarge,
	FunctionError: outcome.FunctionError,
	Timeout:       outcome.FunctionTimeout,
	Ambiguous:     outcome.FunctionUnavailable,
	Canceled:      outcome.ClientGone,
}

// An Error is a call that gave no answer that may be shown.
type Error struct {
	Class Class
	// Executed reports that the function may have run, so that only a safe
	// request may be tried elsewhere.
	Executed bool
	// Answered reports that an answer came, so that a function which ran does so no
	// longer. What nobody saw the end of may run, and be paid for, until its timeout.
	Answered bool
	// RetryAfter is how long the platform asked to be left alone, or zero.
	RetryAfter time.Duration
	// AccountWide reports that a throttle holds for all functions that the account
	// has in the region, not for this one alone.
	AccountWide bool
	// Received is how many bytes of an answer came that cannot be shown: they are
	// paid for.
	Received int64
	// Refusal is why a call of class Refused was not made.
	Refusal outcome.Reason
	Err     error
}

// Reason is the word for the failure in the common vocabulary.
func (e *Error) Reason() outcome.Reason {
	if e.Refusal != outcome.None {
		return e.Refusal
	}
	return reasons[e.Class]
}

func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s %s", e.Class, e.Reason())
	}
	return fmt.Sprintf("%s: %v", e.Class, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError returns the *Error in err's chain. Anything else is a failure of the
// platform's side after which the function may have run.
func AsError(err error) *Error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	return &Error{Class: Ambiguous, Executed: true, Err: err}
}
