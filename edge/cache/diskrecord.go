package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"net/http"
	"time"

	"spillway/edge/cache/disk"
)

// What an entry is on the disk: a head that says when it was received by clocks of
// other processes, and goes on as a record in memory does; and the body. Keys and
// marks are hashes without a secret, for they must be the same after a restart. Who
// could find two keys with one hash would push out an object of his own: the whole
// key is compared when the object is read.

// diskFormat is the first byte of a head. It must change with the form of what
// follows: what has another is not read. A test knows the form.
const diskFormat = 1

// diskVariants is how many variants of one target there may be on the disk, beside
// one that answers all requests. Two whose hashes fall into one place push each other
// out. Not a knob: a lookup looks into the index for each.
const diskVariants = 32

// diskKeys are the keys under which a target's variants may lie: first that of one
// without conditions.
type diskKeys [1 + diskVariants]disk.Key

func keysOnDisk(t *target) (keys diskKeys) {
	sum := sumOf(urlMark, t.parts(), t.hasQuery)
	for i := range keys {
		copy(keys[i][:], sum[:])
		spread := uint64(i) * 0x9e3779b97f4a7c15
		binary.LittleEndian.PutUint64(keys[i][:], binary.LittleEndian.Uint64(sum[:])^spread)
	}
	return keys
}

// variantPlace is the place of an entry among the keys of its target.
func variantPlace(e *Entry) int {
	if len(e.vary) == 0 {
		return 0
	}
	h := fnv.New64a()
	for _, f := range e.vary {
		h.Write([]byte(f.name))
		h.Write([]byte{0, byte(len(f.value)), 0})
		h.Write([]byte(f.value))
	}
	return 1 + int(h.Sum64()%diskVariants)
}

// urlMark is the kind of the mark that all variants of a target have; other kinds are
// those of the inverted index.
const urlMark byte = 0xff

func sumOf(kind byte, parts [4]string, flag bool) [sha256.Size]byte {
	b := append(make([]byte, 0, 256), kind)
	for _, part := range parts {
		b = append(append(b, part...), 0) // which is in no part
	}
	return sha256.Sum256(appendBool(b, flag))
}

// markOf is a hash of what an object on the disk can be purged by.
func markOf(kind byte, parts ...string) uint64 {
	var four [4]string
	copy(four[:], parts)
	sum := sumOf(kind, four, false)
	return binary.LittleEndian.Uint64(sum[:])
}

// urlMarkOf is the mark of a target.
func urlMarkOf(t *target) uint64 {
	sum := sumOf(urlMark, t.parts(), t.hasQuery)
	return binary.LittleEndian.Uint64(sum[8:])
}

// everyMark is the mark that all objects have.
var everyMark = markOf(everyKey)

// marksOf are all marks of an entry.
func marksOf(t *target, h http.Header) []uint64 {
	marks := append(make([]uint64, 0, 16), everyMark, urlMarkOf(t))
	folders(t.path, func(folder string) {
		marks = append(marks, markOf(folderKey, t.scheme, t.host, folder))
	})
	tags, _ := readTags(h)
	for _, tag := range tags {
		marks = append(marks, markOf(tagKey, tag))
	}
	groups, _ := readGroups(h["Cache-Groups"])
	for _, group := range groups {
		marks = append(marks, markOf(groupKey, t.scheme, t.host, group))
	}
	return marks
}

// diskHead returns the head of an entry's object.
func (c *clock) diskHead(t *target, e *Entry) []byte {
	m := c.moment(e.received)
	b := append(make([]byte, 0, 512), diskFormat)
	b = appendText(b, m.boot)
	b = binary.AppendVarint(b, int64(m.uptime))
	b = binary.AppendVarint(b, m.day.UnixNano())
	return appendHead(b, t, e, e.received)
}

// fromDisk returns the entry of an object's head, without its body. It is not ok for
// one that is another key's, or of another form.
func (c *clock) fromDisk(head []byte, t *target, soft bool, now time.Time) (e *Entry, ok bool) {
	if len(head) == 0 || head[0] != diskFormat {
		return nil, false
	}
	// The bytes are as they were written, and by this form; that they are is a matter
	// of checksums, and must not be one of the process's life.
	defer func() {
		if recover() != nil {
			e, ok = nil, false
		}
	}()
	at := cursor(head[1:])
	m := moment{boot: at.text(), uptime: time.Duration(at.signed()), day: time.Unix(0, at.signed())}
	record := head[len(head)-len(at):]
	if !hasKey(record, t) {
		return nil, false
	}
	elapsed, known := c.since(m, now)
	e = decodeHead(record, now.Add(-elapsed))
	switch {
	case !known:
		e.initialAge = maxDelta
	case soft:
		// When it was purged is not known: the windows for stale answers are over when
		// they would be if it had been at once.
		e.lifetime = 0
	}
	e.purged = e.purged || soft
	return e, true
}
