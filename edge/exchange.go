package edge

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"spillway/edge/cache"
	"spillway/edge/outcome"
	"spillway/edge/overflow"
	"spillway/edge/waiting"
)

// An exchange is one request on its way through the path, and what is known of
// its answer. It ends in exactly one outcome.
type exchange struct {
	s *Server
	w http.ResponseWriter
	r *http.Request

	start   time.Time
	path    string        // as sent, without the query
	connect *socketStream // of a WebSocket over HTTP/2 or HTTP/3
	route   *route
	visitor visitor
	found   cache.Result // what the cache has for it, until end
	looked  bool         // the cache was asked
	guest   waiting.Guest
	// priority is how important the request is, 0 to 7.
	priority int
	ticket   string // of a waiting room, and the pass
	pass     string
	id       string

	outcome outcome.Outcome
	reason  outcome.Reason
	backend string
	course  *course // down the ladder; nil before the end of it
	status  int
	bytes   int64
	kept    int64 // bytes of the request's body in memory
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// begin starts an exchange.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := exchanges.Get().(*exchange)
	r, connect := extendedConnect(r)
	*x = exchange{s: s, w: w, r: r, connect: connect, start: time.Now(), path: sentPath(r), id: r.Header.Get("X-Request-Id")}
	if !usableID(x.id) {
		x.id = ""
	}
	s.inFlight.Add(1)
	return x
}

// end counts and logs the exchange. It runs on a panic too: an answer that is
// cut off counts like any other. Where it panics itself, the exchange ends all the same.
func (x *exchange) end() {
	defer x.free()
	took := time.Since(x.start)
	x.found.Release() // Write has copied or sent all that it was given
	x.leaveRoom()
	if x.status == 0 {
		x.outcome, x.reason = outcome.Failed, outcome.Aborted
	}
	x.s.counts.add(x, took)
	if x.looked {
		x.route.tally.add(x.cacheStatus())
	}
	x.s.access.add(x, took)
	x.record(took)
}

// free gives back what an exchange has of the node.
func (x *exchange) free() {
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

// ladder returns the ladder for an exchange of which that much is known.
func (x *exchange) ladder(rt *route, given overflow.Facts, body requestBody) *ladder {
	return &ladder{
		route: rt, hedges: &x.s.counts.hedges, visitor: x.visitor, proto: "https", id: x.requestID(),
		given: given, body: body, guest: x.guest, priority: x.priority, lottery: &x.s.lottery,
		priorityField: x.s.settings.Load().priorityField,
	}
}
