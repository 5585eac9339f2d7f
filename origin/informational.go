package origin

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"sync"
)

// informationalMost is how many informational responses a server may send to
// one request. One or two are usual.
const informationalMost = 16

var errChatty = errors.New("too many informational responses")

type informationalKey struct{}

// WithInformational returns a context for requests to Do. Do calls f for each
// informational response of the server (RFC 9110 section 15.2) but 100 and 101,
// from any goroutine, never two at a time and never after it has returned. The
// fields belong to f. f must not block: all requests of an HTTP/2 connection wait
// for it, and Do holds its permit meanwhile.
func WithInformational(ctx context.Context, f func(status int, h http.Header)) context.Context {
	return context.WithValue(ctx, informationalKey{}, f)
}

// An interim relays informational responses while Do waits.
type interim struct {
	mu    sync.Mutex
	relay func(int, http.Header) // nil when Do has returned
	count int
}

// got is called by the transport. Its error ends the exchange.
func (i *interim) got(status int, fields textproto.MIMEHeader) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.count++; i.count > informationalMost {
		return errChatty
	}
	if status != http.StatusContinue && i.relay != nil {
		h := http.Header(fields)
		stripResponse(h, status)
		i.relay(status, h)
	}
	return nil
}

// close waits for a call that is under way and allows no other.
func (i *interim) close() {
	i.mu.Lock()
	i.relay = nil
	i.mu.Unlock()
}
