package faas

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// TraceSent returns a context for one HTTP call of a provider, and whether the
// call got a connection. Until then the function cannot have run; from then on it
// may have, for what was written is not known.
func TraceSent(ctx context.Context) (context.Context, func() bool) {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}
	return httptrace.WithClientTrace(ctx, trace), sent.Load
}
