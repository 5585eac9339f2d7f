package edge_test

import (
	"slices"

	"github.com/quic-go/quic-go/quicvarint"
)

func head3(fields []field) []byte { return appendHeaders(nil, fields) }

// seeds3 are request streams of HTTP/3.
func seeds3() (all [][]byte) {
	for _, name := range sortedVisitors() {
		all = append(all, head3(visitors[name]), plainly3(visitors[name]))
	}
	for _, fields := range unusual() {
		all = append(all, head3(fields))
	}
	plain := head3(with(":path", "/plain/a"))
	frame := func(kind uint64, payload string) []byte { return appendFrame(nil, kind, []byte(payload)) }
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	posted := head3(posted(":path", "/plain/a", "content-length", "3"))
	const unknown, pushPromise, goAway, priorityUpdate, reservedHTTP2 = 0x21, 5, 7, 0xf0700, 6
	return append(all,
		nil,
		plain[:1], plain[:2], plain[:len(plain)-1],
		join(plain, plain),
		join(plain, frame(dataFrame, "")),
		join(plain, frame(dataFrame, "abc")),
		join(plain, frame(dataFrame, "abc")[:3]),
		join(plain, head3([]field{{"x", "trailer"}})),
		join(plain, head3([]field{{":path", "/plain/b"}})),
		join(plain, frame(unknown, "grease")),
		join(frame(unknown, "grease"), plain),
		join(frame(unknown, ""), frame(unknown+0x1f, "x"), plain),
		join(frame(dataFrame, "abc"), plain),
		join(plain, frame(settingsFrame, "")),
		join(frame(settingsFrame, ""), plain),
		join(plain, frame(goAway, "\x00")),
		join(plain, frame(pushPromise, "\x00")),
		join(frame(reservedHTTP2, "abcdefgh"), plain),
		join(frame(priorityUpdate, "\x00u=1"), plain),
		join(posted, frame(dataFrame, "abc")),
		join(posted, frame(dataFrame, "ab")),
		join(posted, frame(dataFrame, "a"), frame(unknown, ""), frame(dataFrame, "bc"), head3([]field{{"x", "trailer"}})),
		join(plain, []byte{0x40}),
		join(plain, []byte{0}),
		// The same frame with its kind and its length in more bytes than they need.
		join([]byte{0x40, headersFrame}, quicvarint.AppendWithLen(nil, uint64(len(plain)-2), 8), plain[2:]),
		// Field sections that break QPACK: an insert count, a base, the dynamic table, an
		// index that there is not, a string that is not of Huffman's code, nothing at all.
		frame(headersFrame, ""),
		frame(headersFrame, "\x00"),
		frame(headersFrame, "\x00\x00"),
		frame(headersFrame, "\x01\x00\xd1"),
		frame(headersFrame, "\x00\x05\xd1\xd7\xc1\x50\x09edge.test"),
		frame(headersFrame, "\x00\x80\xd1\xd7\xc1\x50\x09edge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\xc1\x80\x50\x09edge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\xc1\x10\x50\x09edge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\xc1\x50\x09edge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\x51\x08/plain/a\x50\x09edge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\x71\x08/plain/a\x70\x09edge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\x51\x08/plain/a\x50\x09edge.test\xff\xff\x00"),
		frame(headersFrame, "\x00\x00\xd1\xd7\x51\x08/plain/a\x50\x89\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		frame(headersFrame, "\x00\x00\xd1\xd7\x51\x08/plain/a\x50\x0fedge.test"),
		frame(headersFrame, "\x00\x00\xd1\xd7\x51\x7f\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01/plain/a"),
	)
}

// plainly3 writes each field as a literal, without Huffman's code and without the static
// table (RFC 9204 section 4.5.6).
func plainly3(fields []field) []byte {
	block := []byte{0, 0}
	for _, f := range fields {
		block = appendPrefixed(block, 0x20, 3, f.name)
		block = appendPrefixed(block, 0, 7, f.value)
	}
	return appendFrame(nil, headersFrame, block)
}

// appendPrefixed appends a string behind its length, which begins in the last n bits of
// a byte (RFC 7541 section 5.1).
func appendPrefixed(b []byte, first byte, n int, s string) []byte {
	length, most := len(s), 1<<n-1
	if length < most {
		return append(append(b, first|byte(length)), s...)
	}
	b = append(b, first|byte(most))
	for length -= most; length >= 0x80; length >>= 7 {
		b = append(b, byte(length)|0x80)
	}
	return append(append(b, byte(length)), s...)
}
