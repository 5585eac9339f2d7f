package cache

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// maxVary bounds the fields that one response may nominate.
const maxVary = 32

// A nominated field is one that Vary names, with the value that the request
// had. An absent field is a value of its own (RFC 9111 section 4.1).
type nominated struct {
	name    string
	value   string
	present bool
}

// varyNames returns the fields that Vary names, in canonical form. It is not ok
// when no other request can ever match: for a star (RFC 9111 section 4.1), for
// what is not a field name, and for fields that the node itself writes, since
// what the origin saw there is not what the visitor sent.
func varyNames(h http.Header) (names []string, ok bool) {
	ok = true
	members(h["Vary"], func(m string) bool {
		name := textproto.CanonicalMIMEHeaderKey(m)
		ok = isToken(m) && m != "*" && !writtenByNode(name) && len(names) < maxVary
		if name != "Host" && !slices.Contains(names, name) { // the host is part of the key
			names = append(names, name)
		}
		return ok
	})
	return names, ok
}

// writtenByNode lists fields of the forwarded request that the node sets or
// removes.
func writtenByNode(name string) bool {
	switch name {
	case "Forwarded", "Via", "X-Real-Ip", "X-Request-Id", "Early-Data",
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range":
		return true
	}
	return hopByHop(name) || strings.HasPrefix(name, "X-Forwarded-")
}

// nominate takes the request's values of the named fields.
func nominate(r http.Header, names []string) []nominated {
	if len(names) == 0 {
		return nil
	}
	fields := make([]nominated, len(names))
	for i, name := range names {
		value, present := fieldValue(r, name)
		fields[i] = nominated{name, value, present}
	}
	return fields
}

// matches reports whether a request has the same values (RFC 9111 section 4.1).
func matches(fields []nominated, r http.Header) bool {
	for i := range fields {
		f := &fields[i]
		if value, present := fieldValue(r, f.name); !f.matches(value, present) {
			return false
		}
	}
	return true
}

// matches reports whether a value is the same, or means the same. Most often it
// is the same to the byte: only what differs is looked at closer.
func (f *nominated) matches(value string, present bool) bool {
	return present == f.present && (value == f.value || present && sameMeaning(f.name, value, f.value))
}

// fieldValue combines the lines of a field and strips the whitespace around it,
// as RFC 9111 section 4.1 allows. One line, the usual case, allocates nothing. A
// part of the key that a policy names stands among the fields.
func fieldValue(h http.Header, name string) (value string, present bool) {
	if name[0] == partMark {
		return partValue(h, name)
	}
	switch lines := h[name]; len(lines) {
	case 0:
		return "", false
	case 1:
		return trim(lines[0]), true
	default:
		return trim(strings.Join(lines, ", ")), true
	}
}

// yieldsTo reports whether an older variant would have to go before this one where a
// request selects both, because it is the more recent by its Date (RFC 9111 section
// 4). Two that nominate the same fields are never both selected.
func (e *Entry) yieldsTo(older *Entry) bool {
	same := func(a, b nominated) bool { return a.name == b.name }
	if slices.EqualFunc(e.vary, older.vary, same) {
		return false
	}
	date, _ := parseDate(e.header["Date"])
	other, _ := parseDate(older.header["Date"])
	return other.After(date)
}
