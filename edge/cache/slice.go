package cache

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"time"
)

// An object that is larger than what is stored as one entry is stored in slices:
// parts of one length, aligned to it, each an entry of its own under the target and its
// offset. A slice is fetched, shared, stored, validated, purged and evicted as any
// answer is. Answers are put together of the slices of one version: of one strong
// validator and one size (RFC 9110 section 15.3.7.3).

// sliceMark begins the queries of the keys of slices. No query that is sent begins so.
const sliceMark = "\x01"

// sliceHead is the length of what precedes the target's own query: the mark and the
// offset.
const sliceHead = len(sliceMark) + 8

// SliceLeast is the shortest slice that a policy may ask for. Shorter ones would cost
// the origin a request for a blink of reading.
const SliceLeast = 16 << 10

// CheckSlice says why slices cannot have a length, or nil.
func CheckSlice(length int64) error {
	if length != 0 && length < SliceLeast {
		return fmt.Errorf("a slice of %d bytes is shorter than %d", length, SliceLeast)
	}
	return nil
}

// A slicing is how the answer to one request is put together.
type slicing struct {
	target target // of the object
	length int64  // of a slice; the last one may be shorter
	size   int64  // of the object, as far as is known
	some   bool   // one of its slices is stored
}

// sliceTarget is the key of the slice that begins at an offset. It asks now: a purge
// since the object's first slice was asked for says nothing about those that follow.
func (c *Cache) sliceTarget(t *target, offset int64) target {
	s := *t
	s.varied, s.sent, s.sentQuery = false, "", false
	s.query = sliceMark + serialText(uint64(offset)) + t.query
	return c.hashed(s)
}

// sliced reports whether the target is that of a slice.
func (t *target) sliced() bool {
	return len(t.query) >= sliceHead && t.query[:len(sliceMark)] == sliceMark
}

// unsliced is the query of the object.
func (t *target) unsliced() string {
	if t.sliced() {
		return t.query[sliceHead:]
	}
	return t.query
}

// slicesKey is the key of the inverted index that all slices of the target have.
func (t *target) slicesKey() uint64 {
	query := t.unsliced()
	if t.hasQuery {
		query = "?" + query // an empty query is not none
	}
	return keyOf(sliceKey, t.scheme, t.host, t.path, query)
}

// purgeSlices purges what is stored of a target in slices, as purgeTarget does the
// rest.
func (c *Cache) purgeSlices(t *target, soft bool, now time.Time) (entries int) {
	if !c.larges.any.Load() {
		return 0
	}
	s := Selection{kind: KindURL, key: t.slicesKey()}
	c.purges.begin(s.key)
	for i := range c.store.shards {
		entries += c.store.shards[i].sweep(&s, soft, now)
	}
	return entries
}

// slicesOf lists what is stored of a target in slices.
func (c *Cache) slicesOf(t *target) (found []kept) {
	if !c.larges.any.Load() {
		return nil
	}
	s := Selection{kind: KindURL, key: t.slicesKey()}
	for i := range c.store.shards {
		steps := maxSlicesListed - len(found)
		found, _, _ = c.store.shards[i].list(&s, found, maxSlicesListed, &steps, 0)
	}
	return found
}

// maxSlicesListed bounds the slices that are listed of one URL. Not a knob.
const maxSlicesListed = 4096

// sliceLength is that of the slices of a policy's routes, zero for none.
func (c *Cache) sliceLength(p *Policy) int64 {
	if p == nil || len(c.store.shards) == 0 {
		return 0
	}
	return min(p.slice, c.config.MaxObject)
}

// inSlices looks for the answer in slices when nothing else answers r. It returns the
// entry that does alone, pinned, with its key in res: a slice that has all that is asked
// for, or one that tells that there is nothing to send. Where several are needed and all
// are there, res.State is FreshSlices.
func (c *Cache) inSlices(r *http.Request, now time.Time, res *Result) *Entry {
	length := c.sliceLength(res.Policy)
	if length == 0 || res.control.noStore || !c.larges.any.Load() {
		return nil
	}
	size, ok := c.larges.sizeOf(res.target.hash, now)
	if !ok {
		return nil
	}
	s := &slicing{target: res.target, length: length, size: size}
	spans, _ := s.plan(r, nil)
	var version *Entry
	whole := true
	for offset := range s.offsets(spans) {
		key := c.sliceTarget(&s.target, offset)
		e, _ := c.usable(&key, r, res.Policy)
		if e == nil {
			whole = false
			break
		}
		s.some = true
		fresh := e.satisfies(&res.control, now)
		if version == nil {
			if alone := s.alone(e, r, fresh); alone != nil {
				res.target = key
				res.slices = s.unless(r.Method == http.MethodHead)
				return alone
			}
			version = e
		}
		whole = fresh && e.has(s.at(offset)) && e.size() == s.size && (e == version || e.sameAs(version.header)) &&
			(len(r.Header["Range"]) == 0 || ifRange(r.Header["If-Range"], e.header))
		e.release() // its header is the garbage collector's
		if !whole {
			break
		}
	}
	// Of several ranges each may lie in another slice: a visitor could have a slice
	// fetched for a byte, many times in one request. Such a request is passed on.
	res.slices = s.unless(r.Method == http.MethodHead || len(spans) > 1 && !whole)
	if whole && res.slices != nil {
		res.State = FreshSlices
	}
	return nil
}

