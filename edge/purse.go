package edge

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"spillway/edge/outcome"
	"spillway/origin/faas"
)

// A purse is what one route cost and saved. It outlives reloads. A nil *purse is
// that of a route which never spills.
type purse struct {
	name  string
	tally faas.Tally
	// exercises are the calls that only prove that functions answer.
	exercises faas.Tally
	// What the cache answered, alone or by sharing a fetch, while the origin was
	// full. While it has room, an answer of the cache saves the origin work, and
	// nobody money.
	hits, joined atomic.Uint64
}

// purses are those of all routes, by name.
type purses map[string]*purse

// of returns the purse of a route, made when there is none yet.
func (p purses) of(name string, rc RouteConfig) *purse {
	if rc.Overflow == nil {
		return nil
	}
	if p[name] == nil {
		p[name] = &purse{name: name}
	}
	return p[name]
}

// full reports whether a request of the route would have to leave the origin.
func (r *route) full() bool { return !r.origin.Up() || r.origin.Limiter().Full(r.at()) }

// hit counts an answer out of the cache.
func (r *route) hit() {
	if r.purse != nil && r.full() {
		r.purse.hits.Add(1)
	}
}

// join counts an answer that was fetched for somebody else.
func (r *route) join() {
	if r.purse != nil && r.full() {
		r.purse.joined.Add(1)
	}
}

// pays puts into a call whose bill it is, and whether the origin could have done
// the work after all: it did not refuse or fail, and had less to do than it can.
func (r *route) pays(call *faas.Request, refused outcome.Reason) {
	call.Tally = &r.purse.tally
	call.Avoidable = refused == outcome.None && r.origin.Limiter().Idle()
}

// A RouteState is what a route that may spill did cost and save since the node
// started, in US dollars.
type RouteState struct {
	// Route is its methods, if it names some, its hosts, and its path.
	Route   string  `json:"route"`
	Calls   uint64  `json:"calls"` // of functions
	CostUSD float64 `json:"cost_usd"`
	// AvoidableUSD is the part of it that was spent while the origin had room.
	AvoidableUSD float64 `json:"avoidable_usd"`
	// What calls would have cost that were not made, because the cache had the
	// answer or somebody else was fetching it while the origin was full: their number
	// times the average cost of the calls that were made.
	SavedByCacheUSD      float64 `json:"saved_by_cache_usd"`
	SavedByCollapsingUSD float64 `json:"saved_by_collapsing_usd"`
	// Exercises are calls that only prove that functions answer, beside the Calls.
	Exercises    uint64  `json:"exercises"`
	ExercisesUSD float64 `json:"exercises_usd"`
}

func (p *purse) state() RouteState {
	s := RouteState{Route: p.name, Calls: p.tally.Calls(), CostUSD: p.tally.Cost(), AvoidableUSD: p.tally.Avoidable()}
	average := s.CostUSD / float64(max(s.Calls, 1))
	s.SavedByCacheUSD = average * float64(p.hits.Load())
	s.SavedByCollapsingUSD = average * float64(p.joined.Load())
	s.Exercises, s.ExercisesUSD = p.exercises.Calls(), p.exercises.Cost()
	return s
}

// Routes returns what the routes that may spill did cost and save, by name.
func (s *Server) Routes() []RouteState {
	s.reload.Lock()
	known := slices.SortedFunc(maps.Values(s.purses), func(a, b *purse) int { return cmp.Compare(a.name, b.name) })
	s.reload.Unlock()
	states := make([]RouteState, len(known))
	for i, p := range known {
		states[i] = p.state()
	}
	return states
}
