package disk

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// A Key names an object. All of its bytes must be evenly spread and hard to
// foretell, as those of a keyed hash are: the index knows an object by the first
// eight, and two that share these push each other out. It must be the same after
// a restart.
type Key [16]byte

func (k *Key) hash() uint64 { return binary.LittleEndian.Uint64(k[:]) }

// A record is a header of fixed size, the meta part (marks, checksums of the
// body's blocks, head) and the body. Header and meta have checksums of their own:
// the first is what a scan goes along, the second what a read believes.
const (
	headerBytes = 64
	alignment   = 8 // of records in a segment
	magic       = 0x31435753
	// blockBytes is how much of a body one checksum covers, and so how much is read
	// before a byte of it is served.
	blockBytes = 64 << 10
	// maxHead and maxMarks bound what a record holds beside its body.
	maxHead  = 1 << 20
	maxMarks = 1 << 12
)

// castagnoli is the checksum that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type kind uint8

const (
	objectRecord kind = 1 + iota
	headRecord        // a new head for the body of an older record
	deleteRecord      // nothing before it under its key counts
	purgeRecord       // nothing before it under its marks counts
)

const softFlag = 1 // of a purge: it makes stale; of an object: it was made stale

// A place is where a record or a body begins. Ordinals of segments begin at 1.
type place struct {
	segment uint32
	offset  uint32
}

// A header describes a record.
type header struct {
	kind     kind
	soft     bool
	marks    int
	sequence uint64
	key      Key
	expires  int64 // seconds since 1970; 0 is never
	head     int
	body     int
	bodyAt   place // of a head record
	metaSum  uint32
}

func (h *header) blocks() int { return (h.body + blockBytes - 1) / blockBytes }

// metaBytes is the length of what stands between the header and the body.
func (h *header) metaBytes() int { return 8*h.marks + 4*h.blocks() + h.head }

// bytes is the length of the record where it stands.
func (h *header) bytes() int64 {
	n := int64(headerBytes + h.metaBytes())
	if h.kind == objectRecord {
		n += int64(h.body)
	}
	return n
}

// expired reports whether the object is of no use any more.
func (h *header) expired(now time.Time) bool { return h.expires != 0 && h.expires <= now.Unix() }

// seconds is a time as a header has it.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// align rounds an offset up to where a record may begin.
func align(offset int64) int64 { return (offset + alignment - 1) &^ (alignment - 1) }

// append writes the header.
func (h *header) append(b []byte) []byte {
	var flags byte
	if h.soft {
		flags |= softFlag
	}
	from := len(b)
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = append(b, byte(h.kind), flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(h.marks))
	b = binary.LittleEndian.AppendUint64(b, h.sequence)
	b = append(b, h.key[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.expires))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.head))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.body))
	b = binary.LittleEndian.AppendUint32(b, h.bodyAt.segment)
	b = binary.LittleEndian.AppendUint32(b, h.bodyAt.offset)
	b = binary.LittleEndian.AppendUint32(b, h.metaSum)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[from:], castagnoli))
}

var errRecord = errors.New("no sound record")

// parseHeader reads the header at the start of b.
func parseHeader(b []byte) (h header, err error) {
	if len(b) < headerBytes {
		return h, errRecord
	}
	sum := binary.LittleEndian.Uint32(b[headerBytes-4:])
	if binary.LittleEndian.Uint32(b) != magic || sum != crc32.Checksum(b[:headerBytes-4], castagnoli) {
		return h, errRecord
	}
	head, body := binary.LittleEndian.Uint32(b[40:]), binary.LittleEndian.Uint32(b[44:])
	if head > maxHead || body > math.MaxInt32 {
		return h, errRecord
	}
	h = header{
		kind: kind(b[4]), soft: b[5]&softFlag != 0, marks: int(binary.LittleEndian.Uint16(b[6:])),
		sequence: binary.LittleEndian.Uint64(b[8:]), key: Key(b[16:32]),
		expires: int64(binary.LittleEndian.Uint64(b[32:])), head: int(head), body: int(body),
		bodyAt:  place{binary.LittleEndian.Uint32(b[48:]), binary.LittleEndian.Uint32(b[52:])},
		metaSum: binary.LittleEndian.Uint32(b[56:]),
	}
	if !h.valid() || b[5]&^softFlag != 0 {
		return h, errRecord
	}
	return h, nil
}

// valid reports whether such a record is ever written.
func (h *header) valid() bool {
	if h.marks > maxMarks || (h.bodyAt != place{}) != (h.kind == headRecord) {
		return false
	}
	switch h.kind {
	case objectRecord:
		return true
	case headRecord:
		return h.bodyAt.segment != 0
	case deleteRecord:
		return h.marks == 0 && h.head == 0 && h.body == 0
	case purgeRecord:
		return h.marks > 0 && h.head == 0 && h.body == 0
	}
	return false
}

// A meta is the part of a record behind its header.
type meta []byte

func (m meta) sum() uint32 { return crc32.Checksum(m, castagnoli) }

func (m meta) sound(h *header) bool { return len(m) == h.metaBytes() && m.sum() == h.metaSum }

func (m meta) mark(i int) uint64 { return binary.LittleEndian.Uint64(m[8*i:]) }

// sums returns the checksums of the body's blocks.
func (m meta) sums(h *header) []byte { return m[8*h.marks : 8*h.marks+4*h.blocks()] }

func (m meta) head(h *header) []byte { return m[8*h.marks+4*h.blocks():] }

func appendMarks(b []byte, marks []uint64) []byte {
	for _, mark := range marks {
		b = binary.LittleEndian.AppendUint64(b, mark)
	}
	return b
}

func appendSums(b, body []byte) []byte {
	for len(body) > 0 {
		n := min(blockBytes, len(body))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body[:n], castagnoli))
		body = body[n:]
	}
	return b
}

// soundBlocks returns how many bytes of data are as their checksums say. Data
// begins at the start of a block.
func soundBlocks(data, sums []byte) int {
	good := 0
	for good < len(data) && len(sums) >= 4 {
		n := min(blockBytes, len(data)-good)
		if crc32.Checksum(data[good:good+n], castagnoli) != binary.LittleEndian.Uint32(sums) {
			break
		}
		good += n
		sums = sums[4:]
	}
	return good
}
