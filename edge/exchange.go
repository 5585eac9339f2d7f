package edge

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// An exchange is one request on its way through the path, and what is known of
// its answer. It ends in exactly one outcome.
type exchange struct {
	s *Server
	w http.ResponseWriter
	r *http.Request

	start   time.Time
	path    string // as sent, without the query
	visitor visitor
	found   cache.Result // what the cache has for it
	id      string

	outcome outcome.Outcome
	reason  outcome.Reason
	backend string
	status  int
	bytes   int64
	kept    int64 // bytes of the request's body in memory
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// begin starts an exchange.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{s: s, w: w, r: r, start: time.Now(), path: sentPath(r), id: r.Header.Get("X-Request-Id")}
	if !usableID(x.id) {
		x.id = ""
	}
	s.inFlight.Add(1)
	return x
}

// end counts and logs the exchange. It runs on a panic too: an answer that is
// cut off counts like any other.
func (x *exchange) end() {
	took := time.Since(x.start)
	if x.status == 0 {
		x.outcome, x.reason = outcome.Failed, outcome.Aborted
	}
	x.s.counts.add(x, took)
	x.s.access.add(x, took)
	x.s.inFlight.Add(-1)
	x.s.kept.Add(-x.kept)
	*x = exchange{} // the pool keeps nothing of a visitor
	exchanges.Put(x)
}

// requestID returns the request's id, made when nobody brought one.
func (x *exchange) requestID() string {
	if x.id == "" {
		var b [12]byte
		rand.Read(b[:])
		x.id = hex.EncodeToString(b[:])
	}
	return x.id
}

// usableID accepts what a proxy in front may have sent, and nothing that could
// break a log.
func usableID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	return strings.IndexFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_'
	}) < 0
}

// malformed says why a request is refused before anything looks at it.
func malformed(r *http.Request, path string) outcome.Reason {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return outcome.MethodNotAllowed
	case path == "" || path[0] != '/' || ambiguous(path):
		return outcome.BadRequest
	}
	return outcome.None
}

// readBody reads the part of the request's body that is kept, so that a permit
// covers the origin's work and not the sender's network, and so that the request
// can be sent again. What bodies take in all is bounded: beyond that they are
// passed on as they come. A body that turns out to be empty is none from here
// on: HTTP/3 tells only at the end of the stream.
func (x *exchange) readBody(rt *route) (requestBody, outcome.Reason) {
	r := x.r
	var b requestBody
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return b, outcome.None
	}
	settings := x.s.settings.Load()
	if r.ContentLength > settings.maxBody {
		return b, outcome.BodyTooLarge
	}
	room := rt.keeps(r)
	if x.kept = room; x.s.kept.Add(room) > settings.keptBodies && room > likelyEmpty {
		b.rest = r.Body
		return b, outcome.None
	}
	kept, err := io.ReadAll(io.LimitReader(r.Body, room+1))
	if err != nil {
		return b, bodyFailure(err)
	}
	b.kept = kept
	switch {
	case int64(len(kept)) > room:
		b.rest = r.Body
	case len(kept) == 0:
		r.Body, r.ContentLength = http.NoBody, 0
	default:
		r.ContentLength = int64(len(kept))
	}
	return b, outcome.None
}

// bodyFailure says why a body could not be read.
func bodyFailure(err error) outcome.Reason {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return outcome.BodyTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return outcome.ReadTimeout
	}
	return outcome.ClientGone
}
