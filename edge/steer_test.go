package edge

import (
	"bytes"
	"crypto/rand"
	"testing"

	xbpf "golang.org/x/net/bpf"

	"spillway/bpf"
)

// The program of classic BPF sends connection IDs of both generations to their socket,
// whatever stands in front of the slot, and all else to the newer one.
func TestByGeneration(t *testing.T) {
	for _, server := range [][]byte{nil, {7}, []byte("8 bytes.")} {
		ids, err := bpf.NewConnectionIDs(server, bpf.Keys{{1}, {2}})
		if err != nil {
			t.Fatal(err)
		}
		for newest := range 2 {
			vm, err := xbpf.NewVM(byGeneration(ids, newest))
			if err != nil {
				t.Fatal(err)
			}
			f := func(what string, packet []byte, want int) {
				t.Helper()
				if got, err := vm.Run(packet); got != want || err != nil {
					t.Errorf("server ID %q, newest %d, %s: position %d, want %d; error %v", server, newest, what, got, want, err)
				}
			}
			for range 100 {
				for generation := range 2 {
					want := older
					if generation == newest {
						want = newer
					}
					id := ids.New(generation*generationSlots + 5)
					f("short header", append([]byte{0x40}, id...), want)
					f("Handshake", long(0xe0, id), want)
					f("Initial after a Retry", long(0xc0, id), want)
				}
				f("Initial of 8 bytes", long(0xc0, random(8)), newer)
				f("Initial of 20 bytes with a zero", long(0xc0, random(19)), newer)
				if server != nil {
					f("Initial of as many bytes", long(0xc0, random(ids.Len())), newer)
				}
				other := ids.New(0)
				other[len(server)+1] |= cidZero
				f("of another format", long(0xc0, other), newer)
			}
		}
	}
}

func long(first byte, id []byte) []byte {
	return append(append([]byte{first, 0, 0, 0, 1, byte(len(id))}, id...), make([]byte, 1200)...)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	if n > 4 {
		copy(b[1:], bytes.Repeat([]byte{0xff}, 3)) // no server ID of the test, and no zero bit
	}
	return b
}
