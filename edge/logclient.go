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
	b = c.appendName(b, addr, at)
	return append(b, `",`...)
}

// appendName appends how the visitor is named, or nothing.
func (c *logClient) appendName(b []byte, addr netip.Addr, at time.Time) []byte {
	switch {
	case c.mode == "none" || !addr.IsValid():
		return b
	case c.mode == "full":
		return addr.AppendTo(b)
	case c.mode == "hash":
		return c.keyOf(at).appendHash(b, addr)
	}
	addr = embedded(addr)
	bits := logBits4
	if addr.Is6() {
		bits = logBits6
	}
	network, _ := addr.Prefix(bits) // fails only for lengths that no address has
	return network.AppendTo(b)
}

// The networks whose addresses hold a whole IPv4 address. Cut to logBits6 those of
// the first two would say nothing of the visitor, and those of the last all.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052 section 2.1
	teredo    = netip.MustParsePrefix("2001::/32")    // RFC 4380 section 4
	sixToFour = netip.MustParsePrefix("2002::/16")    // RFC 3056 section 2
)

// embedded returns the IPv4 address that a visitor's address is made of, or the
// address itself.
func embedded(addr netip.Addr) netip.Addr {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:]))
	case teredo.Contains(addr): // its bits are inverted
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:]))
	}
	return addr.Unmap()
}

// forget throws the key away once its day is over, so that it does not last until
// somebody comes.
func (c *logClient) forget(now time.Time) {
	if k := c.key.Load(); k != nil && !k.holds(dayOf(now)) {
		c.key.CompareAndSwap(k, nil)
	}
}

func dayOf(at time.Time) int64 { return at.Unix() / int64(24*time.Hour/time.Second) }

// holds reports whether the key is for a day, or for the one after it.
func (k *logKey) holds(day int64) bool { return k.day == day || k.day == day+1 }

// keyOf returns the key of a day, made with the day's first line. A request
// that began before midnight and ends after it is hashed with the new key.
func (c *logClient) keyOf(at time.Time) *logKey {
	day := dayOf(at)
	for {
		k := c.key.Load()
		if k != nil && k.holds(day) {
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