// unless returns the slicing, or nil for what is not put together.
func (s *slicing) unless(not bool) *slicing {
	if not {
		return nil
	}
	return s
}

// alone returns what a slice says to r without any other, or nil.
func (s *slicing) alone(e *Entry, r *http.Request, fresh bool) *Entry {
	switch {
	case e.part == nil || e.size() < 0:
		return nil
	case fresh && (r.Method == http.MethodHead || e.NotModified(r)):
		head := *e
		head.header = maps.Clone(e.header)
		head.header["Content-Length"] = []string{fmt.Sprint(e.size())}
		head.body, head.part = nil, nil
		return &head
	case r.Method == http.MethodHead:
		return nil
	case e.holds(r):
		return e
	}
	if x, ok := e.Excerpt(r); ok && fresh && len(x.spans) == 0 {
		return e // 416
	}
	return nil
}

// has reports whether all bytes of a span are there.
func (e *Entry) has(s span) bool { return e.part != nil && e.part.covers(s) }

// plan returns the spans that answer r, in their order: the whole, those that Range
// names, or none for 416. Only with h, the header of the version that answers, If-Range is
// evaluated; before, it is taken to hold.
func (s *slicing) plan(r *http.Request, h http.Header) (spans []span, ranged bool) {
	whole := []span{{0, s.size}}
	if len(r.Header["Range"]) == 0 || r.Method != http.MethodGet || h != nil && !ifRange(r.Header["If-Range"], h) {
		return whole, false
	}
	ranges, ok := parseRanges(r.Header["Range"])
	if !ok {
		return whole, false
	}
	return resolve(ranges, s.size), true
}

// offsets are those of the slices that spans lie in, in the order in which they are
// sent. Where nothing is sent it is the first slice, which tells that.
func (s *slicing) offsets(spans []span) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		if len(spans) == 0 {
			yield(0)
			return
		}
		for _, sp := range spans {
			for offset := s.start(sp.first); offset < sp.end; offset += s.length {
				if !yield(offset) {
					return
				}
			}
		}
	}
}

// start is the offset of the slice that a byte is in.
func (s *slicing) start(at int64) int64 { return at - at%s.length }

// at is the span of the slice that begins at an offset.
func (s *slicing) at(offset int64) span { return span{offset, min(offset+s.length, s.size)} }

// request is the one for a slice. The conditions and the range of r are for its own
// answer. There is no If-Range: if the object has changed, the origin would send all of
// it, and the slice of the new version is what the next visitor needs.
func (s *slicing) request(r *http.Request, offset int64) *http.Request {
	out := new(http.Request)
	*out = *r
	out.Header = maps.Clone(r.Header)
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "If-Range"} {
		delete(out.Header, name)
	}
	out.Header["Range"] = []string{fmt.Sprintf("bytes=%d-%d", offset, offset+s.length-1)}
	return out
}

// begun reports whether a slice of the object is stored.
func (s *slicing) begun() bool { return s != nil && s.some }

// open opens the slice of an offset for a part of the request r: out of the
// store, or by a fetch that collapses with all others for it.
func (a *assembly) open(ctx context.Context, offset int64) (*piece, error) {
	c := a.cache
	found := Result{State: Miss, Why: FwdURIMiss, Policy: a.found.Policy, control: a.found.control}
	found.target = c.sliceTarget(&a.target, offset)
	r, now := a.request(a.r, offset), time.Now()
	defer found.Release()
	found.Entry, _ = c.usable(&found.target, r, found.Policy)
	if e := found.Entry; e != nil && !e.holds(r) {
		found.Release()
	} else if e != nil && e.satisfies(&found.control, now) {
		found.Entry = nil // the piece releases it
		e.touch()
		c.counts.slices.stored.Add(1)
		return a.stored(e, offset, now), nil
	} else if e != nil {
		found.State, found.Why = Stale, FwdStale
	}
	if found.control.onlyIfCached {
		found.State = Unavailable
	}
	resp, err := c.Fetch(ctx, r, found, a.fetch)
	if e := found.Entry; err != nil && a.mayBeStale && e != nil && e.staleIfError(now, r) {
		found.Entry = nil
		return a.stored(e, offset, now), nil // RFC 5861 section 4
	}
	if err != nil {
		return nil, err
	}
	if resp.Joined {
		c.counts.slices.joined.Add(1)
	} else {
		c.counts.slices.fetched.Add(1)
	}
	return a.fetched(resp, offset), nil
}
