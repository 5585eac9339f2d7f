package cache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Look is what an operator sees of an entry.
type Look struct {
	URL    string `json:"url"`
	Status int    `json:"status"`
	// Tier is where the entry is kept.
	Tier  string `json:"tier"`
	Bytes int64  `json:"bytes"` // of the body
	// Whole is the size of the body of which the entry holds a part, -1 when unknown;
	// zero for an entry that is whole.
	Whole int64 `json:"whole_bytes,omitempty"`
	// Offset is where a slice of a large object begins.
	Offset int64   `json:"offset_bytes,omitempty"`
	Age    float64 `json:"age_seconds"`
	TTL    float64 `json:"ttl_seconds"`      // below zero, since when it is not fresh
	Soft   bool    `json:"purged,omitempty"` // softly purged: it is validated before it answers
	// Coding is the content coding of the body, as the entry says it.
	Coding string `json:"coding,omitempty"`
	// Vary are the fields that the request must have, as "name: value"; without a
	// value, must not have. Values of cookies and Authorization are not told.
	Vary []string `json:"vary,omitempty"`
	// Query is the policy's rule for queries by which the entry was stored.
	Query  string   `json:"query_rule,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// The names of the tiers.
const (
	tierMemory = "memory"
	tierDisk   = "disk"
)

// lookAt describes an entry.
func lookAt(t *target, e *Entry, now time.Time) Look {
	l := Look{
		URL: t.url(), Status: e.status, Tier: tierMemory, Bytes: int64(len(e.body)),
		Age: e.Age(now).Seconds(), TTL: e.TTL(now).Seconds(), Soft: e.purged, Coding: first(e.header, "Content-Encoding"),
	}
	if e.part != nil {
		l.Whole = e.part.size
		if t.sliced() {
			l.Offset = e.part.spans[0].first
		}
	}
	for _, f := range e.vary {
		name := strings.TrimPrefix(f.name, string(partMark))
		rule, isRule := strings.CutPrefix(f.name, queryPart)
		switch {
		case isRule: // nothing that a request has
			l.Query = rule
		case !f.present:
			l.Vary = append(l.Vary, name)
		case f.name == "Cookie", f.name == "Authorization", strings.HasPrefix(f.name, cookiePart): // a visitor's secret, and none of the operator's
			l.Vary = append(l.Vary, name+": (hidden)")
		default:
			l.Vary = append(l.Vary, name+": "+f.value)
		}
	}
	l.Tags, _ = readTags(e.header)
	l.Groups, _ = readGroups(e.header["Cache-Groups"])
	return l
}

func (t *target) url() string {
	u := t.scheme + "://" + t.host + t.path
	if t.hasQuery {
		u += "?" + t.unsliced()
	}
	return u
}

// Look describes the entry that was found, or returns nil.
func (r *Result) Look(now time.Time) *Look {
	if r.Entry == nil {
		return nil
	}
	l := lookAt(&r.target, r.Entry, now)
	if r.recoded != nil { // everything else is decided by the entry
		l.Bytes, l.Coding = int64(len(r.recoded.body)), first(r.recoded.header, "Content-Encoding")
	}
	if r.onDisk {
		l.Tier = tierDisk
	}
	return &l
}

// errCursor is the error of a page that continues nothing.
var errCursor = errors.New("the cursor is none that a list has returned")

// stepsPerEntry bounds how many entries are looked at for one that is named, on one
// page. Not a knob.
const stepsPerEntry = 16

// kept is what a list has found, to be described when the lock is given back: all but
// the bytes of the body, which is not pinned.
type kept struct {
	target target
	entry  *Entry
}

// List describes what a selection names, a page of at most limit entries at a time:
// a page may hold fewer, or none, and still not be the last. next continues the
// list; it is empty at the end. Entries that come and go meanwhile may be missing
// or told twice. What is on the disk alone is found by its URL only. Its error says
// that the cursor is none.
func (c *Cache) List(s Selection, cursor string, limit int, now time.Time) (page []Look, next string, err error) {
	shard, at, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	var found []kept
	if s.kind == KindURL {
		for _, key := range c.keys(s.policy, &s.target) {
			found = append(found, c.store.variants(&key)...)
			for _, to := range forms {
				made := key.in(to)
				found = append(found, c.store.variants(&made)...)
			}
			found = append(found, c.slicesOf(&key)...)
		}
	} else {
		limit = max(limit, 1)
		steps, more := limit*stepsPerEntry, false
		for ; shard < len(c.store.shards); shard, at = shard+1, 0 {
			if found, at, more = c.store.shards[shard].list(&s, found, limit, &steps, at); more {
				next = fmt.Sprintf("%d.%d", shard, at)
				break
			}
		}
	}
	for i := range found {
		page = append(page, lookAt(&found[i].target, found[i].entry, now))
	}
	if s.kind == KindURL {
		page = append(page, c.lookOnDisk(&s, found, now)...)
	}
	return page, next, nil
}

// parseCursor reads a shard, and the link that the last page ended with.
func parseCursor(cursor string) (shard int, at uint32, err error) {
	if cursor == "" {
		return 0, 0, nil
	}
	first, second, _ := strings.Cut(cursor, ".")
	s, wrong := strconv.ParseUint(first, 10, 16)
	l, alsoWrong := strconv.ParseUint(second, 10, 32)
	if wrong != nil || alsoWrong != nil {
		return 0, 0, errCursor
	}
	return int(s), uint32(l), nil
}

// list adds what a selection names in a shard, behind a link, and returns the link
// that it came to, and whether there is more.
func (sh *shard) list(s *Selection, found []kept, limit int, steps *int, from uint32) (_ []kept, at uint32, more bool) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for at = from; ; {
		i, next, ok := sh.keyed.after(s.key, at)
		if !ok || len(found) == limit || *steps == 0 {
			return found, at, ok
		}
		at, *steps = next, *steps-1
		if t := sh.key(i); s.names(&t) {
			found = append(found, kept{t, sh.entry(i)})
		}
	}
}

// variants returns all entries of a key.
func (s *store) variants(t *target) (found []kept) {
	sh := s.shard(t.hash)
	if sh == nil {
		return nil
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for _, e := range sh.variants(t) {
		found = append(found, kept{*t, e})
	}
	return found
}
