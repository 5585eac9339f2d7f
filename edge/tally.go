package edge

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"spillway/edge/cache"
	"spillway/edge/outcome"
)

// A cacheStatus is what the cache did for one request.
type cacheStatus int

const (
	cacheHit         cacheStatus = iota // a fresh entry answered
	cacheStale                          // an expired one did
	cacheCollapsed                      // somebody else's fetch did
	cacheRevalidated                    // an entry did, once the origin had confirmed it
	cacheMiss                           // the request went forward
	cacheBypass                         // it is none for a cache
	cacheStatuses
)

// CacheStatuses are the words for what the cache does, in the order in which they
// are shown.
var CacheStatuses = [cacheStatuses]string{"hit", "stale", "collapsed", "revalidated", "miss", "bypass"}

// cacheStatus says what the cache did for an exchange that has ended.
func (x *exchange) cacheStatus() cacheStatus {
	switch {
	case x.outcome == outcome.Hit:
		return cacheHit
	case x.outcome == outcome.Stale:
		return cacheStale
	case x.outcome == outcome.Collapsed:
		return cacheCollapsed
	case x.found.State == cache.Bypass:
		return cacheBypass
	case x.reason == outcome.Revalidated:
		return cacheRevalidated
	}
	return cacheMiss
}

// A cacheTally counts the requests of one route by what the cache did for them. It
// outlives reloads.
type cacheTally struct {
	name     string
	requests [cacheStatuses]atomic.Uint64
}

func (t *cacheTally) add(s cacheStatus) { t.requests[s].Add(1) }

// cacheTallies are those of all routes, by name.
type cacheTallies map[string]*cacheTally

// of returns the tally of a route, made when there is none yet.
func (t cacheTallies) of(name string) *cacheTally {
	if t[name] == nil {
		t[name] = &cacheTally{name: name}
	}
	return t[name]
}

// A CacheState says what the cache did for the requests of one route since the node
// started. Requests for which it was not asked, because they were refused before,
// are not among them.
type CacheState struct {
	// Route is its methods, if it names some, its hosts, and its path.
	Route string `json:"route"`
	// Requests are those by status: hit (fresh), stale, collapsed (onto the fetch of
	// another), revalidated, miss, and bypass (none for a cache).
	Requests map[string]uint64 `json:"requests"`
	// HitRatio is the part that the cache answered without a request of their own, hit,
	// stale and collapsed, of all that it might have, which is all but bypass. It is
	// zero without any.
	HitRatio float64 `json:"hit_ratio"`
}

func (t *cacheTally) state() CacheState {
	s := CacheState{Route: t.name, Requests: make(map[string]uint64, cacheStatuses)}
	var n [cacheStatuses]uint64
	var all uint64
	for i := range t.requests {
		n[i] = t.requests[i].Load()
		s.Requests[CacheStatuses[i]] = n[i]
		all += n[i]
	}
	answered := n[cacheHit] + n[cacheStale] + n[cacheCollapsed]
	s.HitRatio = float64(answered) / float64(max(all-n[cacheBypass], 1))
	return s
}

// CacheStates returns what the cache did for each route, by name.
func (s *Server) CacheStates() []CacheState {
	s.reload.Lock()
	known := slices.SortedFunc(maps.Values(s.tallies), func(a, b *cacheTally) int { return cmp.Compare(a.name, b.name) })
	s.reload.Unlock()
	states := make([]CacheState, len(known))
	for i, t := range known {
		states[i] = t.state()
	}
	return states
}
