package cache

import (
	"net/http"
	"strings"
	"time"
)

// What is told early of a stored response. Not knobs: a page that needs more has no
// use for hints, and older ones have likely become wrong.
const (
	hintsMost  = 16
	hintsBytes = 4 << 10
	hintsFor   = 24 * time.Hour // after the end of its freshness
)

// Hints returns what the stored response to the same URI says in its Link fields to
// load early, for a request that has to go forward (RFC 8297): that of the expired
// entry, or of the newest variant where none is the request's. They are hints. The
// answer may say something else, and goes by what it says itself.
func (c *Cache) Hints(r *http.Request, found *Result, now time.Time) []string {
	e := found.Entry
	if found.State == Miss && found.Why == FwdVaryMiss {
		e = c.sibling(&found.target)
	}
	if e == nil || found.State == Bypass || len(r.Header["Range"]) > 0 || e.status != http.StatusOK || -e.TTL(now) > hintsFor {
		return nil
	}
	return EarlyLinks(e.header["Link"])
}

// sibling returns the newest variant of a key that its Vary chose by nothing that
// tells visitors from each other: what one of them is to load concerns nobody else.
func (c *Cache) sibling(t *target) *Entry {
	fields := c.store.vary(t)
	asked := &http.Request{Header: make(http.Header, len(fields))}
	for _, f := range fields {
		if f.name == "Cookie" || f.name == "Authorization" {
			return nil
		}
		if f.present {
			asked.Header[f.name] = []string{f.value}
		}
	}
	e := c.store.glimpse(t, asked)
	e.release() // its header is the heap's
	return e
}

// EarlyLinks returns the links of a Link field (RFC 8288) that browsers act on when
// they are told early, each as it is written: at most 16, and 4 KiB of them.
func EarlyLinks(lines []string) (early []string) {
	size := 0
	for _, line := range lines {
		for line != "" {
			var link string
			link, line = nextLink(line)
			if !toldEarly(link) {
				continue
			}
			if size += len(link); len(early) == hintsMost || size > hintsBytes {
				return early
			}
			early = append(early, link)
		}
	}
	return early
}

// nextLink cuts the first link off a list. Commas within the target or a quoted
// parameter separate nothing.
func nextLink(list string) (link, rest string) {
	target, quoted := false, false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"' && !target:
			quoted = !quoted
		case quoted:
		case c == '<':
			target = true
		case c == '>':
			target = false
		case c == ',' && !target:
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), ""
}

// toldEarly reports whether a link has a relation that is acted on early. Of several
// rel parameters the first counts (RFC 8288 section 3.3).
func toldEarly(link string) bool {
	end := strings.IndexByte(link, '>')
	if !strings.HasPrefix(link, "<") || end < 0 {
		return false
	}
	for rest := link[end+1:]; rest != ""; {
		var parameter string
		parameter, rest = nextParameter(rest)
		name, value, _ := strings.Cut(parameter, "=")
		if !strings.EqualFold(trim(name), "rel") {
			continue
		}
		for relation := range strings.FieldsSeq(strings.Trim(value, "\" \t")) {
			switch strings.ToLower(relation) {
			case "preload", "preconnect", "modulepreload":
				return true
			}
		}
		return false
	}
	return false
}

// nextParameter cuts the first parameter off a link's.
func nextParameter(list string) (parameter, rest string) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), ""
}
