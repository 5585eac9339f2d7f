package cache

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// variations are what is known of the paths whose responses have No-Vary-Search. A
// response that does not vary on all of the query is stored under a key that is the
// same for all queries it answers; a lookup that finds nothing under the target
// itself makes that key by what the path's responses said last. So nothing is ever
// scanned.
//
// A response is used only where its own field allows it, since the field's text is a
// part of the key. What is forgotten of a path leaves entries that nobody finds, and
// that a later response does not bring back: each time, the keys are others.
type variations struct {
	paths  atomic.Int64
	serial atomic.Uint64
	shards [variationShards]variationShard
	// distinct holds one of each kind, for a site has few for many paths. Of too many,
	// the one goes that has been of no use for longest, and with it what paths know of
	// it: a site that sends ever new ones must not keep others from being learned.
	mu       sync.Mutex
	distinct map[string]*variation
	learned  atomic.Uint64 // kinds, ever
}

type variationShard struct {
	mu    sync.RWMutex
	paths map[uint64][]known // by the hash of the path; the newest first; never changed in place
}

// A known is a variation of one path, as long as its kind is remembered.
type known struct {
	kind   weak.Pointer[variation]
	serial uint64 // of the keys that are made with it
}

// Bounds on what is remembered: some mebibytes. Not knobs.
const (
	variationShards   = 64
	maxPathsPerShard  = 1024
	maxKnown          = 2 // of one path; origins should send one (section 6 of the draft)
	maxDistinct       = 256
	variedQueryMarker = "\x00" // no query that is sent begins so
)

func newVariations() *variations {
	v := &variations{distinct: map[string]*variation{}}
	for i := range v.shards {
		v.shards[i].paths = map[uint64][]known{}
	}
	return v
}

func (vs *variations) shard(path uint64) *variationShard { return &vs.shards[path%variationShards] }

// of returns what is known of a path.
func (vs *variations) of(path uint64) []known {
	sh := vs.shard(path)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.paths[path]
}

// learn notes what a response of the path said, and returns it as it is known from
// now on.
func (vs *variations) learn(path uint64, v *variation) known {
	v = vs.one(v)
	k := known{kind: weak.Make(v)}
	if have := vs.of(path); len(have) > 0 && have[0].kind == k.kind {
		return have[0]
	}
	sh := vs.shard(path)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	have := sh.paths[path]
	if i := slices.IndexFunc(have, func(other known) bool { return other.kind == k.kind }); i >= 0 {
		k = have[i]
		have = slices.Delete(slices.Clone(have), i, i+1)
	} else {
		k.serial = vs.serial.Add(1)
	}
	if len(have) == 0 && len(sh.paths) >= maxPathsPerShard {
		for other := range sh.paths {
			delete(sh.paths, other)
			vs.paths.Add(-1)
			break
		}
	}
	if _, there := sh.paths[path]; !there {
		vs.paths.Add(1)
	}
	sh.paths[path] = slices.Insert(have[:min(len(have), maxKnown-1):len(have)], 0, k)
	return k
}

// one returns the variation that stands for all of the same text.
func (vs *variations) one(v *variation) *variation {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	have := vs.distinct[v.text]
	if have == nil {
		if len(vs.distinct) >= maxDistinct {
			vs.forgetKind()
		}
		vs.learned.Add(1)
		vs.distinct[v.text], have = v, v
	}
	vs.use(have)
	return have
}

// use notes that a kind is of use.
func (vs *variations) use(v *variation) {
	if now := vs.learned.Load(); v.used.Load() != now {
		v.used.Store(now)
	}
}

// forgetKind forgets the kind that has been of no use for longest.
func (vs *variations) forgetKind() {
	oldest := ""
	for text, v := range vs.distinct {
		if o := vs.distinct[oldest]; o == nil || v.used.Load() < o.used.Load() {
			oldest = text
		}
	}
	delete(vs.distinct, oldest)
}

// path returns the hash of a target without its query.
func (c *Cache) path(t *target) uint64 {
	return c.hashed(target{scheme: t.scheme, host: t.host, path: t.path}).hash
}

// exact returns a target with its own query.
func (c *Cache) exact(t *target) target {
	if !t.varied {
		return *t
	}
	exact := *t
	exact.query, exact.hasQuery = t.sent, t.sentQuery
	exact.varied, exact.sent, exact.sentQuery = false, "", false
	return c.rehashed(exact)
}

