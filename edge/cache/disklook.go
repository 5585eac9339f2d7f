package cache

import (
	"net/http"
	"slices"
	"time"

	"spillway/edge/cache/disk"
)

// A DiskState is a snapshot of the tier on the disk.
type DiskState struct {
	disk.State
	// Recalled are the requests for which an entry came from the disk, Unfound those
	// for which none of what there was would do, Late those that could not wait for it.
	Recalled uint64 `json:"recalled"`
	Unfound  uint64 `json:"unfound"`
	Late     uint64 `json:"late"`
	// Read are the bytes of bodies that were brought into memory.
	Read uint64 `json:"read_bytes"`
}

func (c *Cache) diskState() *DiskState {
	if c.disk == nil {
		return nil
	}
	rs := &c.recalls
	return &DiskState{
		State: c.disk.State(), Recalled: rs.hits.Load(), Unfound: rs.misses.Load(), Late: rs.late.Load(), Read: rs.bytes.Load(),
	}
}

// peekDisk is recall without a trace: what it finds stays where it is.
func (c *Cache) peekDisk(r *http.Request, now time.Time, res *Result) {
	t := c.exact(&res.target)
	o, e := c.choose(&t, keysOnDisk(&t), r, res.Policy)
	if o == nil {
		return
	}
	defer o.Close()
	if !c.fills.take(o.Size()) {
		return
	}
	e.body, e.hold.lent, e.hold.size = make([]byte, o.Size()), &c.fills, o.Size()
	if _, err := o.ReadAt(e.body, 0); err != nil {
		e.release()
		return
	}
	res.target, res.onDisk = t, true
	c.settle(r, now, res, e, true)
}

// lookOnDisk describes the variants of a URL that are on the disk and not among those
// that memory has.
func (c *Cache) lookOnDisk(s *Selection, inMemory []kept, now time.Time) (all []Look) {
	if c.disk == nil {
		return nil
	}
	for _, key := range c.keys(s.policy, &s.target) {
		if key.varied {
			continue
		}
		c.objects(&key, keysOnDisk(&key), func(o *disk.Object, e *Entry) bool {
			if !slices.ContainsFunc(inMemory, func(k kept) bool {
				return k.target.equal(&key) && variantPlace(k.entry) == variantPlace(e)
			}) {
				l := lookAt(&key, e, now)
				l.Tier, l.Bytes = tierDisk, o.Size()
				all = append(all, l)
			}
			return false
		})
	}
	return all
}
