package cache

import (
	"crypto/rand"
	"maps"
	randv2 "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"spillway/edge/coding"
)

// This file says which answers are sent in another content coding than they came in,
// and what such an answer says of itself. It is a representation of its own (RFC 9110
// section 8.4), which exists only beside the answer that it was made from.

// leastEncoded is the smallest body that is encoded, in bytes. A smaller one fits into
// a packet or two however it is sent. Not a knob.
const leastEncoded = 1 << 10

// newNumber returns that of an answer. It begins anywhere: what an earlier process may have
// stored must not be taken for what was made of this one's.
func newNumber() uint64 { return firstNumber + numbers.Add(1) }

var (
	firstNumber = randv2.Uint64()
	numbers     atomic.Uint64
)

// recodable reports whether an answer may be sent in another coding, as far as its head
// tells: it is whole text, not of one visitor's, and nothing forbids it.
func (e *Entry) recodable(length int64) bool {
	h := e.header
	switch {
	case e.status == http.StatusPartialContent || e.status == http.StatusNoContent || e.status == http.StatusResetContent,
		len(h["Content-Range"]) > 0,
		length == 0,
		e.coding == coding.Identity && length > 0 && length < leastEncoded,
		!coding.Compressible(first(h, "Content-Type")),
		e.control.noTransform, parseControl(h["Cache-Control"]).noTransform: // RFC 9111 section 5.2.2.6
		return false
	}
	// What is stored for one visitor alone may hold a secret beside what a stranger made
	// the visitor send, and the length of both together tells of the secret (BREACH).
	return !e.personal()
}

// personal reports whether the entry is chosen by what a visitor is known by.
func (e *Entry) personal() bool {
	return slices.ContainsFunc(e.vary, nominated.secret)
}

// secret reports whether the value may be what lets a visitor in: those fields, and all of
// Cookie where cookieValue takes that for one cookie's.
func (f nominated) secret() bool {
	return f.name == "Cookie" || f.name == "Authorization" ||
		strings.HasPrefix(f.name, cookiePart) && strings.Contains(f.value, ";")
}

// codingOf returns the coding that a body has. It is not ok for one that is not known,
// and for several.
func codingOf(h http.Header) (coding.Coding, bool) {
	switch lines := h["Content-Encoding"]; len(lines) {
	case 0:
		return coding.Identity, true
	case 1:
		return coding.Parse(trim(lines[0]))
	}
	return coding.Identity, false
}

// recodes reports whether requests under the policy get the answer in various codings.
func (e *Entry) recodes(p *Policy) bool { return e.mayRecode && p.recodes() }

// recodes reports whether answers are sent in various codings. The policy may be nil.
func (p *Policy) recodes() bool { return p != nil && len(p.codings) > 0 }

// wanted returns the coding in which r is answered.
func (e *Entry) wanted(r *http.Request, p *Policy) coding.Coding {
	accepted, present := fieldValue(r.Header, "Accept-Encoding")
	switch {
	case parseControl(r.Header["Cache-Control"]).noTransform: // RFC 9111 section 5.2.1.6
		return e.coding
	case e.coding == coding.Identity:
		if !present {
			return coding.Identity
		}
		return preferredCoding(accepted, p.codings)
	case accepts(accepted, e.coding):
		return e.coding
	}
	// Without the field any coding would do by RFC 9110 section 12.5.3; programs that
	// send none seldom decode.
	return coding.Identity
}

// preferredCoding chooses by an Accept-Encoding (RFC 9110 section 12.5.3): of those that
// weigh most the first one that is offered. A field that is not understood gets none.
func preferredCoding(accepted string, offered []coding.Coding) coding.Coding {
	var p preferences
	if !p.read(accepted) {
		return coding.Identity
	}
	best, most := coding.Identity, 0
	for _, c := range offered {
		if weight, _ := p.weight(c.String()); weight > most {
			best, most = c, weight
		}
	}
	if weight, named := p.weight("identity"); named && weight > most {
		return coding.Identity
	}
	return best
}

// accepts reports whether an Accept-Encoding names a coding, or a star that covers it.
func accepts(accepted string, c coding.Coding) bool {
	var p preferences
	if !p.read(accepted) {
		return false
	}
	weight, _ := p.weight(c.String())
	return weight > 0
}

// weight returns what a coding weighs, and whether it is named: a star stands for those
// that are not.
func (p *preferences) weight(name string) (weight int, named bool) {
	if pref := p.find(&preference{name: name}); pref != nil {
		return pref.weight, true
	}
	if star := p.find(&preference{name: "*"}); star != nil && name != "identity" {
		return star.weight, false
	}
	return 0, false
}

