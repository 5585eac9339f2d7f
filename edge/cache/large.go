package cache

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// larges remember the targets that are too large to be stored as one entry, and can be
// stored in slices. What is forgotten is learned again from the next answer.
type larges struct {
	any    atomic.Bool // there has been one
	shards [largeShards]largeShard
}

type largeShard struct {
	mu    sync.RWMutex
	known map[uint64]large // by the hash of the target
}

// A large is what is known of one target.
type large struct {
	size    int64
	version string    // the later, when its slices were last found to be of two
	changed time.Time // when that was
	avoid   time.Time // until when it is not sliced
}

// Bounds on what is remembered: some mebibytes. Not knobs.
const (
	largeShards       = 64
	maxLargesPerShard = 512
)

// restless is how often an object may change while it is read without being left alone,
// and for how long it is then: an origin whose servers disagree about a validator would
// break one answer after the other. Not a knob.
const restless = time.Minute

// changeSeen is how long a change that many visitors see is the same one. Not a knob.
const changeSeen = time.Second

func newLarges() *larges {
	l := &larges{}
	for i := range l.shards {
		l.shards[i].known = map[uint64]large{}
	}
	return l
}

func (l *larges) shard(hash uint64) *largeShard { return &l.shards[hash>>16%largeShards] }

// sizeOf returns the size of a target that is to be sliced.
func (l *larges) sizeOf(hash uint64, now time.Time) (size int64, ok bool) {
	sh := l.shard(hash)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	k, ok := sh.known[hash]
	return k.size, ok && k.size > 0 && !now.Before(k.avoid)
}

// change changes what is known of a target.
func (l *larges) change(hash uint64, f func(*large)) {
	sh := l.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k, known := sh.known[hash]
	if !known && len(sh.known) >= maxLargesPerShard {
		for other := range sh.known {
			delete(sh.known, other)
			break
		}
	}
	f(&k)
	sh.known[hash] = k
	l.any.Store(true)
}

func (l *larges) learn(hash uint64, size int64) {
	if now, ok := l.sizeOf(hash, time.Now()); !ok || now != size {
		l.change(hash, func(k *large) { k.size = size })
	}
}

func (l *larges) forget(hash uint64) {
	sh := l.shard(hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.known, hash)
}

// shun keeps a target from being sliced for a time.
func (l *larges) shun(hash uint64, now time.Time) {
	l.change(hash, func(k *large) { k.avoid = now.Add(restless) })
}

// weighSize draws from an answer what it says about slices: whether its target is to be
// sliced, or if it is one, whether it may be stored as that.
func (c *Cache) weighSize(r *http.Request, a *reply, found *Result, v *verdict) {
	if !found.target.sliced() {
		c.noteSize(r, a, found, v)
		return
	}
	if v.store && !storableSlice(r, a) {
		v.store, v.why = false, "no-slice"
	}
	if !v.share && v.why != whySetCookie && tellsOfObject(r, a.status) {
		object := found.target
		object.query = object.unsliced()
		c.larges.forget(c.hashed(object).hash) // to slice it would ask once for each visitor and slice
	}
}

// tellsOfObject reports whether an answer that is no slice says that its object is not to
// be sliced, and not only something of who asked. Else a stranger could have all others
// get all of it from the origin.
func tellsOfObject(r *http.Request, status int) bool {
	return !failing(status) && !aboutClient(status) && !hasAuthorization(r)
}

// noteSize learns from an answer whether its target is to be sliced: it is larger than
// an entry, could be stored and shared but for that, its origin sends ranges, and a
// strong validator tells its versions apart.
func (c *Cache) noteSize(r *http.Request, a *reply, found *Result, v *verdict) {
	length := c.sliceLength(found.Policy)
	if length == 0 || r.Method != http.MethodGet || a.entry != nil {
		return
	}
	size := a.length
	switch {
	case a.status == http.StatusPartialContent:
		_, size, _ = parseContentRange(a.header["Content-Range"])
	case a.status != http.StatusOK || !acceptsRanges(a.header):
		return
	}
	e := v.entry
	if v.why == whyTooLarge {
		e, _ = newEntry(r, a.answer, responseDirectives(a.header))
		if _, selectable := varyNames(a.header); !selectable {
			return
		}
	} else if !v.store {
		return
	}
	if size > c.config.MaxObject && strongValidator(a.header) != "" && shareable(e) && c.store.fits(length+e.headerSize()) {
		c.larges.learn(found.target.hash, size)
		c.overtake(&found.target, e)
		if old := found.Entry; old != nil && old.part == nil { // it would stand before the slices
			c.outdate(&found.target, old)
		}
	}
}

// whyTooLarge says that an answer is larger than what is stored as one entry.
const whyTooLarge = "too-large"

// acceptsRanges reports whether a server says that it sends ranges of bytes (RFC 9110
// section 14.3).
func acceptsRanges(h http.Header) (ok bool) {
	members(h["Accept-Ranges"], func(m string) bool {
		ok = strings.EqualFold(m, "bytes")
		return !ok
	})
	return ok
}

// storableSlice says whether an answer may be stored under the key of a slice: nothing
// else than a slice, or the part that its server confirms.
func storableSlice(r *http.Request, a *reply) bool {
	if a.entry != nil {
		return a.entry.part != nil
	}
	s, size, ok := parseContentRange(a.header["Content-Range"])
	asked, _ := parseRanges(r.Header["Range"])
	return a.status == http.StatusPartialContent && ok && slices.Equal(resolve(asked, size), []span{s}) &&
		strongValidator(a.header) != ""
}
