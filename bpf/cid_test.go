package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestConnectionIDs(t *testing.T) {
	for form, server := range servers {
		ids := testIDs(t, server)
		seen := map[string]bool{}
		for slot := range Slots {
			id := ids.New(slot)
			if len(id) != ids.Len() || len(id) != 12+len(server) {
				t.Fatalf("%s: %d bytes", form, len(id))
			}
			if got, own := ids.Slot(id); !own || got != slot {
				t.Errorf("%s: slot %d became %d, %v", form, slot, got, own)
			}
			if !bytes.Equal(id[1:1+len(server)], server) {
				t.Errorf("%s: the balancer sees %x", form, id)
			}
			// QUIC-LB: 7 is no configuration, 0 is the first.
			if rotation := id[0] >> 5; len(server) == 0 && rotation != 7 || len(server) > 0 && rotation != 0 {
				t.Errorf("%s: configuration %d", form, rotation)
			}
			if seen[string(id)] {
				t.Errorf("%s: made twice", form)
			}
			seen[string(id)] = true
			for bit := 8; bit < 8*cidTail; bit++ {
				changed := bytes.Clone(id)
				changed[len(server)+bit/8] ^= 1 << (bit % 8)
				if _, own := ids.Slot(changed); own {
					t.Errorf("%s: believed with bit %d of the tail changed", form, bit)
				}
			}
			for length := range id {
				if _, own := ids.Slot(id[:length]); own {
					t.Errorf("%s: believed %d bytes of it", form, length)
				}
			}
		}
	}
	if _, err := NewConnectionIDs(make([]byte, 9), testKeys); err == nil {
		t.Error("a server ID of 9 bytes was accepted")
	}
}

// TestKeysChange changes one key after the other: what was made before is believed
// until its own key goes.
func TestKeysChange(t *testing.T) {
	ids := testIDs(t, nil)
	old := ids.New(7)
	keys := testKeys
	keys[1] = [16]byte{99}
	ids.SetKeys(keys, 1)
	next := ids.New(8)
	if next[1]>>7 != 1 {
		t.Errorf("made by the old key: %x", next)
	}
	believed := func(id []byte) bool {
		_, own := ids.Slot(id)
		return own
	}
	if !believed(old) || !believed(next) {
		t.Error("not believed after the first change")
	}
	keys[0] = [16]byte{98}
	ids.SetKeys(keys, 1)
	if believed(old) || !believed(next) {
		t.Error("the old key is still believed, or the new one is not")
	}
}

// TestSiphash compares with CPython 3.11, whose hash of bytes it is, under a key of
// zeros.
func TestSiphash(t *testing.T) {
	for word, want := range map[string]uint64{
		"7 bytes":                      0x015b3b18fa1e4af4,
		"\x00\x00\x00\x00\x00\x00\x00": 0x897ea795b1b7b7ac,
		"\x00\x01\x02\x03\x04\x05\x06": 0x2f098ab0c751325a,
	} {
		if got := siphash([2]uint64{}, binary.LittleEndian.Uint64([]byte(word+"\x00"))); got != want {
			t.Errorf("%q: %#x, want %#x", word, got, want)
		}
	}
}
