package cache

import "time"

// marks remember keys whose responses may not be shared, so that requests for
// them do not wait for each other. They hold hashes and times only, in a table of
// fixed size that forgets the mark that ends first when a set is full. A
// collision costs a collapse, never correctness.
type marks [markSets][markWays]mark

// With 64 shards: 32768 marks, half a mebibyte.
const (
	markSets = 64
	markWays = 8
)

type mark struct {
	hash  uint64
	until int64 // nanoseconds since 1970
}

const (
	// uncacheableFor is how long a key stays marked, as in Varnish. Not a knob: a
	// response that may be shared removes the mark at once.
	uncacheableFor = 120 * time.Second
	// failingFor is the same for answers that say that the server cannot answer
	// now. They say nothing about the answer that will follow, and a crowd must
	// collapse again as soon as it comes.
	failingFor = time.Second
)

// markFor returns how long a key is marked for an answer that was not shared.
func markFor(status int) time.Duration {
	if failing(status) {
		return failingFor
	}
	return uncacheableFor
}

// failing reports whether a status says that the server cannot answer now.
func failing(status int) bool { return status >= 500 || status == 429 || status == 408 }

// holds reports whether the mark ends after a time. One that ends later than a
// mark may was made under a clock that was ahead.
func (k mark) holds(at int64) bool { return at < k.until && k.until-at <= int64(uncacheableFor) }

func (m *marks) set(hash uint64) *[markWays]mark { return &m[hash%markSets] }

func (m *marks) has(hash uint64, now time.Time) bool {
	for _, k := range m.set(hash) {
		if k.hash == hash && k.holds(now.UnixNano()) {
			return true
		}
	}
	return false
}

func (m *marks) add(hash uint64, until time.Time) {
	set := m.set(hash)
	victim := &set[0]
	for i := range set {
		if set[i].hash == hash {
			if !set[i].holds(until.UnixNano()) {
				set[i].until = until.UnixNano()
			}
			return
		}
		if set[i].until < victim.until {
			victim = &set[i]
		}
	}
	*victim = mark{hash, until.UnixNano()}
}

func (m *marks) remove(hash uint64) {
	set := m.set(hash)
	for i := range set {
		if set[i].hash == hash {
			set[i] = mark{}
		}
	}
}
