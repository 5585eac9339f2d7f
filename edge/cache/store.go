package cache

import (
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// maxVariants bounds the entries under one key. What Vary makes out of one URI
// is chosen by visitors; without a bound one URI could push out all others.
const maxVariants = 16

// A store keeps entries in memory, at most as many bytes as it is given. It is
// cut into shards, each with its own lock, index, policy and share of the bytes,
// so that the bound holds without any lock over all of them. Nothing outside of
// this file and policy.go knows how entries are kept.
type store struct {
	shards []shard // a power of two; none when the store is off
	shift  uint    // the hash's bits above it choose the shard
	// ignored counts the tags and groups that entries had too many of.
	ignored atomic.Uint64
}

type shard struct {
	mu    sync.RWMutex
	index map[uint64]*resource
	policy
	keyed  inverted[*slot] // by tags, groups and folders
	bytes  atomic.Int64    // written under mu
	slots  atomic.Int64    // the same
	evicts atomic.Uint64
	_      [64]byte // keeps neighbours off this cache line
}

// A resource is a key with its variants, the newest first. Two keys with the
// same 64-bit hash push each other out: with a secret seed that happens by
// accident only, once in ages.
type resource struct {
	target   target
	variants []*slot
}

// A shard must have room for a few of the largest objects, else one of them
// would empty it.
const (
	maxShards       = 64
	objectsPerShard = 8
)

func newStore(memory, maxObject int64) *store {
	s := &store{}
	if memory <= 0 {
		return s
	}
	n, bits := 1, uint(0)
	for n < maxShards && memory/int64(2*n) >= objectsPerShard*maxObject {
		n, bits = 2*n, bits+1
	}
	s.shards, s.shift = make([]shard, n), 64-bits
	for i := range s.shards {
		s.shards[i].index = make(map[uint64]*resource)
		s.shards[i].policy = newPolicy(memory / int64(n))
		s.shards[i].keyed = newInverted[*slot]()
	}
	return s
}

// shard returns the shard of a hash, nil when the store is off.
func (s *store) shard(hash uint64) *shard {
	if len(s.shards) == 0 {
		return nil
	}
	return &s.shards[hash>>s.shift&uint64(len(s.shards)-1)]
}

// get returns the newest slot whose entry may answer r, and whether the key is
// known at all.
func (s *store) get(t *target, r *http.Request) (sl *slot, known bool) {
	sh := s.shard(t.hash)
	if sh == nil {
		return nil, false
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	res := sh.index[t.hash]
	if res == nil || !res.target.equal(t) {
		return nil, false
	}
	for _, sl := range res.variants {
		if sl.entry.mayAnswer(r) {
			return sl, true
		}
	}
	for _, sl := range res.variants {
		if sl.entry.suits(r) {
			return sl, true
		}
	}
	return nil, true
}

// vary returns the fields by which the newest response to a key was chosen.
func (s *store) vary(t *target) []nominated {
	sh := s.shard(t.hash)
	if sh == nil {
		return nil
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if res := sh.index[t.hash]; res != nil && res.target.equal(t) {
		return res.variants[0].entry.vary
	}
	return nil
}

// fits reports whether an entry of this size could ever be kept.
func (s *store) fits(bytes int64) bool {
	return len(s.shards) > 0 && bytes <= s.shards[0].quota
}

// put keeps an entry that answered r. It takes the place of the variants that
// would have answered r: they are out of date.
func (s *store) put(t *target, e *Entry, r *http.Request) bool {
	keys, ignored := entryKeys(t, e.header)
	size := e.bytes + t.size() + int64(len(keys))*keyBytes
	if !s.fits(size) {
		return false
	}
	sh := s.shard(t.hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	res := sh.index[t.hash]
	if res != nil && !res.target.equal(t) {
		sh.drop(res)
		res = nil
	}
	sl := &slot{entry: e, bytes: size}
	if res != nil {
		sh.replace(res, r, sl)
	}
	sh.makeRoom(size) // may drop what is left of the resource
	if res = sh.index[t.hash]; res == nil {
		res = &resource{target: t.clone()}
		sh.index[t.hash] = res
	}
	sl.owner = res
	res.variants = slices.Insert(res.variants, 0, sl)
	sh.policy.add(sl, t.hash)
	sl.chain = sh.keyed.add(sl, keys)
	s.ignored.Add(uint64(ignored))
	sh.bytes.Add(size)
	sh.slots.Add(1)
	return true
}

// replace removes the variants that the new one stands in for, which inherits
// their place in the policy, and the oldest beyond the bound.
func (sh *shard) replace(res *resource, r *http.Request, sl *slot) {
	for i := len(res.variants) - 1; i >= 0; i-- {
		old := res.variants[i]
		superseded := matches(old.entry.vary, r.Header)
		if superseded {
			sl.inherit(old)
		}
		if superseded || i >= maxVariants-1 {
			sh.remove(old)
		}
	}
}

// makeRoom evicts until size more bytes fit.
func (sh *shard) makeRoom(size int64) {
	for sh.bytes.Load()+size > sh.quota {
		victim := sh.policy.evict()
		sh.forget(victim)
		sh.evicts.Add(1)
	}
}

// remove takes a slot out of the policy and of the index.
func (sh *shard) remove(sl *slot) {
	sh.policy.unlink(sl)
	sh.forget(sl)
}

// forget takes a slot out of the index.
func (sh *shard) forget(sl *slot) {
	res := sl.owner
	i := slices.Index(res.variants, sl)
	res.variants = slices.Delete(res.variants, i, i+1)
	if len(res.variants) == 0 {
		delete(sh.index, res.target.hash)
	}
	sh.keyed.remove(sl.chain)
	sh.bytes.Add(-sl.bytes)
	sh.slots.Add(-1)
}

func (sh *shard) drop(res *resource) {
	for len(res.variants) > 0 {
		sh.remove(res.variants[0])
	}
}

// removeEntry forgets one variant, if it is still kept.
func (s *store) removeEntry(t *target, e *Entry) {
	sh := s.shard(t.hash)
	if sh == nil {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	res := sh.index[t.hash]
	if res == nil || !res.target.equal(t) {
		return
	}
	for _, sl := range res.variants {
		if sl.entry == e {
			sh.remove(sl)
			return
		}
	}
}
