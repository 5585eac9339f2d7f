package cache

import (
	"strings"
	"time"
)

// maxDelta is what every larger number of seconds counts as (RFC 9111 section
// 1.2.2). Sums of a few of them still fit into a time.Duration.
const maxDelta = 1 << 31 * time.Second

// parseDelta reads delta-seconds. It saturates instead of wrapping; a sign, a
// fraction or any other character makes the value invalid.
func parseDelta(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var seconds int64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if seconds <= 1<<31 {
			seconds = seconds*10 + int64(c-'0')
		}
	}
	return time.Duration(min(seconds, 1<<31)) * time.Second, true
}

// parseAge reads Age (RFC 9111 section 5.1). It is not ok when the field is there,
// and not one number.
func parseAge(lines []string) (age time.Duration, ok bool) {
	switch len(lines) {
	case 0:
		return 0, true
	case 1:
		return parseDelta(trim(lines[0]))
	}
	return 0, false
}

// parseDate reads an HTTP-date. Of several lines the first counts (RFC 9111
// section 4.2.1).
func parseDate(lines []string) (time.Time, bool) {
	if len(lines) == 0 {
		return time.Time{}, false
	}
	return httpTime(trim(lines[0]), time.Now())
}

// members calls f with each non-empty member of a comma-separated list of
// tokens, over all lines, until f returns false.
func members(lines []string, f func(string) bool) {
	for _, line := range lines {
		for line != "" {
			var member string
			member, line, _ = strings.Cut(line, ",")
			if member = trim(member); member != "" && !f(member) {
				return
			}
		}
	}
}

// trim removes optional whitespace (RFC 9110 section 5.6.3).
func trim(s string) string { return strings.Trim(s, " \t") }

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}
