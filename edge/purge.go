package edge

import (
	"context"
	"net/http"
	"slices"

	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// methodPurge is the method by which other caches are told to purge. It is the
// node's own and goes to no origin, which could take the node's address for that of
// somebody who may purge there; unless the route names it among its methods.
const methodPurge = "PURGE"

// asksToPurge reports whether the node itself is asked to purge, on a path that it
// serves, given what came of the match.
func (x *exchange) asksToPurge(rt *route, why outcome.Reason) bool {
	switch {
	case x.r.Method != methodPurge:
		return false
	case rt == nil:
		return why == outcome.MethodNotAllowed // a route takes other methods on this path
	}
	return !slices.Contains(rt.methods, methodPurge)
}

// mayPurge goes by the visitor's address: the peer's, unless a trusted proxy names
// another.
func (x *exchange) mayPurge() bool {
	return within(x.visitor.addr, x.s.settings.Load().purgers)
}

// purge purges what the request names: the URL in all variants, or what has the
// tags in its Surrogate-Key or Cache-Tag, or is in the groups in its Cache-Groups.
// Who may needs no admission besides.
func (x *exchange) purge() {
	// RFC 8470 section 5.1: early data may be a replay, and its address somebody
	// else's.
	if err := awaitHandshake(x.r); err != nil {
		x.refuse(outcome.TooEarly)
		return
	}
	if !x.mayPurge() {
		x.refuse(outcome.MethodNotAllowed)
		return
	}
	named, err := x.s.cache.SelectTags(x.r)
	if err != nil {
		x.refuse(outcome.BadRequest)
		return
	}
	if len(named) == 0 {
		named = []cache.Selection{x.s.selectURL(x.r)}
	}
	entries := 0
	for _, selection := range named {
		entries += x.s.cache.PurgeBy(selection, asksSoftly(x.r.Header))
	}
	patience, cancel := context.WithTimeout(x.r.Context(), cache.SyncPatience)
	defer cancel()
	x.purged(entries, x.s.cache.Sync(patience))
}

// asksSoftly reports whether what is purged is to be marked stale only. Programs
// that purge at Fastly say so in a field of that name.
func asksSoftly(h http.Header) bool {
	return h.Get("Spillway-Soft-Purge") == "1" || h.Get("Fastly-Soft-Purge") == "1"
}

// Select names all variants of a URL, as requests for it are looked up. Its error
// says what is wrong with the URL.
func (s *Server) Select(url string) (cache.Selection, error) {
	q := Inquiry{URL: url}
	r, err := q.request()
	if err != nil {
		return cache.Selection{}, err
	}
	return s.selectURL(r), nil
}

// selectURL names what r asks for under the policies of its site.
func (s *Server) selectURL(r *http.Request) cache.Selection {
	visit := *r
	visit.Method = http.MethodGet
	if rt, _ := s.settings.Load().sites.match(&visit, sentPath(&visit)); rt != nil {
		return s.cache.SelectURL(r, rt.caching)
	}
	return s.cache.SelectURL(r, nil)
}
