package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A span is a run of bytes: from first on, up to end and without it.
type span struct{ first, end int64 }

func (s span) length() int64 { return s.end - s.first }

// covers reports whether all of another span is in this one.
func (s span) covers(o span) bool { return s.first <= o.first && o.end <= s.end }

// A byteRange is a range-spec as it was asked for (RFC 9110 section 14.1.2).
// Without an end its last is -1. A suffix has the first -1, and its length in
// last.
type byteRange struct{ first, last int64 }

const (
	// maxRanges bounds the ranges of one request: who asks for more is broken or
	// means harm (RFC 9110 section 14.2), and gets the whole.
	maxRanges = 16
	// maxPosition is what every larger number counts as.
	maxPosition = 1 << 62
)

// parseRanges reads Range. It is not ok for another unit than bytes, for what is
// invalid and for too many ranges: then a server ignores the field (RFC 9110
// section 14.2).
func parseRanges(lines []string) (ranges []byteRange, ok bool) {
	if len(lines) != 1 {
		return nil, false
	}
	unit, set, _ := strings.Cut(trim(lines[0]), "=")
	if !strings.EqualFold(unit, "bytes") {
		return nil, false
	}
	ok = true
	members([]string{set}, func(m string) bool {
		r, valid := parseByteRange(m)
		ok = valid && len(ranges) < maxRanges
		ranges = append(ranges, r)
		return ok
	})
	return ranges, ok && len(ranges) > 0
}

func parseByteRange(s string) (byteRange, bool) {
	first, last, found := strings.Cut(s, "-")
	if !found {
		return byteRange{}, false
	}
	r := byteRange{-1, -1}
	ok := true
	if first != "" {
		r.first, ok = parsePosition(first)
	}
	if last != "" && ok {
		r.last, ok = parsePosition(last)
	}
	// RFC 9110 section 14.1.1: an end before the start is invalid.
	return r, ok && (first != "" || last != "") && (first == "" || last == "" || r.first <= r.last)
}

// parsePosition reads a position or a length. It saturates instead of wrapping.
func parsePosition(s string) (int64, bool) {
	n := int64(0)
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > maxPosition/10 {
			n = maxPosition
			continue
		}
		n = min(n*10+int64(c-'0'), maxPosition)
	}
	return n, s != ""
}

// within returns the bytes that the range means in a representation of that
// size. It is not ok when there are none: the range cannot be satisfied.
func (r byteRange) within(size int64) (span, bool) {
	switch {
	case r.first < 0: // RFC 9110 section 14.1.2: a longer suffix means all
		return span{max(0, size-r.last), size}, r.last > 0 && size > 0
	case r.last < 0:
		return span{r.first, size}, r.first < size
	}
	return span{r.first, min(r.last, size-1) + 1}, r.first < size
}

// partOverhead is about what another part of a multipart answer costs: ranges
// that lie closer together are sent as one (RFC 9110 section 15.3.7.2).
const partOverhead = 80

// resolve returns the bytes that are asked for: those that are there, in the
// order of the request, and none of them twice.
func resolve(ranges []byteRange, size int64) (spans []span) {
	for _, r := range ranges {
		if s, ok := r.within(size); ok {
			spans = coalesce(spans, s)
		}
	}
	return spans
}

// coalesce adds a span to others that lie apart. Where it comes close to one, it
// takes the place of that.
func coalesce(spans []span, s span) []span {
	at := len(spans)
	for i, o := range slices.Backward(spans) {
		if s.first <= o.end+partOverhead && o.first <= s.end+partOverhead {
			s = span{min(s.first, o.first), max(s.end, o.end)}
			spans = slices.Delete(spans, i, i+1)
			at = i
		}
	}
	return slices.Insert(spans, min(at, len(spans)), s)
}

// parseContentRange reads the Content-Range of a 206 with one part. The size is
// -1 when it does not tell. What RFC 9110 section 14.4 calls invalid is not ok.
func parseContentRange(lines []string) (s span, size int64, ok bool) {
	if len(lines) != 1 {
		return span{}, 0, false
	}
	unit, rest, _ := strings.Cut(trim(lines[0]), " ")
	positions, complete, found := strings.Cut(trim(rest), "/")
	first, last, dash := strings.Cut(positions, "-")
	if !strings.EqualFold(unit, "bytes") || !found || !dash {
		return span{}, 0, false
	}
	from, ok1 := parsePosition(first)
	to, ok2 := parsePosition(last)
	size, ok3 := int64(-1), true
	if complete != "*" {
		size, ok3 = parsePosition(complete)
	}
	if !ok1 || !ok2 || !ok3 || from > to || to >= maxPosition || size >= 0 && size <= to {
		return span{}, 0, false
	}
	return span{from, to + 1}, size, true
}

// contentRange writes the field for a span of a representation, whose size may
// be -1 for unknown.
func contentRange(s span, size int64) string {
	b := make([]byte, 0, 48)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, s.first, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, s.end-1, 10)
	b = append(b, '/')
	if size < 0 {
		return string(append(b, '*'))
	}
	return string(strconv.AppendInt(b, size, 10))
}

// ifRange reports whether a response with this header is the one that If-Range
// names (RFC 9110 section 13.1.5); if not, the whole of it is wanted.
func ifRange(lines []string, h http.Header) bool {
	switch len(lines) {
	case 0:
		return true
	case 1:
	default:
		return false
	}
	validator := trim(lines[0])
	if head := validator[:min(3, len(validator))]; strings.Contains(head, `"`) {
		return strongTag(validator) && validator == first(h, "Etag")
	}
	return strongDate(h) && validator == first(h, "Last-Modified")
}

// strongTag reports whether s is an entity tag that is not weak (RFC 9110
// section 8.8.3).
func strongTag(s string) bool { return s != "" && tagLen(s) == len(s) }

// strongDate reports whether Last-Modified is a strong validator (RFC 9110
// section 8.8.2.2): it lies at least a second before Date, so that nothing can
// have changed in the same second and not be seen.
func strongDate(h http.Header) bool {
	modified, ok := parseDate(h["Last-Modified"])
	date, dated := parseDate(h["Date"])
	return ok && dated && date.Sub(modified) >= time.Second
}

// strongValidator returns the validator that If-Range may name, empty if there is
// none (RFC 9110 section 13.1.5).
func strongValidator(h http.Header) string {
	switch tag := first(h, "Etag"); {
	case strongTag(tag):
		return tag
	case tag == "" && strongDate(h):
		return first(h, "Last-Modified")
	}
	return ""
}
