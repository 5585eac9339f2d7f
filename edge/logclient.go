package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"sync/atomic"
	"time"
)

// A logClient says how the lines of the access log name visitors. Its values
// are those of LogConfig.Client; all but the hash are done with when they are
// written.
type logClient struct {
	mode string
	key  atomic.Pointer[logKey]
}

// A logKey is the secret of one day's hashes. It is never stored and never
// leaves the process: when the day or the process ends, nobody can tell from
// which address a hash was made, nor try all addresses to find out.
type logKey struct {
	day    int64 // since 1970, in UTC
	secret [32]byte
}

// The networks that stand for an address: what a provider usually gives to one
// town or one customer. They say where a crowd comes from, and not who it is.
const (
	logBits4 = 24
	logBits6 = 48
)

// appendTo appends the field for an address at a time, or nothing.
func (c *logClient) appendTo(b []byte, addr netip.Addr, at time.Time) []byte {
	if c.mode == "none" || !addr.IsValid() {
		return b
	}
	b = append(b, `"client":"`...)
	switch c.mode {
	case "full":
		b = addr.AppendTo(b)
	case "hash":
		b = c.keyOf(at).appendHash(b, addr)
	default:
		bits := logBits4
		if addr.Is6() {
			bits = logBits6
		}
		network, _ := addr.Prefix(bits) // fails only for lengths that no address has
		b = network.AppendTo(b)
	}
	return append(b, `",`...)
}

// keyOf returns the key of a day, made with the day's first line. A request
// that began before midnight and ends after it is hashed with the new key.
func (c *logClient) keyOf(at time.Time) *logKey {
	day := at.Unix() / int64(24*time.Hour/time.Second)
	for {
		k := c.key.Load()
		if k != nil && (k.day == day || k.day == day+1) {
			return k
		}
		next := &logKey{day: day}
		rand.Read(next.secret[:])
		c.key.CompareAndSwap(k, next)
	}
}

// appendHash appends 64 bits of SHA-256 over secret and address. Both have a
// fixed length, so that this is as good as an HMAC, in a third of its time.
func (k *logKey) appendHash(b []byte, addr netip.Addr) []byte {
	var message [48]byte
	copy(message[:], k.secret[:])
	ip := addr.As16()
	copy(message[32:], ip[:])
	sum := sha256.Sum256(message[:])
	return hex.AppendEncode(b, sum[:8])
}
