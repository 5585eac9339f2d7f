package waiting

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"math"
)

// A kind tells a ticket from a pass.
type kind byte

const (
	kindTicket kind = 't'
	kindPass   kind = 'p'
)

// A ticket is what a visitor carries. Times are microseconds since 1970.
type ticket struct {
	kind kind
	id   uint64
	// at is when the visitor arrived; of a pass, when it ends.
	at int64
	// hint is what the node that wrote the ticket last knew of its own room.
	hint hint
}

// A hint tells other nodes how far the room of one is. The zero value tells
// nothing.
type hint struct {
	node   uint32
	at     int64   // when it was written
	cursor int64   // who arrived before is let in
	speed  float32 // of the cursor, in seconds of arrival per second
}

// The form of a ticket: these fields, big endian, and a part of their HMAC, in
// base64 for URLs. RFC 2104 section 5 allows to keep half of the HMAC.
const (
	version     = 1
	signedBytes = 1 + 1 + 8 + 8 + 4 + 8 + 8 + 4
	macBytes    = sha256.Size / 2
	tokenBytes  = signedBytes + macBytes
)

var encoding = base64.RawURLEncoding.Strict() // one text for each ticket

// sign returns the text of a ticket for the room.
func (t *ticket) sign(key *[32]byte, room string) string {
	b := make([]byte, 0, tokenBytes)
	b = append(b, version, byte(t.kind))
	b = binary.BigEndian.AppendUint64(b, t.id)
	b = binary.BigEndian.AppendUint64(b, uint64(t.at))
	b = binary.BigEndian.AppendUint32(b, t.hint.node)
	b = binary.BigEndian.AppendUint64(b, uint64(t.hint.at))
	b = binary.BigEndian.AppendUint64(b, uint64(t.hint.cursor))
	b = binary.BigEndian.AppendUint32(b, math.Float32bits(t.hint.speed))
	return encoding.EncodeToString(append(b, mac(key, room, b)...))
}

// parse reads the text of a ticket of the kind, if one of the keys has signed it
// for the room.
func parse(text string, want kind, keys [][32]byte, room string) (t ticket, ok bool) {
	if len(text) != encoding.EncodedLen(tokenBytes) {
		return t, false
	}
	b, err := encoding.DecodeString(text)
	if err != nil || b[0] != version || kind(b[1]) != want {
		return t, false
	}
	signed, sum := b[:signedBytes], b[signedBytes:]
	for i := range keys {
		ok = ok || hmac.Equal(sum, mac(&keys[i], room, signed))
	}
	t.kind, t.id, t.at = want, binary.BigEndian.Uint64(b[2:]), int64(binary.BigEndian.Uint64(b[10:]))
	t.hint.node, t.hint.at = binary.BigEndian.Uint32(b[18:]), int64(binary.BigEndian.Uint64(b[22:]))
	t.hint.cursor, t.hint.speed = int64(binary.BigEndian.Uint64(b[30:])), math.Float32frombits(binary.BigEndian.Uint32(b[38:]))
	return t, ok
}

// mac binds a ticket to the room as well: an early arrival in one room says
// nothing in another.
func mac(key *[32]byte, room string, signed []byte) []byte {
	h := hmac.New(sha256.New, key[:])
	h.Write(signed)
	h.Write([]byte(room))
	return h.Sum(nil)[:macBytes]
}

func newID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}
