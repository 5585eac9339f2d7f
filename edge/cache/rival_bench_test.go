package cache

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"
)

// The hit ratio of a crowd, Zipf 0.9 over half a million objects, with room for a
// twentieth of them, beside caches of others. A scan asks for twice the room, once
// each, after every hundred thousand requests; its requests do not count.
const (
	ratioKeys     = 500_000
	ratioRoom     = ratioKeys / 20
	ratioRequests = 3_000_000
	scanEvery     = 100_000
	scanKeys      = 2 * ratioRoom
)

// zipf returns requests for keys below n, the first most often.
func zipf(n, requests int, exponent float64) []uint32 {
	sums, sum := make([]float64, n), 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -exponent)
		sums[i] = sum
	}
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([]uint32, requests)
	for i := range all {
		k, _ := slices.BinarySearch(sums, rng.Float64()*sum)
		all[i] = uint32(k)
	}
	return all
}

// ratio is the share of hits. ask returns whether a key was there, and stores it
// if not.
func ratio(requests []uint32, scans bool, ask func(key int) bool) float64 {
	hits, scanned := 0, ratioKeys
	for i, key := range requests {
		if ask(int(key)) {
			hits++
		}
		if scans && i%scanEvery == scanEvery-1 {
			for range scanKeys {
				ask(scanned)
				scanned++
			}
		}
	}
	return float64(hits) / float64(len(requests))
}

// roomFor is the memory that holds n objects of the load, all told.
func roomFor(b *testing.B, n int) int64 {
	const trial = 64 << 20
	l := newLoad(b, trial, 2*trial/1024, 1024)
	for i := range l.keys {
		l.set(i)
	}
	entries := int64(0)
	for i := range l.store.shards {
		entries += l.store.shards[i].entries.Load()
	}
	return int64(n) * trial / entries
}

func BenchmarkHitRatio(b *testing.B) {
	requests := zipf(ratioKeys, ratioRequests, 0.9)
	scanned := ratioRequests / scanEvery * scanKeys
	f := func(name string, newAsk func(b *testing.B) func(key int) bool) {
		for _, scans := range []bool{false, true} {
			title := name
			if scans {
				title += "/scans"
			}
			b.Run(title, func(b *testing.B) {
				for b.Loop() {
					b.ReportMetric(ratio(requests, scans, newAsk(b)), "hits/request")
				}
			})
		}
	}
	f("spillway", func(b *testing.B) func(int) bool {
		l := newLoad(b, roomFor(b, ratioRoom), ratioKeys+scanned, 1024)
		return func(key int) bool { return l.get(key) || !l.set(key) }
	})
	f("otter", func(b *testing.B) func(int) bool {
		c, err := otter.New(&otter.Options[int, int]{MaximumSize: ratioRoom})
		if err != nil {
			b.Fatal(err)
		}
		return func(key int) bool {
			_, ok := c.GetIfPresent(key)
			if !ok {
				c.Set(key, key)
			}
			return ok
		}
	})
	f("lru", func(b *testing.B) func(int) bool {
		c, err := lru.New[int, int](ratioRoom)
		if err != nil {
			b.Fatal(err)
		}
		return func(key int) bool {
			_, ok := c.Get(key)
			if !ok {
				c.Add(key, key)
			}
			return ok
		}
	})
}
