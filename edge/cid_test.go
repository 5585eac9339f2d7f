package edge

import (
	"testing"

	"spillway/bpf"
)

// testSteering returns that of a node without a kernel that steers.
func testSteering(t testing.TB) Steering {
	t.Helper()
	ids, err := bpf.NewConnectionIDs(nil, bpf.Keys{{1}, {2}})
	if err != nil {
		t.Fatal(err)
	}
	return Steering{IDs: ids}
}

// Each socket of both generations has a slot of its own, and its connection IDs name
// it.
func TestConnectionIDsNameTheirSocket(t *testing.T) {
	seen := map[int]bool{}
	for generation := range 2 {
		for i := range generationSlots {
			s := testSteering(t)
			s.Generation = generation
			g := socketIDs{s.IDs, s.slot(i)}
			id, err := g.GenerateConnectionID()
			if err != nil || id.Len() != g.ConnectionIDLen() {
				t.Fatalf("%s of %d bytes, want %d; error %v", id, id.Len(), g.ConnectionIDLen(), err)
			}
			slot, ours := s.IDs.Slot(id.Bytes())
			if !ours || slot != s.slot(i) || seen[slot] {
				t.Errorf("socket %d of generation %d: slot %d, %v", i, generation, slot, ours)
			}
			seen[slot] = true
		}
	}
}
