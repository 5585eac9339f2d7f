package edge

import (
	"sync"
	"testing"

	"github.com/quic-go/quic-go"
)

func TestCIDs(t *testing.T) {
	for _, length := range []int{1, 4, cidLength, 12, maxCIDLength} {
		g, err := newCIDs(length)
		if err != nil {
			t.Fatal(err)
		}
		id, err := g.GenerateConnectionID()
		if err != nil || id.Len() != length || g.ConnectionIDLen() != length {
			t.Errorf("length %d: got %d, %v", length, id.Len(), err)
		}
	}
	for _, length := range []int{-1, 0, maxCIDLength + 1} {
		if _, err := newCIDs(length); err == nil {
			t.Errorf("length %d: no error", length)
		}
	}
}

// No two connections may get one ID, whichever goroutines ask for them.
func TestCIDsAreUnique(t *testing.T) {
	g, err := newCIDs(cidLength)
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu   sync.Mutex
		seen = map[quic.ConnectionID]bool{}
		wg   sync.WaitGroup
	)
	for range 4 {
		wg.Go(func() {
			for range 10_000 {
				id, _ := g.GenerateConnectionID()
				mu.Lock()
				if seen[id] {
					t.Errorf("%s came twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func BenchmarkCID(b *testing.B) {
	g, err := newCIDs(cidLength)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		g.GenerateConnectionID()
	}
}
