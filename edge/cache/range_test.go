package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestParseRanges(t *testing.T) {
	f := func(line string, want ...byteRange) {
		t.Helper()
		got, ok := parseRanges([]string{line})
		if ok != (len(want) > 0) || ok && !slices.Equal(got, want) {
			t.Errorf("%q: %v %t, want %v", line, got, ok, want)
		}
	}
	f("bytes=0-0", byteRange{0, 0})
	f("bytes=5-", byteRange{5, -1})
	f("bytes=-5", byteRange{-1, 5})
	f("bytes=-0", byteRange{-1, 0})
	f("BYTES=1-2", byteRange{1, 2}) // RFC 9110 section 14.1: in any case
	f(" bytes=1-2 ", byteRange{1, 2})
	f("bytes=1-2, 4-5 ,-1", byteRange{1, 2}, byteRange{4, 5}, byteRange{-1, 1})
	f("bytes=,, 1-2,\t,", byteRange{1, 2}) // section 5.6.1.2: empty members mean nothing
	f("bytes=007-0010", byteRange{7, 10})
	f("bytes=0-99999999999999999999999", byteRange{0, maxPosition})
	f("bytes=99999999999999999999999-", byteRange{maxPosition, -1})

	for _, invalid := range []string{
		"", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=1", "bytes=2-1", "bytes=a-b", "bytes=1-b", "bytes=+1-2",
		"bytes=1 - 2", "bytes= 1-2-3", "bytes=--1", "bytes=0x1-2", "bytes =1-2", "items=0-1", "=1-2", "bytes=1-2;3-4",
		"bytes=1-2, 5-4",
	} {
		f(invalid)
	}
	if _, ok := parseRanges([]string{"bytes=0-1", "bytes=2-3"}); ok {
		t.Error("two lines")
	}
	if _, ok := parseRanges(nil); ok {
		t.Error("no line")
	}
	f("bytes="+strings.Repeat("0-0,", maxRanges), slices.Repeat([]byteRange{{0, 0}}, maxRanges)...)
	f("bytes=" + strings.Repeat("0-0,", maxRanges+1))
}

func TestResolve(t *testing.T) {
	f := func(line string, size int64, want ...span) {
		t.Helper()
		ranges, ok := parseRanges([]string{"bytes=" + line})
		if got := resolve(ranges, size); !ok || !slices.Equal(got, want) {
			t.Errorf("%s of %d: %v, want %v", line, size, got, want)
		}
	}
	f("0-0", 10, span{0, 1})
	f("9-9", 10, span{9, 10})
	f("10-10", 10)
	f("0-", 10, span{0, 10})
	f("9-", 10, span{9, 10})
	f("10-", 10)
	f("5-100", 10, span{5, 10})
	f("-1", 10, span{9, 10})
	f("-100", 10, span{0, 10})
	f("-0", 10)
	f("0-0", 0)
	f("0-99999999999999999999", 10, span{0, 10})
	f("-99999999999999999999", 10, span{0, 10})

	// Several: in the order of the request, what is not there left out.
	f("500-599, 2000-, 0-9", 1000, span{500, 600}, span{0, 10})
	// What overlaps or lies close together is one, at the place of the first.
	f("500-599, 0-9, 590-700", 1000, span{500, 701}, span{0, 10})
	f("0-9, 90-99", 1000, span{0, 100}) // a gap of partOverhead
	f("0-9, 91-99", 1000, span{0, 10}, span{91, 100})
	f("0-9, 900-909, 300-309, 0-", 1000, span{0, 1000})
	f("300-309, 0-9, 900-909, 5-305", 1000, span{0, 310}, span{900, 910})
	f("0-0,0-0,0-0,0-0", 10, span{0, 1})
}

func TestParseContentRange(t *testing.T) {
	f := func(line string, s span, size int64, ok bool) {
		t.Helper()
		gotSpan, gotSize, gotOK := parseContentRange([]string{line})
		if gotSpan != s || gotSize != size || gotOK != ok {
			t.Errorf("%q: %v of %d, %t", line, gotSpan, gotSize, gotOK)
		}
		if ok && !strings.EqualFold(contentRange(s, size), trim(line)) {
			t.Errorf("%q is written as %q", line, contentRange(s, size))
		}
	}
	f("bytes 0-0/1", span{0, 1}, 1, true)
	f("bytes 2-4/10", span{2, 5}, 10, true)
	f("bytes 2-4/*", span{2, 5}, -1, true)
	f("Bytes 2-4/10 ", span{2, 5}, 10, true)
	// RFC 9110 section 14.4: invalid.
	for _, invalid := range []string{
		"", "bytes", "bytes 0-1", "bytes 0-1/", "bytes 2-1/10", "bytes 0-10/10", "bytes */10", "bytes 1-/10", "bytes -1/10",
		"bytes=0-1/10", "items 0-1/10", "bytes 0-1/10/10", "bytes 0-1/ten", "bytes 0 - 1/10", "bytes 0-1/-1",
		"bytes 0-99999999999999999999/*", "bytes 0-1/10, bytes 2-3/10",
	} {
		f(invalid, span{}, 0, false)
	}
	if _, _, ok := parseContentRange([]string{"bytes 0-1/10", "bytes 0-1/10"}); ok {
		t.Error("two lines")
	}
}

