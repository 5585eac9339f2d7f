// Package cache is a shared HTTP cache in memory, and on a disk below it: RFC 9111,
// collapsing of identical requests included. It exists because a crowd asks for the
// same few things: each should cost the origin one request.
//
// Lookup finds the entry that may answer a request; Fetch asks for what was not
// found, once for all who ask at the same time. Nothing of a fetch is shared
// until its response header proves that it may be; from then on its body streams
// to all who wait, and to those who come later, as it arrives. A key whose
// response may not be shared is remembered for a time, so that the next crowd
// never queues for it.
//
// Parts are stored as well, and completed by asking for what is missing. An entry
// with a part answers what lies wholly within it, and never as if it were whole.
//
// When in doubt a response is not shared: responses with Set-Cookie, unless
// Config.ShareCookies says otherwise, answers to requests with Authorization that
// RFC 9111 section 3.5 does not release, and responses whose freshness nobody can
// tell go to the one who asked. A body that is cut short is a part, if it has a
// strong validator, and nobody gets it as if it were whole.
//
// What the operator of a route knows better than its responses is a Policy, given to
// each lookup: freshness where none is said, what tells requests apart, and what
// passes by. In doubt a request has a key of its own: a stranger must not choose what
// others are answered.
//
// Under a policy with codings text is sent in the one that a visitor likes best, made
// once of the entry, or while its body arrives.
//
// Memory is bounded: entries by Config.Memory, bodies in flight by a quarter of
// it, the memory of uncacheable keys by a constant. Bodies of entries lie outside
// of the garbage-collected heap. What a visitor is being sent is pinned until it
// is sent, whether the store still holds it or not, and counts meanwhile: what
// was found must be released, by Result.Release or by closing Response.Body.
//
// An entry that may answer while it is revalidated (RFC 5861) is fetched anew by
// Renew, in the background that Revalidate runs: one fetch for each, a bounded number
// in all. What is in the background ends with Revalidate.
//
// What is asked for again goes to the disk that UseDisk has given, and what memory
// does not have comes back from it, into memory, before it answers: the disk keeps
// bytes, and knows no rule. Times, keys and purges there outlive the process. A disk
// that is late, full or broken makes misses.
//
// The package writes no responses, logs nothing, starts no goroutine but one for
// each fetch that others may join, for each body that is brought into another coding,
// and for each object that is read from the disk.
package cache

import (
	"hash/maphash"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"spillway/edge/cache/disk"
	"spillway/edge/coding"
)

// A Cache stores responses and collapses requests. Its methods may be called
// concurrently.
type Cache struct {
	config     Config
	seed       maphash.Seed
	store      *store
	flights    *flights
	variations *variations
	larges     *larges
	purges     purges
	purging    atomic.Int64 // purges that are numbered and under way
	fills      budget
	counts     counts
	// behind is what goes on when nobody waits for it.
	behind    background
	recodings recodings

	disk    *disk.Tier // nil: there is none
	clock   clock
	recalls recalls
}

// counts are of events since the start.
type counts struct {
	stale, misses, bypassed, collapsed, stored, uncacheable, rejected, renewed, unrenewed atomic.Uint64
	purges                                                                                purgeCounts
	slices                                                                                struct{ stored, joined, fetched, changes atomic.Uint64 }
	// Hits are the one counter that every core writes all the time: it is spread.
	hits [16]struct {
		atomic.Uint64
		_ [56]byte
	}
}

// New returns an empty cache.
func New(c Config) *Cache {
	ca := &Cache{
		config:  c,
		seed:    maphash.MakeSeed(),
		flights: newFlights(), variations: newVariations(), larges: newLarges(),
		// A quarter, so that a crowd of different large objects cannot double what
		// the cache takes; one object must always fit.
		fills:     budget{limit: max(c.Memory/4, c.MaxObject)},
		recodings: newRecodings(),
	}
	ca.store = newStore(c.Memory, c.MaxObject, &ca.fills)
	return ca
}

// A Freshness says what a lookup found.
type Freshness string

const (
	// Fresh: the entry answers the request.
	Fresh Freshness = "fresh"
	// Stale: there is an entry, but it must be validated, by Fetch, before it may
	// answer; Entry.StaleFor says whether it may without.
	Stale Freshness = "stale"
	// StaleWhileRevalidate: the entry has expired and answers the request all the
	// same, and Renew is to fetch it anew (RFC 5861 section 3).
	StaleWhileRevalidate Freshness = "stale-while-revalidate"
	// FreshSlices: all slices of a large object that the request asks for are there.
	// Fetch puts the answer together; what is gone by its turn is asked for.
	FreshSlices Freshness = "fresh-slices"
	// Miss: there is no entry that has all that the request asks for.
	Miss Freshness = "miss"
	// Bypass: the request is none for a cache. Fetch passes it on as it is.
	Bypass Freshness = "bypass"
	// Unavailable: the request wants an answer from the cache or none (RFC 9111
	// section 5.2.1.7), and there is none: 504. Fetch refuses it.
	Unavailable Freshness = "unavailable"
)

