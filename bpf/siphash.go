package bpf

import "math/bits"

// siphash returns SipHash-1-3 of the lower seven bytes of a word (Aumasson and
// Bernstein, 2012), as the programs compute it for the tags of connection IDs.
func siphash(key [2]uint64, word uint64) uint64 {
	a, b := key[0]^0x736f6d6570736575, key[1]^0x646f72616e646f6d
	c, d := key[0]^0x6c7967656e657261, key[1]^0x7465646279746573
	round := func() {
		a += b
		b = bits.RotateLeft64(b, 13) ^ a
		a = bits.RotateLeft64(a, 32)
		c += d
		d = bits.RotateLeft64(d, 16) ^ c
		a += d
		d = bits.RotateLeft64(d, 21) ^ a
		c += b
		b = bits.RotateLeft64(b, 17) ^ c
		c = bits.RotateLeft64(c, 32)
	}
	word |= 7 << 56 // the length
	d ^= word
	round()
	a ^= word
	c ^= 0xff
	round()
	round()
	round()
	return a ^ b ^ c ^ d
}
