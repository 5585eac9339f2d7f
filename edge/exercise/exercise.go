// Package exercise proves that functions answer as the origin does, before a crowd
// depends on it: a path that runs only in the disaster is broken.
//
// Now and then ([Pace]) a request that the origin has answered is put to a function,
// too. [Rules] say which answers prove anything and compare the two, and a [Proof]
// remembers what came of it. The visitor has the origin's answer by then, and
// nothing here is on the way of it.
//
// It fails towards doubt: what could not be compared proves nothing, and a proof
// that is a day old is none any more. It calls nothing, spends nothing and logs
// nothing: that is the caller's.
package exercise

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// MaxBody is how much of an answer is kept for a comparison, as it was sent. Not a
// knob: what is larger is rarely made by a function, and costs a thousand times
// what a small answer does.
const MaxBody = 1 << 20

// How bodies are compared.
const (
	Exact = "exact" // byte for byte, once decompressed
	JSON  = "json"  // as values, whatever the order of members and the space between them
	Off   = "off"   // not at all
)

// Rules say what has to be equal. They are immutable.
type Rules struct {
	fields []string // canonical names
	body   string
}

// NewRules returns rules by which the fields of those names are compared, and bodies
// as that word says.
func NewRules(fields []string, body string) Rules {
	r := Rules{body: body}
	for _, name := range fields {
		r.fields = append(r.fields, textproto.CanonicalMIMEHeaderKey(name))
	}
	return r
}

// Equal reports whether both ask for the same.
func (r *Rules) Equal(other *Rules) bool {
	return r.body == other.body && slices.Equal(r.fields, other.fields)
}

// An Answer is one that the origin gave. Body is nil where it is not compared.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Takes reports whether answers to a method say enough. Those to HEAD, which a monitor
// asks all night, do so only where bodies are not compared.
func (r *Rules) Takes(method string) bool {
	return method == http.MethodGet || method == http.MethodHead && r.body == Off
}

// Proves reports whether an answer of the origin says how the function should
// answer, by its head. Errors do not: what a stranger mistypes, and how an error
// page looks, proves nothing. 206 and 304 speak of what the visitor has.
func (r *Rules) Proves(method string, resp *http.Response) bool {
	if !r.Takes(method) {
		return false
	}
	switch s := resp.StatusCode; {
	case s < 200, s >= 400, s == http.StatusPartialContent, s == http.StatusMultipleChoices, s == http.StatusNotModified:
		return false
	}
	if mediaType(resp.Header) == "text/event-stream" {
		return false
	}
	return !r.NeedsBody(resp.StatusCode) || resp.ContentLength <= MaxBody && readable(resp.Header)
}

// NeedsBody reports whether the body of an answer is compared. That of a redirect is
// a courtesy, and differs between programs.
func (r *Rules) NeedsBody(status int) bool {
	return r.body != Off && status < 300 && status != http.StatusNoContent
}

// conditional are the fields that ask for less than the whole (RFC 9110 sections 13.1
// and 14.2).
var conditional = []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"}

// Ask makes of the header of a visitor's request one that asks for the whole answer,
// in a form that can be compared.
func Ask(h http.Header) {
	for _, name := range conditional {
		delete(h, name)
	}
	encoding := "identity"
	if takesGzip(h["Accept-Encoding"]) {
		encoding = "gzip"
	}
	h["Accept-Encoding"] = []string{encoding}
}

// takesGzip reads a field by RFC 9110 section 12.5.3.
func takesGzip(lines []string) bool {
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		coding, weight, _ := strings.Cut(strings.ToLower(part), ";")
		weight = strings.Trim(strings.TrimPrefix(strings.ReplaceAll(weight, " ", ""), "q="), "0.")
		if isGzip(strings.TrimSpace(coding)) && (weight != "" || !strings.Contains(part, ";")) {
			return true
		}
	}
	return false
}

// readable reports whether a body can be decompressed here.
func readable(h http.Header) bool {
	coding := encoding(h)
	return coding == "" || isGzip(coding)
}

func isGzip(coding string) bool { return coding == "gzip" || coding == "x-gzip" }

// encoding is what a body is compressed by; empty for nothing.
func encoding(h http.Header) string {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(h["Content-Encoding"], ",")))
	if coding == "identity" {
		return ""
	}
	return coding
}

func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// list splits the value of a field whose order and letter case mean nothing.
func list(lines []string) []string {
	var all []string
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if part = strings.ToLower(strings.TrimSpace(part)); part != "" {
			all = append(all, part)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
