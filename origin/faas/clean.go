package faas

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
)

// The most header that a function may answer with. Not knobs: no browser takes
// much more.
const (
	maxFields      = 100
	maxHeaderBytes = 64 << 10
)

// hopByHop are the fields of one connection. RFC 9110 section 7.6.1; the older
// names are those that implementations still use.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
}

// CleanRequest takes out of h what must not reach a function: the fields of one
// connection, and those by which a platform would believe a visitor to be the
// edge or the platform itself.
//
// It knows the fields by their proper names only, and relies on origin.Outgoing,
// by which every request passes on its way here, to have removed the odd
// variants that some platforms take for the same, such as those with an
// underscore.
func CleanRequest(h http.Header) {
	dropHopByHop(h)
	for name := range h {
		lower := strings.ToLower(name)
		if hasPrefix(lower, "x-amzn-", "x-amz-", "x-spillway-", "x-serverless-") || lower == "x-functions-key" {
			delete(h, name)
		}
	}
}

// clean takes out of a function's answer what is not the function's to say. An
// error means that the answer cannot be shown.
func clean(h http.Header) error {
	dropHopByHop(h)
	for name := range h {
		lower := strings.ToLower(name)
		switch {
		// How long an answer is and when it was made, the edge says. Alt-Svc would
		// send visitors past the edge, and the rest tells about the platform.
		case lower == "content-length", lower == "date", lower == "alt-svc", lower == "server-timing",
			lower == "spillway", hasPrefix(lower, "x-amzn-", "x-amz-", "x-google-", "x-spillway-", "endpoint-load-metrics"):
			delete(h, name)
		}
	}
	fields := 0
	for name, values := range h {
		if !validName(name) {
			return fmt.Errorf("header field name %.40q is not a token", name)
		}
		for _, value := range values {
			if !validValue(value) {
				return fmt.Errorf("header field %s has a control character", name)
			}
			fields++
		}
	}
	if size := headerSize(h); fields > maxFields || size > maxHeaderBytes {
		return fmt.Errorf("header has %d fields and %d bytes", fields, size)
	}
	return nil
}

// headerSize is how many bytes the fields have on their way.
func headerSize(h http.Header) (size int64) {
	for name, values := range h {
		for _, value := range values {
			size += int64(len(name) + len(value) + len(": \r\n"))
		}
	}
	return size
}

func dropHopByHop(h http.Header) {
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

func hasPrefix(s string, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// validName reports whether s is a token, RFC 9110 section 5.6.2.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && !('0' <= c && c <= '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// validValue reports whether s may stand in a field value, RFC 9110 section 5.5:
// visible characters, opaque bytes, space and tab.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
