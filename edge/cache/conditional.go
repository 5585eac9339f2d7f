package cache

import (
	"maps"
	"net/http"
	"strings"
)

// NotModified reports whether the request's own conditions turn this entry into
// a 304 (RFC 9111 section 4.3.2).
func (e *Entry) NotModified(r *http.Request) bool {
	return notModified(r, e.status, e.header, "Date")
}

// NotModified reports whether the conditions of a GET or HEAD request turn a
// response with this header into a 304, in the order of RFC 9110 section 13.2.2.
// Only successful responses are conditional (section 13.2.1).
func NotModified(r *http.Request, status int, h http.Header) bool {
	return notModified(r, status, h, "")
}

// notModified is NotModified with a field to go by where there is no
// Last-Modified: RFC 9111 section 4.3.2 takes the Date of a stored response, and
// nothing of one that has just come (RFC 9110 section 13.1.3).
func notModified(r *http.Request, status int, h http.Header, instead string) bool {
	if status < 200 || status > 299 || !methodStorable(r.Method) {
		return false
	}
	if lines := r.Header["If-None-Match"]; len(lines) > 0 {
		return matchesETag(lines, first(h, "Etag"))
	}
	since, ok := parseDate(r.Header["If-Modified-Since"])
	if !ok {
		return false
	}
	modified, ok := parseDate(h["Last-Modified"])
	if !ok {
		modified, ok = parseDate(h[instead])
	}
	return ok && !modified.After(since)
}

// matchesETag implements If-None-Match (RFC 9110 section 13.1.2) with the weak
// comparison of section 8.8.3.2. A star matches whatever exists.
func matchesETag(lines []string, etag string) bool { return matchedTag(lines, etag) != "" }

// matchedTag returns the entity tag of the field that matches, or a star. Of what was
// encoded here one body is like another: what they say is the same.
func matchedTag(lines []string, etag string) string {
	opaque := unsalted(strings.TrimPrefix(etag, "W/"))
	for _, line := range lines {
		for line = trim(line); line != ""; {
			if line[0] == ',' || line[0] == ' ' || line[0] == '\t' {
				line = line[1:]
				continue
			}
			if line[0] == '*' {
				return "*"
			}
			sent := line
			line = strings.TrimPrefix(line, "W/")
			end := tagLen(line)
			if end == 0 {
				break // not an entity tag: the rest of the line means nothing
			}
			if unsalted(line[:end]) == opaque {
				return sent[:len(sent)-len(line)+end]
			}
			line = line[end:]
		}
	}
	return ""
}

// tagLen returns the length of the opaque-tag that s begins with. Unlike a
// quoted-string it has no escapes (RFC 9110 section 8.8.3).
func tagLen(s string) int {
	if s[0:min(1, len(s))] != `"` {
		return 0
	}
	end := strings.IndexByte(s[1:], '"')
	if end < 0 {
		return 0
	}
	return end + 2
}

func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return trim(values[0])
	}
	return ""
}

// forwarded returns the request that is sent for r. The visitor's own
// conditions are taken out, since a 304 to them could not be stored; with a
// stale entry its validators take their place (RFC 9111 section 4.3.1).
func forwarded(r *http.Request, stale *Entry) *http.Request {
	h := r.Header
	validate := stale != nil && stale.validators()
	if !validate && len(h["If-None-Match"]) == 0 && len(h["If-Modified-Since"]) == 0 {
		return r
	}
	out := new(http.Request)
	*out = *r
	out.Header = maps.Clone(h)
	delete(out.Header, "If-None-Match")
	delete(out.Header, "If-Modified-Since")
	if validate {
		if etag := stale.header["Etag"]; len(etag) > 0 {
			out.Header["If-None-Match"] = etag[:1:1]
		}
		if modified := stale.header["Last-Modified"]; len(modified) > 0 {
			out.Header["If-Modified-Since"] = modified[:1:1]
		}
	}
	return out
}

// validates reports whether a 304 speaks of this entry (RFC 9111 section 4.3.4):
// the entity tag that it has is the entry's, or without one its Last-Modified is,
// as far as both have one.
func validates(e *Entry, h http.Header) bool {
	if etag := first(h, "Etag"); etag != "" {
		return strings.TrimPrefix(etag, "W/") == strings.TrimPrefix(first(e.header, "Etag"), "W/")
	}
	modified, stored := first(h, "Last-Modified"), first(e.header, "Last-Modified")
	return modified == "" || stored == "" || modified == stored
}

// updated returns the entry's header with the fields of a 304 in it (RFC 9111
// section 3.2).
func updated(e *Entry, h http.Header) http.Header {
	merged := maps.Clone(e.header)
	for name, values := range h {
		if !keptOnUpdate(name) && !neverStored(h, name) {
			merged[name] = values
		}
	}
	if tag := e.header["Etag"]; strings.HasPrefix(first(e.header, "Etag"), "W/") {
		merged["Etag"] = tag // what is as good is not the same to the byte: RFC 9110 section 8.8.1
	}
	if age := h["Age"]; len(age) > 0 {
		merged["Age"] = age
	}
	if len(h["Date"]) == 0 {
		delete(merged, "Date") // the answer is as old as the 304, not as the entry
	}
	return merged
}

// keptOnUpdate lists what a 304 never changes, because the stored body depends
// on it (RFC 9111 section 3.2). Content-Length is among neverStored.
func keptOnUpdate(name string) bool {
	switch name {
	case "Content-Encoding", "Content-Md5", "Content-Range":
		return true
	}
	return false
}