func TestIfRange(t *testing.T) {
	const modified, date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 08:49:38 GMT"
	f := func(want bool, line string, fields ...string) {
		t.Helper()
		if got := ifRange([]string{line}, header(fields...)); got != want {
			t.Errorf("%q with %q: %t", line, fields, got)
		}
	}
	f(true, `"a"`, `Etag: "a"`)
	f(true, ` "a"	`, `Etag: "a"`)
	f(false, `"b"`, `Etag: "a"`)
	f(false, `"a"`)
	f(false, "", `Etag: "a"`)
	// RFC 9110 section 13.1.5: the strong comparison, and no lists.
	f(false, `W/"a"`, `Etag: W/"a"`)
	f(false, `W/"a"`, `Etag: "a"`)
	f(false, `"a"`, `Etag: W/"a"`)
	f(false, `"a", "b"`, `Etag: "a"`)
	f(false, `"a"b"`, `Etag: "a"b"`)
	f(false, "*", `Etag: "a"`)

	// A date must be a strong validator, and the very same.
	f(true, "Sun, 06 Nov 1994 08:49:37 GMT", modified, date)
	f(true, "Sun, 06 Nov 1994 08:49:37 GMT", modified, date, `Etag: "a"`)
	f(false, "Sun, 06 Nov 1994 08:49:38 GMT", modified, date)
	f(false, "Sun, 06 Nov 1994 08:49:36 GMT", modified, date)
	f(false, "Sun, 06 Nov 1994 08:49:37 GMT", modified, "Date: Sun, 06 Nov 1994 08:49:37 GMT")
	f(false, "Sun, 06 Nov 1994 08:49:37 GMT", modified)
	f(false, "Sun, 06 Nov 1994 08:49:37 GMT", date)
	f(false, "yesterday", "Last-Modified: yesterday", date)

	if !ifRange(nil, nil) || ifRange([]string{`"a"`, `"a"`}, header(`Etag: "a"`)) {
		t.Error("no line holds, two do not")
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{
		"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-0,-1", "bytes=,9-,0-4 ,", "bytes=2-1", "bytes=99999999999999999999-", "x=1-2",
	} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, line string, size int64) {
		size = max(0, size%(1<<40))
		ranges, ok := parseRanges([]string{line})
		if !ok {
			return
		}
		total := int64(0)
		spans := resolve(ranges, size)
		for i, s := range spans {
			if s.first < 0 || s.first >= s.end || s.end > size {
				t.Errorf("%q of %d: %v", line, size, s)
			}
			for _, o := range spans[:i] {
				if s.first <= o.end && o.first <= s.end {
					t.Errorf("%q of %d: %v and %v are sent twice", line, size, o, s)
				}
			}
			total += s.length()
		}
		if total > size || len(ranges) > maxRanges {
			t.Errorf("%q of %d: %d bytes in %d ranges", line, size, total, len(ranges))
		}
		// Each byte that is asked for is sent.
		for _, r := range ranges {
			s, satisfiable := r.within(size)
			if satisfiable && !slices.ContainsFunc(spans, func(o span) bool { return o.covers(s) }) {
				t.Errorf("%q of %d: %v is not in %v", line, size, s, spans)
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-1/2", "bytes 0-1/*", "bytes */2", "bytes 5-4/9", "bytes 0-9/9", "Bytes  1-2/3", "bytes 1-99999999999999999999/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, size, ok := parseContentRange([]string{line})
		if !ok {
			return
		}
		if s.first < 0 || s.first >= s.end || size < -1 || size >= 0 && s.end > size {
			t.Errorf("%q: %v of %d", line, s, size)
		}
		if again, n, ok := parseContentRange([]string{contentRange(s, size)}); !ok || again != s || n != size {
			t.Errorf("%q is written as %q", line, contentRange(s, size))
		}
	})
}

func FuzzIfRange(f *testing.F) {
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	for _, s := range [][2]string{{`"a"`, `"a"`}, {`W/"a"`, `W/"a"`}, {`"a`, `"a`}, {date, `"a"`}, {"", ""}, {`"a"`, `W/"a"`}, {date, ""}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, line, etag string) {
		h := http.Header{"Etag": {etag}, "Last-Modified": {date}, "Date": {"Mon, 07 Nov 1994 08:49:37 GMT"}}
		if !ifRange([]string{line}, h) {
			return
		}
		strong := strings.HasPrefix(trim(etag), `"`) && trim(etag) == trim(line)
		if !strong && trim(line) != date {
			t.Errorf("If-Range %q holds for %q", line, etag)
		}
	})
}

// The validator that an entry gives is one that its own If-Range accepts.
func TestStrongValidator(t *testing.T) {
	const modified, date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Date: Sun, 06 Nov 1994 08:49:38 GMT"
	f := func(want string, fields ...string) {
		t.Helper()
		h := header(fields...)
		got := strongValidator(h)
		if got != want || got != "" && !ifRange([]string{got}, h) {
			t.Errorf("%q: %q", fields, got)
		}
	}
	f(`"a"`, `Etag: "a"`)
	f(`"a"`, `Etag: "a"`, modified, date)
	f("", `Etag: W/"a"`, modified, date) // the tag says that bytes may differ
	f("Sun, 06 Nov 1994 08:49:37 GMT", modified, date)
	f("", modified)
	f("", fmt.Sprint("Etag: ", "a"))
	f("")
}
