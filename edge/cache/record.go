package cache

import (
	"encoding/binary"
	"net/http"
	"time"

	"spillway/edge/coding"
)

// A record is a key and an entry as bytes: the head, and then the body. The head
// begins with what may change while the record is kept, under the shard's lock. The
// rest is compact: numbers are varints, texts have their length before them. What is
// decoded shares nothing with the record but the body.
const (
	linksAt      = 0 // its links in the inverted index, a number of four bytes
	lifetimeAt   = 4 // of eight
	purgedAt     = 12
	receivedAt   = 13 // of eight, and never changed: a soft purge reads it of thousands at once
	initialAgeAt = 21
	keyAt        = 29
)

// appendHead appends the head of e's record. Times are kept as distances from
// base, which has a reading of the monotonic clock: ages must not follow a clock
// that is set.
func appendHead(b []byte, t *target, e *Entry, base time.Time) []byte {
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.lifetime))
	b = appendBool(b, e.purged)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.received.Sub(base)))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.initialAge))
	b = appendKey(b, t)
	b = binary.AppendUvarint(b, uint64(e.status))
	b = appendDirectives(b, e.control)
	b = binary.AppendUvarint(b, uint64(len(e.vary)))
	for _, f := range e.vary {
		b = appendText(b, f.name)
		b = appendText(b, f.value)
		b = appendBool(b, f.present)
	}
	b = appendPart(b, e.part)
	b = appendForm(b, e)
	return appendFields(b, e.header)
}

// decodeHead returns the entry without its body.
func decodeHead(head []byte, base time.Time) *Entry {
	// One allocation for what most entries need.
	var room struct {
		Entry
		vary  [2]nominated
		lines [12]string
	}
	c, e := cursor(head[keyAt:]), &room.Entry
	c.key()
	*e = Entry{
		status: int(c.number()), control: c.directives(),
		received: base.Add(duration(head[receivedAt:])), initialAge: duration(head[initialAgeAt:]),
		lifetime: duration(head[lifetimeAt:]), purged: head[purgedAt] == 1,
	}
	for range c.number() {
		if e.vary == nil {
			e.vary = room.vary[:0]
		}
		e.vary = append(e.vary, nominated{name: c.text(), value: c.text(), present: c.bool()})
	}
	e.part = c.part()
	c.form(e)
	e.header = c.fields(room.lines[:0])
	return e
}

// duration reads one of eight bytes.
func duration(b []byte) time.Duration { return time.Duration(binary.LittleEndian.Uint64(b)) }

func appendKey(b []byte, t *target) []byte {
	b = append(appendBool(b, t.hasQuery), t.form)
	for _, part := range t.parts() {
		b = appendText(b, part)
	}
	return b
}

// hasKey reports whether a head is that of a record for t.
func hasKey(head []byte, t *target) bool {
	if head = head[keyAt:]; (head[0] == 1) != t.hasQuery || head[1] != t.form {
		return false
	}
	head = head[2:]
	for _, part := range t.parts() {
		n, width := binary.Uvarint(head)
		head = head[width:]
		if string(head[:n]) != part {
			return false
		}
		head = head[n:]
	}
	return true
}

// key returns the key of a record.
func (sh *shard) key(i uint32) target {
	c := cursor(sh.head(i)[keyAt:])
	t := c.key()
	t.hash = sh.slots[i].hash
	return t
}

// key reads a key, without its hash.
func (c *cursor) key() (t target) {
	t.hasQuery, t.form = c.bool(), c.byte()
	t.scheme, t.host, t.path, t.query = c.text(), c.text(), c.text(), c.text()
	return t
}

// appendDirectives writes the flags as bits, and each delta as zero or one more
// than its value.
func appendDirectives(b []byte, d directives) []byte {
	var bits uint64
	for i, flag := range d.flags() {
		if *flag {
			bits |= 1 << i
		}
	}
	b = binary.AppendUvarint(b, bits)
	for _, v := range d.deltas() {
		n := uint64(0)
		if v.set {
			n = uint64(v.Duration) + 1
		}
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func (c *cursor) directives() (d directives) {
	bits := c.number()
	for i, flag := range d.flags() {
		*flag = bits>>i&1 == 1
	}
	for _, v := range d.deltas() {
		if n := c.number(); n > 0 {
			*v = delta{time.Duration(n - 1), true}
		}
	}
	return d
}

func appendPart(b []byte, p *part) []byte {
	b = appendBool(b, p != nil)
	if p == nil {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(p.spans)))
	for _, s := range p.spans {
		b = binary.AppendUvarint(b, uint64(s.first))
		b = binary.AppendUvarint(b, uint64(s.end))
	}
	b = binary.AppendVarint(b, p.size)
	b = appendText(b, p.asked)
	return appendText(b, p.said)
}

func (c *cursor) part() *part {
	if !c.bool() {
		return nil
	}
	p := &part{spans: make([]span, c.number())}
	for i := range p.spans {
		p.spans[i] = span{int64(c.number()), int64(c.number())}
	}
	p.size, p.asked, p.said = c.signed(), c.text(), c.text()
	return p
}

// appendForm writes which body it is that the entry has, and what may be made of it.
func appendForm(b []byte, e *Entry) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.number)
	b = binary.AppendUvarint(b, e.number-e.content) // mostly none
	b = appendBool(append(b, byte(e.coding)), e.mayRecode)
	return appendText(b, e.salt)
}

func (c *cursor) form(e *Entry) {
	e.number = c.fixed()
	e.content = e.number - c.number()
	e.coding, e.mayRecode = coding.Coding(c.byte()), c.bool()
	e.salt = c.text()
}

// appendFields writes how many names and values there are, then each name with
// its values.
func appendFields(b []byte, h http.Header) []byte {
	lines := 0
	for _, values := range h {
		lines += len(values)
	}
	b = binary.AppendUvarint(b, uint64(len(h)))
	b = binary.AppendUvarint(b, uint64(lines))
	for name, values := range h {
		b = appendText(b, name)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, v := range values {
			b = appendText(b, v)
		}
	}
	return b
}

// fields reads a header. As in storedHeader, the values share one array: all, if
// that has room for them.
func (c *cursor) fields(all []string) http.Header {
	names, lines := c.number(), int(c.number())
	h := make(http.Header, names)
	if lines > cap(all) {
		all = make([]string, 0, lines)
	}
	for range names {
		name := c.text()
		from := len(all)
		for range c.number() {
			all = append(all, c.text())
		}
		h[name] = all[from:len(all):len(all)]
	}
	return h
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// A cursor is what is left to read of a head. It is a string, a copy of the
// record's, of which all texts are parts.
type cursor string

func (c *cursor) byte() byte {
	b := (*c)[0]
	*c = (*c)[1:]
	return b
}

// fixed reads a number of eight bytes.
func (c *cursor) fixed() (n uint64) {
	for i := range 8 {
		n |= uint64((*c)[i]) << (8 * i)
	}
	*c = (*c)[8:]
	return n
}

func (c *cursor) bool() bool { return c.byte() == 1 }

func (c *cursor) number() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := c.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

// signed reads a varint whose lowest bit is the sign.
func (c *cursor) signed() int64 {
	n := c.number()
	return int64(n>>1) ^ -int64(n&1)
}

func (c *cursor) text() string {
	n := c.number()
	s := (*c)[:n]
	*c = (*c)[n:]
	return string(s)
}
