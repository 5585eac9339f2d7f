package edge

import (
	"math"
	"net/http"
	"slices"
	"strings"

	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// The protocols' fast paths answer hits themselves: they ask for one with what they
// have read, before they give it to their libraries. What is none they leave to those,
// which find the request as if nobody had looked at it. So there are no rules here but
// those of the path: the same functions in the same order, and where one of them would
// do anything but go on, it is no hit.

// A hitFinder is a handler that has a hit for some requests. The Server is one.
type hitFinder interface {
	hit(r *http.Request) *exchange
	// hitWithin is hit for bodies of at most so many bytes.
	hitWithin(r *http.Request, most int) *exchange
}

// hit returns the exchange of a request that a fresh entry in memory answers, whole
// and at once, or nil. The caller writes what appendHead and body return, and calls finish;
// until then r belongs to the exchange. r has come whole, over TLS, without a body.
//
// It never blocks, and does not change r.
func (s *Server) hit(r *http.Request) *exchange { return s.hitWithin(r, math.MaxInt) }

func (s *Server) hitWithin(r *http.Request, most int) *exchange {
	settings := s.settings.Load()
	if !mayHit(r, settings) {
		return nil
	}
	x := s.begin(nil, r)
	found := false
	defer func() {
		if !found { // or it panicked
			x.discard()
		}
	}()
	if found = x.findHit(settings, most); !found {
		return nil
	}
	return x
}

// mayHit rules out by its fields what is not worth a lookup here: what the path does
// more with than to look the entry up and send it.
func mayHit(r *http.Request, settings *settings) bool {
	if r.Method != http.MethodGet {
		return false
	}
	h := r.Header
	for _, name := range notForHits {
		if len(h[name]) > 0 {
			return false
		}
	}
	// What every browser says over HTTP/1.1, where it means nothing.
	if c := h["Connection"]; len(c) > 0 && (r.ProtoMajor != 1 || len(c) > 1 || !strings.EqualFold(c[0], "keep-alive")) {
		return false
	}
	return len(h[settings.priorityField]) == 0 && !slices.ContainsFunc(h["Cookie"], mayHoldTicket)
}

// notForHits are fields that ask for something else than the whole of an entry, that
// speak of a body, or of the connection.
var notForHits = [...]string{
	"Range", "If-None-Match", "If-Modified-Since", "If-Range", "If-Match", "If-Unmodified-Since",
	"Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Upgrade",
}

// findHit takes the steps of ServeHTTP as far as the cache.
func (x *exchange) findHit(settings *settings, most int) bool {
	s := x.s
	x.visitor = newVisitor(x.r, settings.proxies)
	if malformed(x.r, x.path) != outcome.None {
		return false
	}
	rt, why := settings.sites.match(x.r, x.path)
	if why != outcome.None || !rt.cached {
		return false
	}
	x.route = rt
	x.found.Policy = rt.caching
	if !s.cache.Glimpse(x.r, x.start, &x.found) || !sentAsStored(x.found.Answer(x.r)) || len(x.body()) > most {
		return false
	}
	if !s.admit.TryEnter(x.visitor.addr) {
		return false
	}
	s.cache.Found(&x.found, x.start)
	x.looked = true
	rt.hit()
	x.outcome, x.reason = outcome.Hit, outcome.Fresh
	return true
}

// sentAsStored reports whether the libraries would add nothing to an entry, and take
// nothing from it.
func sentAsStored(e *cache.Entry) bool {
	status, h := e.Status(), e.Header()
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified &&
		len(h["Content-Length"]) == 1 && len(h["Date"]) > 0 && len(h["Content-Type"]) > 0
}

// discard ends an exchange of which nobody is to know.
func (x *exchange) discard() {
	x.found.Release()
	x.free()
}

// body is that of the answer. It must not be read after finish.
func (x *exchange) body() []byte { return x.found.Answer(x.r).Body() }

// finish ends the exchange of a hit, of whose body n bytes were written before err. It has
// ended even where that panics: nobody ends it again.
func (x *exchange) finish(n int, err error) {
	defer x.end()
	defer x.s.admit.Leave(x.visitor.addr)
	x.status, x.bytes = x.found.Answer(x.r).Status(), int64(n)
	if err != nil {
		x.outcome, x.reason = outcome.Canceled, gone(err)
	}
}

// abandon ends the exchange of a hit that a panic kept from being written. It counts as
// any answer that the node broke off.
func (x *exchange) abandon() {
	x.s.admit.Leave(x.visitor.addr)
	x.end()
}
