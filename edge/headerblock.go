package edge

import (
	"bytes"
	"crypto/tls"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// keepsTable reports whether a header block leaves the dynamic table as it is, so that
// who has not seen it understands those that follow (RFC 7541 section 6). It is false
// for most of what is malformed.
func keepsTable(block []byte) bool {
	for ok := true; len(block) > 0; {
		var n uint64
		switch b := block[0]; {
		case b >= 0x80: // section 6.1: indexed
			_, block, ok = prefixedInt(block, 7)
		case b >= 0x20: // sections 6.2.1 and 6.3: incremental indexing, or a new size
			return false
		default: // sections 6.2.2 and 6.2.3: not indexed
			if n, block, ok = prefixedInt(block, 4); ok && n == 0 {
				block, ok = skipString(block)
			}
			if ok {
				block, ok = skipString(block)
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// prefixedInt reads an integer with a prefix of so many bits (RFC 7541 section 5.1). It
// is not ok beyond 28 bits, and where b ends before it.
func prefixedInt(b []byte, bits uint) (n uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	mask := byte(1)<<bits - 1
	n, b = uint64(b[0]&mask), b[1:]
	if n < uint64(mask) {
		return n, b, true
	}
	for i := 0; i < len(b) && i < 4; i++ {
		n += uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// skipString goes to the end of a string (RFC 7541 section 5.2).
func skipString(b []byte) (rest []byte, ok bool) {
	n, b, ok := prefixedInt(b, 7)
	if !ok || n > uint64(len(b)) {
		return nil, false
	}
	return b[n:], true
}

// A streamRequest is a request over HTTP/2 that the fast path makes. All that it is made
// of is used again for the next.
type streamRequest struct {
	http.Request
	values []string
}

// notPlain are fields of a request that the library does something about, or that ask
// for more than a hit.
var notPlain = [...]string{
	"connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade",
}

// read makes the request of the fields of a header block, as the library would make it.
// It is not ok if the library would do anything else, or might, than to pass it on: most
// is the size of the header that it certainly takes.
func (s *streamRequest) read(fields []hpack.HeaderField, most uint32, remote string, state *tls.ConnectionState) (ok bool) {
	s.forget()
	header := s.Header
	if header == nil {
		header = make(http.Header, 16)
	}
	s.Request = http.Request{
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, Body: http.NoBody, RemoteAddr: remote, TLS: state,
	}
	scheme, size := "", uint32(0)
	for i, f := range fields {
		if size += f.Size(); size > most || // as RFC 9113 section 6.5.2 counts it
			!httpguts.ValidHeaderFieldValue(f.Value) || f.Name == "" {
			return false
		}
		if f.Name[0] != ':' {
			if !s.add(f.Name, f.Value) {
				return false
			}
			continue
		}
		// RFC 9113 section 8.3: before all others, each once.
		if i >= 4 || f.Value == "" || len(header) > 0 {
			return false
		}
		var to *string
		switch f.Name {
		case ":method":
			to = &s.Method
		case ":scheme":
			to = &scheme
		case ":authority":
			to = &s.Host
		case ":path":
			to = &s.RequestURI
		}
		if to == nil || *to != "" {
			return false
		}
		*to = f.Value
	}
	if s.Method != http.MethodGet || scheme != "https" || !plainAuthority(s.Host) || s.RequestURI == "" || s.RequestURI[0] != '/' {
		return false
	}
	if cookies := header["Cookie"]; len(cookies) > 1 { // RFC 9113 section 8.2.3
		header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	var err error
	s.URL, err = url.ParseRequestURI(s.RequestURI)
	return err == nil
}

// forget lets go of the visitor and his connection.
func (s *streamRequest) forget() {
	clear(s.Header)
	clear(s.values)
	s.Request, s.values = http.Request{Header: s.Header}, s.values[:0]
}

// add adds a regular field.
func (s *streamRequest) add(name, value string) (ok bool) {
	for i := range len(name) {
		// RFC 9113 section 8.2: a token in lower case.
		if c := name[i]; 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	if slices.Contains(notPlain[:], name) || name == "te" && value != "trailers" {
		return false
	}
	key := http.CanonicalHeaderKey(name)
	if before := s.Header[key]; before != nil {
		s.Header[key] = append(before, value)
		return true
	}
	n := len(s.values)
	s.values = append(s.values, value)
	s.Header[key] = s.values[n : n+1 : n+1]
	return true
}

// plainAuthority reports whether a host is one of letters, digits, dots and hyphens, or
// an address, with or without a port.
func plainAuthority(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.', c == '-', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return host != ""
}

// A stateless encoder writes header blocks that neither need nor change the dynamic
// table: it is the library's.
type stateless struct {
	buf     bytes.Buffer
	encoder *hpack.Encoder
}

var statelessEncoders = sync.Pool{New: func() any {
	s := new(stateless)
	s.encoder = hpack.NewEncoder(&s.buf)
	s.encoder.SetMaxDynamicTableSize(0)
	_ = s.encoder.WriteField(hpack.HeaderField{}) // after the new size, which is not for the visitor
	return s
}}

// encodeHTTP2 is the encoder of HTTP/2. It writes the fields that the library would.
func encodeHTTP2(b []byte, status int, fields http.Header) []byte {
	s := statelessEncoders.Get().(*stateless)
	defer statelessEncoders.Put(s)
	s.buf.Reset()
	if status != 0 {
		_ = s.encoder.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		name := strings.ToLower(key)
		if !httpguts.ValidHeaderFieldName(name) || name == "connection" || name == "transfer-encoding" {
			continue
		}
		for _, v := range fields[key] {
			if httpguts.ValidHeaderFieldValue(v) {
				_ = s.encoder.WriteField(hpack.HeaderField{Name: name, Value: v})
			}
		}
	}
	return append(b, s.buf.Bytes()...)
}
