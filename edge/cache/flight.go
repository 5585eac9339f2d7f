package cache

import (
	"context"
	"hash/maphash"
	"math/bits"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// flights are the fetches that may be joined, and what is remembered of keys
// whose responses may not be shared.
type flights struct {
	shards [flightShards]flightShard
	// epochs count the invalidations of the keys whose hash falls into a place. A
	// fetch that began in an earlier epoch is joined by nobody and not stored. Two
	// keys in one place cost a store at most.
	epochs [1 << 14]atomic.Uint32
	open   atomic.Int64
}

const flightShards = 64

type flightShard struct {
	mu     sync.Mutex
	groups map[uint64]*group
	marks  marks

	combining sync.Mutex // held without mu
}

// A group holds the flights of one key: more than one when Vary tells their
// requests apart.
type group struct {
	target  target
	flights []*flight
	// vary is what is known to tell requests for the key apart. Without it all are
	// taken for alike until a header says otherwise.
	vary []nominated
}

// A flight is one fetch, from the moment that it is decided on until its body is
// complete or may not be joined any more.
type flight struct {
	key    uint64 // of the group
	target target
	leader *http.Request
	epoch  uint32
	cancel context.CancelFunc

	// decided is closed once landing is set: the header has come, or never will.
	decided chan struct{}
	landing landing
	// kept: the answer was stored. It is for who flies it, when it has flown.
	kept bool
	late atomic.Bool // somebody has waited long enough for it

	// Guarded by the shard's mu.
	waiting    int  // leader and joiners that wait for decided
	leaderLeft bool // it does not want the answer any more
	abandoned  bool // nobody wants it, and it was canceled
	settled    bool
	// detached: it goes on when nobody waits, in a place of the background's, which
	// release gives back.
	detached bool
	release  func()
}

// A landing is what became of a flight. One of err, panicked, entry, fill and
// direct is set.
type landing struct {
	err      error
	panicked any
	entry    *Entry         // the whole answer
	fill     *fill          // the answer, growing
	direct   *http.Response // the leader's alone

	verdict verdict
	shared  bool // joiners may have it
	stored  bool
	length  int64
	// revalidated: a 304 made the stale entry an answer again.
	revalidated bool
	fwdStatus   int
	variation   *variation // of the answer
	aged        bool       // the answer came with an age: it is not the origin's own
}

func newFlights() *flights {
	fs := &flights{}
	for i := range fs.shards {
		fs.shards[i].groups = make(map[uint64]*group)
	}
	return fs
}

func (fs *flights) epoch(hash uint64) *atomic.Uint32 {
	return &fs.epochs[hash%uint64(len(fs.epochs))]
}

func (fs *flights) shard(key uint64) *flightShard {
	return &fs.shards[key>>32%flightShards]
}

const headKey = 0x9e3779b97f4a7c15

// flightKey tells HEAD from GET: both collapse, but one has no body to share. It
// tells ranges from the whole and from each other, whatever they say: what comes
// of one says nothing about the others.
func (c *Cache) flightKey(t *target, r *http.Request) uint64 {
	key := t.hash
	if r.Method == http.MethodHead {
		key ^= headKey
	}
	for i, name := range rangeFields {
		if i > 0 && len(r.Header["Range"]) == 0 {
			break // RFC 9110 section 13.1.5
		}
		for _, line := range r.Header[name] {
			key = bits.RotateLeft64(key, 7+i) ^ maphash.String(c.seed, line)
		}
	}
	return key
}

// rangeFields are what makes two requests for a target ask for different bytes.
var rangeFields = [...]string{"Range", "If-Range"}

// sameRange reports whether two requests ask for the same bytes.
func sameRange(a, b http.Header) bool {
	return slices.Equal(a["Range"], b["Range"]) && (len(a["Range"]) == 0 || slices.Equal(a["If-Range"], b["If-Range"]))
}

// An admission is what a request for a key is told.
type admission struct {
	lead  *flight // fetch it, for all who come
	join  *flight // somebody fetches it
	entry *Entry  // it was stored a moment ago; pinned
	err   error   // too many wait already
	// None of them: fetch it alone.
}

// enter finds the place of a request that may be collapsed.
func (c *Cache) enter(r *http.Request, found *Result, now time.Time) admission {
	key := c.flightKey(&found.target, r)
	sh := c.flights.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	g := sh.groups[key]
	if sh.marks.has(key, now) || g != nil && !g.target.equal(&found.target) {
		return admission{}
	}
	if g != nil {
		// The newest first: what tells requests apart may be another policy's in older ones.
		for _, f := range slices.Backward(g.flights) {
			if f.epoch != c.flights.epoch(found.target.hash).Load() || c.outlived(f, found) {
				continue
			}
			if joined, full := f.join(g, r, found, now, c.config.CollapseWaiters); full {
				return admission{err: ErrCollapseFull}
			} else if joined {
				return admission{join: f}
			}
		}
	}
	// Between the lookup and this moment a flight may have landed.
	if e, _ := c.usable(&found.target, r, found.Policy); e != nil {
		if !e.same(found.Entry) && e.holds(r) && e.satisfies(&found.control, now) {
			e.touch()
			return admission{entry: e}
		}
		e.release()
	}
	return admission{lead: c.depart(sh, key, r, found)}
}

// join lets a request in on a flight if that may answer it.
func (f *flight) join(g *group, r *http.Request, found *Result, now time.Time, limit int) (joined, full bool) {
	switch {
	case !f.joinable(g, r, found, now):
		return false, false
	case f.settled:
		return f.landing.fill.expect(), false
	case f.joiners() >= limit:
		return false, true
	}
	f.waiting++
	return true, false
}

// joinable reports whether a flight brings what may answer a request.
func (f *flight) joinable(g *group, r *http.Request, found *Result, now time.Time) bool {
	switch {
	case f.abandoned, !sameRange(f.leader.Header, r.Header):
		return false
	case f.settled:
		return f.answers(r, found) && f.landing.verdict.entry.satisfies(&found.control, now)
	}
	return found.Policy.hasParts(g.vary) && matches(nominateAgain(g.vary, f.leader.Header), r.Header)
}

// answers reports whether the answer that has landed is one for a request that
// waited for it.
func (f *flight) answers(r *http.Request, found *Result) bool {
	e := f.landing.verdict.entry
	return e.mayAnswer(r) && found.Policy.hasParts(e.vary) && f.shares(&found.target)
}

// joiners is how many wait besides the leader.
func (f *flight) joiners() int {
	if f.leaderLeft {
		return f.waiting
	}
	return f.waiting - 1
}

// nominateAgain takes another request's values of the same fields.
func nominateAgain(fields []nominated, r http.Header) []nominated {
	again := slices.Clone(fields)
	for i := range again {
		again[i].value, again[i].present = fieldValue(r, again[i].name)
	}
	return again
}

// depart begins a flight.
func (c *Cache) depart(sh *flightShard, key uint64, r *http.Request, found *Result) *flight {
	f := &flight{
		key: key, target: found.target.clone(), leader: r, waiting: 1,
		epoch: c.flights.epoch(found.target.hash).Load(), decided: make(chan struct{}),
	}
	g := sh.groups[key]
	if g == nil {
		g = &group{target: f.target}
		sh.groups[key] = g
	}
	if len(g.flights) == 0 || !found.Policy.hasParts(g.vary) { // none, or those of a policy that is gone
		g.vary = found.Policy.withParts(c.store.vary(&f.target), r.Header)
	}
	g.flights = append(g.flights, f)
	c.flights.open.Add(1)
	return f
}

// land ends the wait. prepare sees how many wait, and whether the leader does,
// and returns what they get; it runs while nobody can come or leave.
func (c *Cache) land(f *flight, prepare func(waiting int, leader bool) landing) {
	sh := c.flights.shard(f.key)
	sh.mu.Lock()
	l := prepare(f.waiting, !f.leaderLeft)
	f.landing, f.settled = l, true
	if g := sh.groups[f.key]; g != nil && l.verdict.entry != nil && len(l.verdict.entry.vary) > 0 {
		g.vary = l.verdict.entry.vary
	}
	if l.shared {
		sh.marks.remove(f.key)
	}
	if l.fill == nil || !l.shared {
		c.close(sh, f)
	}
	sh.mu.Unlock()
	close(f.decided)
}

// close takes a flight off the list: nobody joins it any more.
func (c *Cache) close(sh *flightShard, f *flight) {
	g := sh.groups[f.key]
	if g == nil {
		return
	}
	i := slices.Index(g.flights, f)
	if i < 0 {
		return
	}
	g.flights = slices.Delete(g.flights, i, i+1)
	c.flights.open.Add(-1)
	if len(g.flights) == 0 {
		delete(sh.groups, f.key)
	}
}

func (c *Cache) closeFlight(f *flight) {
	sh := c.flights.shard(f.key)
	sh.mu.Lock()
	c.close(sh, f)
	sh.mu.Unlock()
}

// leave is for a request that stops waiting. The last one takes the fetch with
// it: whether its answer could be stored is not known yet, and a visitor who
// comes and goes must not keep an origin busy.
func (c *Cache) leave(f *flight, leader bool) {
	sh := c.flights.shard(f.key)
	sh.mu.Lock()
	settled := f.settled
	if !settled {
		f.leaderLeft = f.leaderLeft || leader
		if f.waiting--; f.waiting == 0 && !f.detached {
			c.abandon(sh, f)
		}
	}
	sh.mu.Unlock()
	if settled {
		f.decline(leader)
	}
}

// abandon cancels a flight that nobody waits for.
func (c *Cache) abandon(sh *flightShard, f *flight) {
	f.abandoned = true
	f.cancel()
	c.close(sh, f)
}

// decline gives back what a flight has kept for one who waited for it.
func (f *flight) decline(leader bool) {
	switch l := &f.landing; {
	case l.fill != nil && (l.shared || leader):
		l.fill.renounce()
	case l.direct != nil && leader:
		l.direct.Body.Close()
		f.cancel()
	}
}

// mark remembers that a key's responses are not shared.
func (c *Cache) mark(key uint64, until time.Time) {
	sh := c.flights.shard(key)
	sh.mu.Lock()
	sh.marks.add(key, until)
	sh.mu.Unlock()
	c.counts.uncacheable.Add(1)
}

// unmark forgets it.
func (c *Cache) unmark(key uint64) {
	sh := c.flights.shard(key)
	sh.mu.Lock()
	sh.marks.remove(key)
	sh.mu.Unlock()
}