// A Result is what a lookup found.
type Result struct {
	State Freshness
	// Entry is set when State is Fresh, Stale or StaleWhileRevalidate. It is pinned
	// until Release.
	Entry *Entry
	// Why says why the request goes forward, in the words of RFC 9211. It is empty
	// when State is Fresh or StaleWhileRevalidate.
	Why Fwd
	// Policy is that of the request's route. The caller sets it before Find; nil adds
	// nothing to RFC 9111.
	Policy *Policy

	control directives
	target  target
	slices  *slicing // how a large object is answered, nil for others
	// partial is an entry that has a part of what the request asks for.
	partial *Entry
	// onDisk: the entry was read from the disk, and is not in memory.
	onDisk bool

	varies  bool          // Entry is sent in various codings
	coding  coding.Coding // that the request prefers
	recoded *Entry        // in that coding, if there is one; pinned as well
	epoch   uint32        // of the target, when it was asked for
}

// Release ends the use of Entry, whose body must not be read any more. It may be
// called twice, but once only of all copies of a Result.
func (r *Result) Release() {
	r.Entry.release()
	r.partial.release()
	r.recoded.release()
	r.Entry, r.partial, r.recoded = nil, nil, nil
}

// retain pins what was found again, for one who goes on when it is released.
func (r *Result) retain() (release func()) {
	entry, partial := r.Entry.retain(), r.partial.retain()
	return func() {
		entry()
		partial()
	}
}

// Lookup finds the entry that answers r. A hit on what is asked for often
// allocates nothing. The Result must be released.
func (c *Cache) Lookup(r *http.Request, now time.Time) (res Result) {
	c.Find(r, now, &res)
	return res
}

// Find is Lookup into a Result of the caller's, zero but for its Policy. Over HTTP/3 each request
// has a stack of its own, which starts small: copying results on it would make
// it grow, which costs more than the lookup.
func (c *Cache) Find(r *http.Request, now time.Time, res *Result) {
	c.look(r, now, res)
	if c.recallable(res) {
		c.recall(r, now, res)
	}
	c.note(res, now)
}

// Glimpse finds what Find would, for who can use nothing but the whole of a fresh entry
// in memory, in the coding that r prefers. When it returns false it has left no trace,
// and Find is to be asked. When it returns true Found is to be called, or Release.
func (c *Cache) Glimpse(r *http.Request, now time.Time, res *Result) bool {
	c.look(r, now, res)
	e := res.Entry
	if res.State == Fresh && e.part == nil && e.TTL(now) > 0 &&
		(!res.varies || res.coding == e.coding || res.recoded != nil) {
		return true
	}
	res.Release()
	*res = Result{Policy: res.Policy}
	return false
}

// Found counts a Glimpse as the hit that it has become.
func (c *Cache) Found(res *Result, now time.Time) { c.note(res, now) }

// note counts what was found, and that it was asked for.
func (c *Cache) note(res *Result, now time.Time) {
	again := res.Entry != nil && res.Entry.touch()
	if res.recoded != nil {
		res.recoded.touch()
	}
	n := rand.Uint32()
	if res.State == Fresh && (again || n>>16&retryMask == 0) {
		c.demote(&res.target, res.Entry, now)
	}
	switch {
	case res.State == Fresh, res.State == FreshSlices:
		c.counts.hits[n%16].Add(1)
	case res.State == Bypass:
		c.counts.bypassed.Add(1)
	case res.Entry != nil:
		c.counts.stale.Add(1)
	default:
		c.counts.misses.Add(1)
	}
}

// look finds what Find returns, and changes nothing.
func (c *Cache) look(r *http.Request, now time.Time, res *Result) {
	if res.Policy.bypasses(r) {
		res.State, res.Why = Bypass, FwdBypass
		return
	}
	if why := bypass(r, announcesBody(r)); why != "" {
		res.State, res.Why = Bypass, why
		return
	}
	res.control = requestDirectives(r.Header)
	c.setTarget(r, res)
	e, known := c.find(r, now, res)
	c.settle(r, now, res, e, known)
}

// settle says what becomes of a request for which e was found.
func (c *Cache) settle(r *http.Request, now time.Time, res *Result, e *Entry, known bool) {
	res.State, res.Why, res.slices = "", "", nil
	if e != nil && !e.holds(r) {
		res.partial, e = e, nil
	}
	if e == nil {
		e = c.inSlices(r, now, res)
	}
	res.Entry = e
	c.lookRecoded(r, res)
	switch {
	case res.State == FreshSlices:
		return
	case e != nil && e.satisfies(&res.control, now):
		res.State = Fresh
		return
	case e != nil && e.staleWhileRevalidate(&res.control, now):
		res.State = StaleWhileRevalidate
		return
	case e != nil:
		res.State, res.Why = Stale, FwdStale
		if res.Entry.TTL(now) > 0 && !res.Entry.control.noCache {
			res.Why = FwdRequest
		}
	case res.partial != nil, res.slices.begun():
		res.State, res.Why = Miss, FwdPartial
	case known:
		res.State, res.Why = Miss, FwdVaryMiss
	default:
		res.State, res.Why = Miss, FwdURIMiss
	}
	if res.control.onlyIfCached {
		res.State = Unavailable
	}
}

// setTarget sets the key of r under the policy.
func (c *Cache) setTarget(r *http.Request, res *Result) {
	res.target = c.target(r)
	if res.Policy != nil {
		c.rekey(&res.target, &res.Policy.query)
	}
}