// varied returns the key of an exact target under a variation. It is not ok for one
// that is forgotten, and for a query that is too long.
func (c *Cache) varied(exact *target, k known) (target, bool) {
	v := k.kind.Value()
	if v == nil {
		return target{}, false
	}
	canonical, ok := v.canonical(exact.query)
	if !ok {
		return target{}, false
	}
	t := *exact
	t.varied, t.sent, t.sentQuery = true, exact.query, exact.hasQuery
	t.query, t.hasQuery = variedQueryMarker+serialText(k.serial)+canonical, false
	return c.rehashed(t), true
}

// serialText is of one length, so that what follows it begins at one place.
func serialText(serial uint64) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(serial >> (8 * i))
	}
	return string(b[:])
}

// find returns the entry that may answer r under the policy, pinned, and whether the
// key is known at all. The exact target comes first. Afterwards res.target is the key
// under which it was found; without one, that under which an answer is awaited.
func (c *Cache) find(r *http.Request, now time.Time, res *Result) (e *Entry, known bool) {
	e, known = c.usable(&res.target, r, res.Policy)
	if c.variations.paths.Load() == 0 || e != nil && e.satisfies(&res.control, now) {
		return e, known
	}
	other, otherKnown := c.findVaried(r, now, res, e)
	return other, known || otherKnown
}

// findVaried looks under the keys that No-Vary-Search makes, when e is all that there
// is under the exact target. It releases e unless it returns it.
func (c *Cache) findVaried(r *http.Request, now time.Time, res *Result, e *Entry) (_ *Entry, known bool) {
	exact, newest := res.target, true
	for _, k := range c.variations.of(c.path(&exact)) {
		t, ok := c.varied(&exact, k)
		if !ok {
			continue
		}
		other, otherKnown := c.usable(&t, r, res.Policy)
		known = known || otherKnown
		if other != nil && other.satisfies(&res.control, now) {
			e.release()
			if v := k.kind.Value(); v != nil {
				c.variations.use(v)
			}
			res.target = t
			return other, true
		}
		if e == nil && (other != nil || newest) {
			res.target, e = t, other
		} else {
			other.release()
		}
		newest = false
	}
	return e, known
}

// usable is the store's get for requests under a policy: what was stored under another
// one, before a reload, does not stand before what may answer.
func (c *Cache) usable(t *target, r *http.Request, p *Policy) (e *Entry, known bool) {
	return c.store.getUnder(t, r, func(e *Entry) bool { return p.hasParts(e.vary) })
}

// place returns the key under which an entry is stored that answered t: t itself,
// or what its No-Vary-Search makes of it.
func (c *Cache) place(t *target, e *Entry) *target {
	v := parseVariation(e.header["No-Vary-Search"])
	if v == nil && !t.varied || t.sliced() {
		return t
	}
	key := c.exact(t)
	if v != nil {
		if varied, ok := c.varied(&key, c.variations.learn(c.path(t), v)); ok {
			key = varied
		}
	}
	key.asked = t.asked // not now: a purge may have come since
	return &key
}

// shares reports whether an entry that answers f may answer another target of its
// group: the same one, or one between which and its own the response does not vary.
func (f *flight) shares(t *target) bool {
	if !t.varied && !f.target.varied {
		return true
	}
	v := f.landing.variation
	a, hasA := f.target.sentParts()
	b, hasB := t.sentParts()
	return v.same(a, b, hasA, hasB)
}

// sentParts returns the query that was sent, and whether there was one.
func (t *target) sentParts() (query string, has bool) {
	if t.varied {
		return t.sent, t.sentQuery
	}
	return t.query, t.hasQuery
}

// keys are those that an exact target may be stored under, each once: by the rules
// of the site's routes, and by what its responses said.
func (c *Cache) keys(p *Policy, t *target) []target {
	keys := []target{*t}
	add := func(key target, ok bool) {
		if ok && !slices.ContainsFunc(keys, func(k target) bool { return k.equal(&key) }) {
			keys = append(keys, key)
		}
	}
	if p != nil {
		for i := range p.rules {
			key := *t
			add(key, c.rekey(&key, &p.rules[i]))
		}
	}
	if c.variations.paths.Load() == 0 {
		return keys
	}
	for _, exact := range keys {
		for _, k := range c.variations.of(c.path(&exact)) {
			add(c.varied(&exact, k))
		}
	}
	return keys
}

// forgetAll removes a target under all of its keys.
func (c *Cache) forgetAll(p *Policy, t *target) {
	c.purges.begin(c.path(t))
	for _, key := range c.keys(p, t) {
		c.forget(&key)
	}
}
