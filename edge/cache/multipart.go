package cache

// parts returns the body of a multipart/byteranges answer (RFC 9110 section
// 14.6), in the order in which the ranges were asked for.
func (x *Excerpt) parts() [][]byte {
	pieces := make([][]byte, 0, 2*len(x.spans)+1)
	for i, s := range x.spans {
		pieces = append(pieces, x.partHead(i), x.entry.bytesOf(s))
	}
	return append(pieces, []byte("\r\n--"+x.boundary+"--\r\n"))
}

// partHead is the delimiter before a part, with the part's own fields. What the
// client has already is left out here as well (RFC 9110 section 15.3.7).
func (x *Excerpt) partHead(i int) []byte {
	b := make([]byte, 0, 160)
	if i > 0 {
		b = append(b, "\r\n"...)
	}
	b = append(b, "--"...)
	b = append(b, x.boundary...)
	b = append(b, "\r\n"...)
	if kind := first(x.entry.header, "Content-Type"); kind != "" && !x.brief {
		b = append(b, "Content-Type: "...)
		b = append(b, kind...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Range: "...)
	b = append(b, contentRange(x.spans[i], x.size)...)
	return append(b, "\r\n\r\n"...)
}
