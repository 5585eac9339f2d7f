package bpf

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
)

// topSize is how many sources a Top follows. Whoever sends more than one packet of a
// hundred samples is among them.
const topSize = 100

// A Top finds the sources that most samples are of, in bounded memory (Metwally et
// al., Space-Saving, 2005). The zero Top is empty. It is for one goroutine.
type Top struct {
	counts map[netip.Addr]TopSource
}

// A TopSource is a source and how many samples are of it.
type TopSource struct {
	// Addr is an IPv4 address, or the first of a /56.
	Addr netip.Addr
	// Samples is at most that many, and Over less at least.
	Samples, Over uint64
}

// Add counts a sample.
func (t *Top) Add(s Sample) {
	if !s.Source.IsValid() {
		return
	}
	addr := s.Source.Addr().Unmap()
	if addr.Is6() {
		b := addr.As16()
		clear(b[7:])
		addr = netip.AddrFrom16(b)
	}
	if t.counts == nil {
		t.counts = map[netip.Addr]TopSource{}
	}
	c, found := t.counts[addr]
	if !found && len(t.counts) >= topSize {
		least := t.least()
		delete(t.counts, least.Addr)
		c = TopSource{Samples: least.Samples, Over: least.Samples}
	}
	c.Addr = addr
	c.Samples++
	t.counts[addr] = c
}

func (t *Top) least() TopSource {
	least := TopSource{Samples: math.MaxUint64}
	for _, c := range t.counts {
		if byCount(c, least) < 0 {
			least = c
		}
	}
	return least
}

// Sources returns at most n sources, those with most samples first.
func (t *Top) Sources(n int) []TopSource {
	all := slices.SortedFunc(maps.Values(t.counts), func(a, b TopSource) int { return byCount(b, a) })
	return all[:min(n, len(all))]
}

// byCount orders sources with equal counts by address, so that the order is one.
func byCount(a, b TopSource) int {
	return cmp.Or(cmp.Compare(a.Samples, b.Samples), b.Addr.Compare(a.Addr))
}
