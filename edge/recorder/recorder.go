// Package recorder keeps the last minute of decisions: what became of each request
// that the cache did not answer, and by which steps. When requests begin to be shed
// it writes that minute into a file, so that an operator who comes later sees how it
// came to it.
//
// Memory is bounded: a second holds so many entries, and when more requests come
// each of them has the same chance to be among those that are kept (Vitter, Random
// Sampling with a Reservoir, 1985). How many there were is counted. Hits are counted
// and not kept: they are most of a crowd, and there is nothing to explain.
//
// It fails towards the visitors: what cannot be written is told once in the log and
// kept by nobody. It does not know what a request is, and takes no decision.
package recorder

import (
	"cmp"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	// keep is the time that is kept, in seconds.
	keep = 60
	// PerSecond is how many entries of a second are kept: at about 600 bytes each, a
	// minute of a crowd takes 18 MiB. Not a knob: it shows what happened, and the
	// metrics how often.
	PerSecond = 512
)

// A Recorder keeps entries. It is safe for concurrent use; New starts nothing.
type Recorder struct {
	shards []shard
	each   int // entries of a second in a shard
	files  files

	mu   sync.Mutex
	hits [keep]hits
}

type shard struct {
	mu    sync.Mutex
	slots [keep]slot
	_     [64]byte // shards do not share a cache line
}

// A slot holds a second.
type slot struct {
	second  int64
	seen    uint64
	entries []Entry
}

type hits struct {
	second int64
	n      uint64
}

// New returns a recorder that writes its files as c says.
func New(c Config) *Recorder {
	shards := runtime.GOMAXPROCS(0)
	return &Recorder{shards: make([]shard, shards), each: max(1, PerSecond/shards), files: newFiles(c)}
}

// Add keeps a copy of the entry of a request that has ended now, or one of the
// others of this second instead.
func (r *Recorder) Add(e *Entry, now time.Time) {
	s, second := &r.shards[rand.IntN(len(r.shards))], now.Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := &s.slots[second%keep]
	if sl.second != second {
		sl.begin(second)
	}
	sl.seen++
	if len(sl.entries) < r.each {
		sl.entries = append(sl.entries, *e)
	} else if i := rand.Uint64N(sl.seen); i < uint64(r.each) {
		sl.entries[i] = *e
	}
}

// begin forgets the second of a minute ago. The memory of a crowd that is over is
// given back.
func (sl *slot) begin(second int64) {
	if sl.seen < uint64(cap(sl.entries)/4) {
		sl.entries = nil
	}
	sl.second, sl.seen, sl.entries = second, 0, sl.entries[:0]
}

// forget gives back the memory of seconds that are over for more than a minute, in
// whose place nothing came.
func (r *Recorder) forget(now time.Time) {
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for j := range sh.slots {
			if sh.slots[j].second < now.Unix()-keep {
				sh.slots[j].entries = nil
			}
		}
		sh.mu.Unlock()
	}
}

// addHits counts answers out of the cache in the second that ends now.
func (r *Recorder) addHits(n uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	second := now.Unix()
	h := &r.hits[second%keep]
	if h.second != second {
		*h = hits{second: second}
	}
	h.n += n
}

// A Second says how much of a second was kept.
type Second struct {
	At   time.Time `json:"at"`
	Seen uint64    `json:"seen"` // requests that the cache did not answer
	Kept int       `json:"kept"` // of them; the others are no less likely to be like these
	Hits uint64    `json:"hits"`
}

// Last returns what is kept of the minute that ends now: the seconds in which
// anything happened, and the entries, by the time when the requests came.
func (r *Recorder) Last(now time.Time) ([]Second, []Entry) {
	var seconds [keep]Second
	var all []Entry
	// A clock that was set back leaves seconds that are still to come.
	within := func(second int64) bool { return now.Unix()-keep < second && second <= now.Unix() }
	note := func(second int64) *Second {
		s := &seconds[second%keep]
		s.At = time.Unix(second, 0).UTC()
		return s
	}
	for i := range r.shards {
		sh := &r.shards[i]
		for j := range sh.slots {
			sh.mu.Lock() // for a second at a time, so that nobody waits for the copy of a minute
			if sl := &sh.slots[j]; within(sl.second) {
				s := note(sl.second)
				s.Seen += sl.seen
				s.Kept += len(sl.entries)
				all = append(all, sl.entries...)
			}
			sh.mu.Unlock()
		}
	}
	r.mu.Lock()
	for _, h := range r.hits {
		if within(h.second) && h.n > 0 {
			note(h.second).Hits = h.n
		}
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b Entry) int { return a.At.Compare(b.At) })
	known := slices.DeleteFunc(seconds[:], func(s Second) bool { return s.At.IsZero() })
	slices.SortFunc(known, func(a, b Second) int { return cmp.Compare(a.At.Unix(), b.At.Unix()) })
	return known, all
}

// Find returns the newest entry of a request, if it was kept.
func (r *Recorder) Find(id string, now time.Time) (found Entry, ok bool) {
	oldest := now.Unix() - keep
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for j := range sh.slots {
			if sh.slots[j].second <= oldest {
				continue
			}
			for k := range sh.slots[j].entries {
				if e := &sh.slots[j].entries[k]; e.ID == id && (!ok || e.At.After(found.At)) {
					found, ok = *e, true
				}
			}
		}
		sh.mu.Unlock()
	}
	return found, ok
}
