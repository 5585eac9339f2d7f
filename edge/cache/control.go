package cache

import (
	"net/http"
	"strings"
	"time"
)

// A delta is the number of seconds that a directive carries, if it is there.
type delta struct {
	time.Duration
	set bool
}

// directives are those of a Cache-Control field that a shared cache obeys, of
// requests and of responses (RFC 9111 section 5.2). Directives with a list of
// field names, as in private="x", count as if they had none, which the sections
// 5.2.2.4 and 5.2.2.7 allow and which never shares more.
type directives struct {
	present bool // a Cache-Control line exists, whatever it says

	noStore, noCache, private, public bool
	mustRevalidate, proxyRevalidate   bool
	mustUnderstand, onlyIfCached      bool
	immutable, noTransform            bool
	targeted                          bool // they come from a field for this cache alone (RFC 9213)

	maxAge, sMaxAge, minFresh, maxStale, staleIfError, staleWhileRevalidate delta
}

// flags and deltas are all parts of the directives, in the order in which a
// record keeps them.
func (d *directives) flags() [12]*bool {
	return [...]*bool{
		&d.present, &d.noStore, &d.noCache, &d.private, &d.public, &d.mustRevalidate, &d.proxyRevalidate,
		&d.mustUnderstand, &d.onlyIfCached, &d.immutable, &d.noTransform, &d.targeted,
	}
}

func (d *directives) deltas() [6]*delta {
	return [...]*delta{&d.maxAge, &d.sMaxAge, &d.minFresh, &d.maxStale, &d.staleIfError, &d.staleWhileRevalidate}
}

// requestDirectives reads a request's Cache-Control. Pragma counts only without
// one (RFC 9111 section 5.4).
func requestDirectives(h http.Header) (d directives) {
	if lines := h["Cache-Control"]; len(lines) > 0 {
		return parseControl(lines)
	}
	members(h["Pragma"], func(m string) bool {
		d.noCache = d.noCache || strings.EqualFold(m, "no-cache")
		return true
	})
	return d
}

func parseControl(lines []string) (d directives) {
	d.present = len(lines) > 0
	for _, line := range lines {
		for line != "" {
			var name, arg string
			var valid bool
			name, arg, valid, line = nextDirective(line)
			d.set(name, arg, valid)
		}
	}
	return d
}

// set records one directive. A directive that allows reuse and cannot be read
// allows nothing; one that forbids it does so with any argument.
func (d *directives) set(name, arg string, valid bool) {
	switch strings.ToLower(name) {
	case "no-store":
		d.noStore = true
	case "no-cache":
		d.noCache = true
	case "private":
		d.private = true
	case "public":
		d.public = true
	case "must-revalidate":
		d.mustRevalidate = true
	case "proxy-revalidate":
		d.proxyRevalidate = true
	case "must-understand":
		d.mustUnderstand = true
	case "only-if-cached":
		d.onlyIfCached = true
	case "immutable":
		d.immutable = true
	case "no-transform":
		d.noTransform = true
	case "max-age":
		d.maxAge.first(arg, valid)
	case "s-maxage":
		d.sMaxAge.first(arg, valid)
	case "min-fresh":
		d.minFresh.first(arg, valid)
	case "stale-if-error":
		d.staleIfError.first(arg, valid)
	case "stale-while-revalidate":
		d.staleWhileRevalidate.first(arg, valid)
	case "max-stale":
		if arg == "" && valid { // RFC 9111 section 5.2.1.2: of any age
			d.maxStale = delta{maxDelta, true}
		}
		d.maxStale.first(arg, valid)
	}
}

// first keeps the first occurrence (RFC 9111 section 4.2.1). An invalid number
// counts as zero: the response is stale.
func (v *delta) first(arg string, valid bool) {
	if v.set {
		return
	}
	v.set = true
	if seconds, ok := parseDelta(arg); ok && valid {
		v.Duration = seconds
	}
}

// nextDirective cuts the first directive off a line. An argument may stand in
// quotes whatever the directive's own syntax says (RFC 9111 section 5.2). A
// quote that never ends does not swallow what follows: a no-store behind it
// counts.
func nextDirective(line string) (name, arg string, valid bool, rest string) {
	line = strings.TrimLeft(line, " \t,")
	end := strings.IndexAny(line, "=,")
	if end < 0 {
		return trim(line), "", true, ""
	}
	name, rest = line[:end], line[end+1:]
	if line[end] == ',' {
		return trim(name), "", true, rest
	}
	valid = name == trim(name) // no whitespace around the equals sign
	if strings.HasPrefix(rest, `"`) {
		if quoted := quotedLen(rest); quoted > 0 {
			arg = rest[1 : quoted-1]
			junk, after, _ := strings.Cut(rest[quoted:], ",")
			return trim(name), arg, valid && trim(junk) == "", after
		}
	}
	arg, rest, _ = strings.Cut(rest, ",")
	arg = strings.TrimRight(arg, " \t")
	return trim(name), arg, valid && arg != "", rest
}

// quotedLen returns the length of the quoted-string that s begins with, quotes
// included, or 0 when it does not end.
func quotedLen(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}
