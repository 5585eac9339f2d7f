package cache

import (
	"net/http"
	"strings"
)

// This file compares what requests say they prefer: the fields of proactive
// negotiation (RFC 9110 section 12.5). RFC 9111 section 4.1 lets values match
// that have the same meaning, and a cache may choose among stored responses by
// the preferences itself.

// A preference is a member of Accept, Accept-Charset, Accept-Encoding or
// Accept-Language.
type preference struct {
	name   string // in any letter case
	params string // of a media range, as sent, without the weight
	weight int    // in thousandths
}

// maxPreferences bounds the members that are compared. Browsers send fewer than
// ten; a longer list is compared byte for byte.
const maxPreferences = 16

// maxCompared bounds the bytes of a value that is compared by its meaning, which is
// done for each stored variant anew. A longer one is compared byte for byte.
const maxCompared = 512

type preferences struct {
	all [maxPreferences]preference
	n   int
}

// read takes a field's value apart. It fails on what is not read alike by all,
// such as a weight that is none, or two weights for the same.
func (p *preferences) read(value string) bool {
	for value != "" {
		var member string
		member, value, _ = strings.Cut(value, ",")
		if member = trim(member); member == "" {
			continue
		}
		pref, ok := parsePreference(member)
		if !ok || p.n == len(p.all) || p.find(&pref) != nil {
			return false
		}
		p.all[p.n] = pref
		p.n++
	}
	return true
}

// find returns the member for the same as pref.
func (p *preferences) find(pref *preference) *preference {
	for i := range p.all[:p.n] {
		if have := &p.all[i]; have.params == pref.params && strings.EqualFold(have.name, pref.name) {
			return have
		}
	}
	return nil
}

func parsePreference(member string) (p preference, ok bool) {
	p.weight = 1000
	name, params, more := strings.Cut(member, ";")
	p.name = plainCoding(trim(name))
	if !more {
		return p, !strings.ContainsAny(p.name, `"`)
	}
	last, before, _ := cutLastParam(params)
	if key, value, isPair := strings.Cut(last, "="); isPair && strings.EqualFold(key, "q") {
		params = before
		p.weight, ok = parseWeight(value)
		if !ok {
			return p, false
		}
	}
	p.params = trim(params)
	// A quoted string may hold commas and semicolons; what follows a weight is of no
	// meaning (RFC 9110 section 12.5.1).
	return p, !strings.ContainsAny(member, `"`) && !hasWeight(p.params)
}

// cutLastParam cuts a list of parameters at its last semicolon.
func cutLastParam(params string) (last, before string, more bool) {
	i := strings.LastIndexByte(params, ';')
	return trim(params[i+1:]), params[:max(i, 0)], i >= 0
}

func hasWeight(params string) bool {
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		if key, _, ok := strings.Cut(trim(param), "="); ok && strings.EqualFold(key, "q") {
			return true
		}
	}
	return false
}

// parseWeight reads a qvalue (RFC 9110 section 12.4.2).
func parseWeight(s string) (weight int, ok bool) {
	if s == "" || s[0] != '0' && s[0] != '1' || len(s) > 5 || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	weight = int(s[0]-'0') * 1000
	for i, unit := 2, 100; i < len(s); i, unit = i+1, unit/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		weight += int(s[i]-'0') * unit
	}
	return weight, weight <= 1000
}

// plainCoding replaces the names of old that RFC 9110 section 8.4.1 has for two
// content codings.
func plainCoding(name string) string {
	if strings.EqualFold(name, "x-gzip") || strings.EqualFold(name, "x-compress") {
		return name[2:]
	}
	return name
}

// samePreferences reports whether two values prefer the same to the same degree.
// The order of members means nothing (RFC 9110 sections 12.5.3 and 12.5.4). What
// one excludes the other excludes, too.
func samePreferences(a, b string) bool {
	var these, those preferences
	if !these.read(a) || !those.read(b) || these.n != those.n {
		return false
	}
	for i := range these.all[:these.n] {
		other := those.find(&these.all[i])
		if other == nil || other.weight != these.all[i].weight {
			return false
		}
	}
	return true
}

// prefers reports whether a value names one thing, and wants nothing more than
// it or as much.
func prefers(value, name string) bool {
	var p preferences
	best := preference{name: plainCoding(name)}
	if !p.read(value) {
		return false
	}
	named := p.find(&best)
	if named == nil || named.weight == 0 {
		return false
	}
	for i := range p.all[:p.n] {
		if other := &p.all[i]; other != named && other.weight >= named.weight {
			return false
		}
	}
	return true
}

// sameMeaning reports whether two values of a field that differ mean the same
// (RFC 9111 section 4.1).
func sameMeaning(name, a, b string) bool {
	if max(len(a), len(b)) > maxCompared {
		return false
	}
	switch name {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language":
		return samePreferences(a, b)
	case "Authorization", "Cookie", "Origin", "Referer", "User-Agent": // no lists
		return false
	}
	return name[0] != partMark && sameList(a, b)
}

// sameList reports whether two lists differ in nothing but the whitespace around
// their commas. A comma in a quoted string parts nothing.
func sameList(a, b string) bool {
	for {
		endA, endB := memberLen(a), memberLen(b)
		if trim(a[:endA]) != trim(b[:endB]) {
			return false
		}
		if endA == len(a) || endB == len(b) {
			return endA == len(a) && endB == len(b)
		}
		a, b = a[endA+1:], b[endB+1:]
	}
}

// memberLen returns the length of the list member that s begins with.
func memberLen(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ',':
			return i
		case '"':
			quoted := quotedLen(s[i:])
			if quoted == 0 {
				return len(s)
			}
			i += quoted - 1
		}
	}
	return len(s)
}

// suits reports whether an entry that another request has selected is what r
// prefers to all else: its language, or its content coding, is the one with the
// highest weight. Where several weigh the same, the server chooses, not the cache.
// It is what RFC 9110 section 12.1 has servers do; the other fields that Vary
// names must match.
func (e *Entry) suits(r *http.Request) bool {
	if len(e.vary) == 0 || e.status != http.StatusOK || !e.released(r) {
		return false
	}
	for i := range e.vary {
		f := &e.vary[i]
		if value, present := fieldValue(r.Header, f.name); !f.matches(value, present) && !(present && e.preferredBy(f.name, value)) {
			return false
		}
	}
	return true
}

func (e *Entry) preferredBy(name, value string) bool {
	if len(value) > maxCompared {
		return false
	}
	switch name {
	case "Accept-Language":
		language := first(e.header, "Content-Language")
		return language != "" && len(e.header["Content-Language"]) == 1 && prefers(value, language)
	case "Accept-Encoding":
		coding := "identity"
		if lines := e.header["Content-Encoding"]; len(lines) > 1 {
			return false
		} else if len(lines) == 1 {
			coding = trim(lines[0])
		}
		return prefers(value, coding) || value == "" && coding == "identity" // RFC 9110 section 12.5.3
	}
	return false
}