// in returns the entry's head in another coding, without a body. Two bodies that are the
// same once decoded may differ byte for byte, as they were encoded at another pace: the
// salt tells their entity tags apart.
func (e *Entry) in(c coding.Coding, salt string) *Entry {
	d := *e
	d.header = maps.Clone(e.header)
	for _, name := range [...]string{
		"Content-Encoding", "Content-Length", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest", // of other bytes
	} {
		delete(d.header, name)
	}
	if c != coding.Identity {
		d.header["Content-Encoding"] = []string{c.String()}
	}
	d.header["Vary"] = varyOnEncoding(e.header["Vary"])
	tag := recodedTag(first(e.header, "Etag"), c, salt)
	if tag != "" {
		d.header["Etag"] = []string{tag}
	}
	if !strongTag(tag) {
		delete(d.header, "Accept-Ranges") // see steady
	}
	d.coding, d.salt, d.mayRecode, d.body, d.part, d.hold = c, salt, false, nil, nil, hold{}
	return &d
}

// newSalt returns text that no other body's entity tag has.
func newSalt() string { return rand.Text()[:saltLen] }

const saltLen = 10

// saltMark begins the salt of an entity tag, behind the coding.
const saltMark = "~"

// recodedTag returns the entity tag of what was made of a representation with this tag:
// a strong one differs (RFC 9110 section 8.8.3.3), "a" becomes "a~br~SALT", and W/"a"
// becomes W/"a~br".
func recodedTag(tag string, c coding.Coding, salt string) string {
	weak := strings.HasPrefix(tag, "W/")
	opaque := strings.TrimPrefix(tag, "W/")
	if opaque == "" || tagLen(opaque) != len(opaque) {
		return ""
	}
	opaque = opaque[:len(opaque)-1] + saltMark + c.String()
	if weak {
		return "W/" + opaque + `"`
	}
	return opaque + saltMark + salt + `"`
}

// unsalted returns an opaque-tag up to the salt of recodedTag, if it has one: the weak
// comparison of RFC 9110 section 8.8.3.2 asks whether two representations say the same.
func unsalted(opaque string) string {
	end := len(opaque) - 1 - saltLen
	if end < len(saltMark) || opaque[end-len(saltMark):end] != saltMark {
		return opaque
	}
	rest := opaque[:end-len(saltMark)]
	at := strings.LastIndex(rest, saltMark)
	if at < 0 {
		return opaque
	}
	if _, ok := coding.Parse(rest[at+len(saltMark):]); !ok {
		return opaque
	}
	return rest
}

// originalTag returns the entity tag of what was encoded into the representation with this
// strong one, or nothing for a tag that recodedTag did not make.
func originalTag(opaque string) string {
	made := unsalted(opaque)
	if made == opaque {
		return ""
	}
	return made[:strings.LastIndex(made, saltMark)] + `"`
}

// matchingOriginals returns the request that is sent for r. Who changes what was read in a
// coding that was made here says so by an entity tag that the origin does not know; it
// compares strongly (RFC 9110 section 13.1.1) and would refuse each change. So If-Match
// names what that was made of as well.
func matchingOriginals(r *http.Request) *http.Request {
	if methodStorable(r.Method) || len(r.Header["If-Match"]) == 0 {
		return r
	}
	var originals []string
	members(r.Header["If-Match"], func(tag string) bool {
		if original := originalTag(tag); original != "" && tagLen(tag) == len(tag) {
			originals = append(originals, original)
		}
		return true
	})
	if len(originals) == 0 {
		return r
	}
	out := new(http.Request)
	*out = *r
	out.Header = maps.Clone(r.Header)
	lines := append(slices.Clone(r.Header["If-Match"]), originals...)
	out.Header["If-Match"] = []string{strings.Join(lines, ", ")} // many servers read one line alone
	return out
}

// steady reports whether the ranges that r asks for are ranges of one body. What was
// encoded here, and would be again, is named by a strong entity tag alone; a date may
// mean it as well as what it was made of.
func (e *Entry) steady(r *http.Request) bool {
	tag := first(e.header, "Etag")
	byTag := len(r.Header["If-Range"]) == 0 || trim(r.Header["If-Range"][0]) == tag
	if e.salt == "" {
		return byTag || !e.mayRecode || len(r.Header["Accept-Encoding"]) == 0
	}
	return byTag && strongTag(tag)
}

// varyOnEncoding returns the lines of Vary with Accept-Encoding among them.
func varyOnEncoding(lines []string) []string {
	if len(lines) == 0 {
		return onEncoding
	}
	there := false
	members(lines, func(m string) bool {
		there = m == "*" || strings.EqualFold(m, "Accept-Encoding")
		return !there
	})
	if there {
		return lines
	}
	return append(lines[:len(lines):len(lines)], "Accept-Encoding")
}

var onEncoding = []string{"Accept-Encoding"}

// NotModifiedTag returns the entity tag that a 304 to r names, if that is another than
// the response's: the one of the same content in the same coding that the visitor has.
func NotModifiedTag(r *http.Request, h http.Header) (tag string, other bool) {
	own := first(h, "Etag")
	opaque := strings.TrimPrefix(own, "W/")
	if unsalted(opaque) == opaque {
		return "", false
	}
	tag = matchedTag(r.Header["If-None-Match"], own)
	return tag, tag != "" && tag != own
}
