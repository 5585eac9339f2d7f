package edge

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/quic-go/qpack"
	"golang.org/x/net/http2/hpack"
)

// A fieldSection reads the field sections of requests (RFC 9204 section 4.5), one after
// the other. It knows what visitors send who have no dynamic table, and it costs one
// allocation each. Its zero value is ready.
type fieldSection struct {
	fields []sentField
	text   bytes.Buffer // of all literals
}

// A sentField is one field line.
type sentField struct {
	of    *staticField // whose name it has; nil: a literal
	name  string
	value string
	// Where literals are in the text, until all of it is known.
	nameAt, valueAt span
}

// A span is a part of the text; its zero value none.
type span struct{ from, to int }

// maxSentFields bounds the field lines of a section; browsers send some twenty.
const maxSentFields = 64

// A staticField is an entry of the static table (RFC 9204 appendix A).
type staticField struct{ name, canonical, value string }

// staticTable is that of the library.
var staticTable = func() (table [99]staticField) {
	for i := range table {
		entry := appendPrefixed([]byte{0, 0}, 0xc0, 6, i)
		f, err := qpack.NewDecoder().Decode(entry)()
		if err != nil {
			panic("BUG: the static table of QPACK: " + err.Error())
		}
		table[i] = staticField{f.Name, textproto.CanonicalMIMEHeaderKey(f.Name), f.Value}
	}
	return table
}()

// read reads a whole section. It is not ok when the section is malformed, or beyond what
// is read here. The fields are good until the next read, their strings for ever.
func (s *fieldSection) read(p []byte) (ok bool) {
	s.fields = s.fields[:0]
	s.text.Reset()
	if len(p) < 2 || p[0] != 0 || p[1] != 0 { // the prefix: nothing of a dynamic table
		return false
	}
	for p = p[2:]; len(p) > 0; {
		if len(s.fields) == maxSentFields {
			return false
		}
		var f sentField
		if p, ok = s.line(&f, p); !ok {
			return false
		}
		s.fields = append(s.fields, f)
	}
	text := s.text.String()
	for i := range s.fields {
		f := &s.fields[i]
		if f.nameAt.to > 0 {
			f.name = text[f.nameAt.from:f.nameAt.to]
		}
		if f.valueAt.to > 0 {
			f.value = text[f.valueAt.from:f.valueAt.to]
		}
	}
	return true
}

// line reads one field line.
func (s *fieldSection) line(f *sentField, p []byte) (rest []byte, ok bool) {
	var index int
	switch b := p[0]; {
	case b&0xc0 == 0xc0: // RFC 9204 section 4.5.2
		if index, p, ok = readPrefixed(p, 6); !ok || index >= len(staticTable) {
			return nil, false
		}
		f.of = &staticTable[index]
		f.name, f.value = f.of.name, f.of.value
		return p, true
	case b&0xd0 == 0x50: // section 4.5.4
		if index, p, ok = readPrefixed(p, 4); !ok || index >= len(staticTable) {
			return nil, false
		}
		f.of = &staticTable[index]
		f.name = f.of.name
	case b&0xe0 == 0x20: // section 4.5.6
		if f.nameAt, p, ok = s.literal(p, 3); !ok {
			return nil, false
		}
	default:
		return nil, false
	}
	f.valueAt, p, ok = s.literal(p, 7)
	return p, ok
}

// literal reads a string literal whose length has a prefix of n bits (RFC 9204 section
// 4.1.2) into the text.
func (s *fieldSection) literal(p []byte, n int) (at span, rest []byte, ok bool) {
	if len(p) == 0 {
		return span{}, nil, false
	}
	huffman := p[0]&(1<<n) != 0
	length, p, ok := readPrefixed(p, n)
	if !ok || length > len(p) {
		return span{}, nil, false
	}
	at.from = s.text.Len()
	if !huffman {
		s.text.Write(p[:length])
	} else if _, err := hpack.HuffmanDecode(&s.text, p[:length]); err != nil {
		return span{}, nil, false
	}
	at.to = s.text.Len()
	return at, p[length:], true
}

// readPrefixed reads an integer with a prefix of n bits (RFC 7541 section 5.1). What needs
// more than two bytes beyond it is not ok.
func readPrefixed(p []byte, n int) (i int, rest []byte, ok bool) {
	if len(p) == 0 {
		return 0, nil, false
	}
	most := 1<<n - 1
	if i = int(p[0]) & most; i < most {
		return i, p[1:], true
	}
	for k := 1; k < min(len(p), 3); k++ {
		i += int(p[k]&0x7f) << (7 * (k - 1))
		if p[k] < 0x80 {
			return i, p[k+1:], true
		}
	}
	return 0, nil, false
}

// appendPrefixed appends an integer with a prefix of n bits, behind what stands before it
// in its first byte.
func appendPrefixed(b []byte, first byte, n, i int) []byte {
	most := 1<<n - 1
	if i < most {
		return append(b, first|byte(i))
	}
	b = append(b, first|byte(most))
	for i -= most; i >= 0x80; i >>= 7 {
		b = append(b, byte(i)|0x80)
	}
	return append(b, byte(i))
}

// appendSection is the encoder of HTTP/3: it writes what http3's response writer would.
// Without a status it goes on with a section that was begun.
func appendSection(b []byte, status int, fields http.Header) []byte {
	out := bytes.NewBuffer(b)
	begun := out.Len()
	e := qpack.NewEncoder(out)
	if status != 0 {
		e.WriteField(qpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	}
	for name, values := range fields {
		name = strings.ToLower(name)
		for _, value := range values {
			e.WriteField(qpack.HeaderField{Name: name, Value: value})
		}
	}
	b = out.Bytes()
	if status == 0 && len(b) > begun {
		b = append(b[:begun], b[begun+len(sectionPrefix):]...)
	}
	return b
}

// sectionPrefix begins a section that needs no dynamic table (RFC 9204 section 4.5.1).
const sectionPrefix = "\x00\x00"
