package faas

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http/httptrace"
	"sync/atomic"
)

var errNoAnswer = errors.New("the connection ended without an answer")

// SendOnce returns a context for one HTTP call of a provider, under which the
// request goes out once, and whether the call got a connection. Until then the
// function cannot have run; from then on it may have.
//
// net/http's Transport sends a request that it takes for idempotent anew on every
// idle connection that turns out to be dead. Each of them may be a run of the
// function that nobody has charged. Here it may do so only while no request was
// written to its last header field, for until then nothing can have run.
func SendOnce(ctx context.Context) (context.Context, func() bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	var sent, written atomic.Bool
	trace := &httptrace.ClientTrace{
		WroteHeaders: func() { written.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) {
			sent.Store(true)
			if !written.Load() {
				return
			}
			cancel(errNoAnswer)
			// HTTP/2 looks at the context before it writes and shares its connection.
			// HTTP/1 does neither.
			if c, ok := info.Conn.(*tls.Conn); !ok || c.ConnectionState().NegotiatedProtocol != "h2" {
				info.Conn.Close()
			}
		},
	}
	return httptrace.WithClientTrace(ctx, trace), sent.Load
}
