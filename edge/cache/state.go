package cache

// A State is a snapshot for metrics.
type State struct {
	Bytes   int64 `json:"bytes"` // held by entries
	Limit   int64 `json:"limit"` // of Bytes
	Entries int64 `json:"entries"`
	// Pinned is the part of Bytes that is being sent. It cannot be evicted.
	Pinned int64 `json:"pinned"`
	// FillBytes are held by bodies in flight, FillLimit bounds them.
	FillBytes int64 `json:"fill_bytes"`
	FillLimit int64 `json:"fill_limit"`
	Flights   int64 `json:"flights"` // fetches that may be joined
	// Background are fetches that go on though nobody may wait for them.
	Background int64 `json:"background"`

	Hits        uint64 `json:"hits"`
	Stale       uint64 `json:"stale"`
	Misses      uint64 `json:"misses"`
	Bypassed    uint64 `json:"bypassed"`
	Collapsed   uint64 `json:"collapsed"`
	Stored      uint64 `json:"stored"`
	Evicted     uint64 `json:"evicted"`
	Uncacheable uint64 `json:"uncacheable"` // answers whose key was remembered as not to be shared
	Rejected    uint64 `json:"rejected"`    // requests that waited in vain, or could not wait
	// Renewed are the entries that were fetched anew while they answered, Unrenewed
	// those for which that failed; they are tried again.
	Renewed   uint64 `json:"renewed"`
	Unrenewed uint64 `json:"unrenewed"`

	// Recoded are the bodies that were encoded, by coding, or decoded, as identity.
	// Unrecoded are the answers that went out as they were because too many were being
	// encoded.
	Recoded   RecodedState `json:"recoded"`
	Unrecoded uint64       `json:"unrecoded"`

	Slices SliceState `json:"slices"`

	Purges      PurgeState `json:"purges"`
	Purged      uint64     `json:"purged"`       // entries, softly or for good
	TagsIgnored uint64     `json:"tags_ignored"` // tags and groups beyond what one response may have

	Disk *DiskState `json:"disk,omitempty"` // nil without one
}

// A SliceState counts the slices that answers about large objects were put together of.
type SliceState struct {
	Stored  uint64 `json:"stored"`  // that were there
	Joined  uint64 `json:"joined"`  // that others fetched at that time
	Fetched uint64 `json:"fetched"` // that were asked for
	// Changes are how often the slices of an object were found to be of two versions, and
	// forgotten.
	Changes uint64 `json:"changes"`
}

// A PurgeState counts purges by kind, whatever they found.
type PurgeState struct {
	URL    uint64 `json:"url"`
	Prefix uint64 `json:"prefix"`
	Tag    uint64 `json:"tag"`
	Group  uint64 `json:"group"`
	All    uint64 `json:"all"`
}

// A RecodedState counts bodies by the coding that they were brought into.
type RecodedState struct {
	Zstd     uint64 `json:"zstd"`
	Brotli   uint64 `json:"br"`
	Gzip     uint64 `json:"gzip"`
	Identity uint64 `json:"identity"`
}

// State returns a snapshot.
func (c *Cache) State() State {
	s := State{
		Limit: c.config.Memory, FillBytes: c.fills.used.Load(), FillLimit: c.fills.limit,
		Flights: c.flights.open.Load(),
		Stale:   c.counts.stale.Load(), Misses: c.counts.misses.Load(), Bypassed: c.counts.bypassed.Load(),
		Collapsed: c.counts.collapsed.Load(), Stored: c.counts.stored.Load(),
		Uncacheable: c.counts.uncacheable.Load(), Rejected: c.counts.rejected.Load(),
		Background: c.behind.used(), Renewed: c.counts.renewed.Load(), Unrenewed: c.counts.unrenewed.Load(),
	}
	s.Slices = SliceState{
		Stored: c.counts.slices.stored.Load(), Joined: c.counts.slices.joined.Load(),
		Fetched: c.counts.slices.fetched.Load(), Changes: c.counts.slices.changes.Load(),
	}
	s.Purges, s.Purged, s.TagsIgnored = c.counts.purges.state(), c.counts.purges.entries.Load(), c.store.ignored.Load()
	s.Recoded, s.Unrecoded = c.recodings.state(), c.recodings.refused.Load()
	for i := range c.counts.hits {
		s.Hits += c.counts.hits[i].Load()
	}
	s.Disk = c.diskState()
	for i := range c.store.shards {
		sh := &c.store.shards[i]
		s.Bytes += sh.bytes.Load()
		s.Entries += sh.entries.Load()
		s.Pinned += sh.pinned.Load()
		s.Evicted += sh.evicts.Load()
	}
	return s
}
