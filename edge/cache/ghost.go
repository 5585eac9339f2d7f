package cache

// A ghost table remembers the hashes of what the small queue let go. It is of
// fixed size and without pointers: sets of eight fingerprints, each a FIFO.
type ghost struct {
	sets [][ghostWays]uint32
}

const (
	ghostWays = 8
	// bytesPerGhost is the size of the entries that the table is made for. With
	// smaller ones it remembers a part of what it could.
	bytesPerGhost = 1 << 10
)

// ghostSets returns how many sets there are for so many bytes of entries.
func ghostSets(memory int64) (n int64) {
	for n = 1; n*ghostWays*bytesPerGhost < memory; {
		n *= 2
	}
	return n
}

func (g *ghost) set(hash uint64) (*[ghostWays]uint32, uint32) {
	return &g.sets[hash&uint64(len(g.sets)-1)], uint32(hash>>24) | 1 // never zero, the empty place
}

func (g *ghost) add(hash uint64) {
	set, fingerprint := g.set(hash)
	copy(set[1:], set[:])
	set[0] = fingerprint
}

// take reports whether the hash is remembered, and forgets it.
func (g *ghost) take(hash uint64) bool {
	set, fingerprint := g.set(hash)
	for i, f := range set {
		if f == fingerprint {
			copy(set[i:], set[i+1:])
			set[ghostWays-1] = 0
			return true
		}
	}
	return false
}

func (g *ghost) clear() { clear(g.sets) }
