// Package coding encodes and decodes bodies on their way, as content codings do (RFC
// 9110 section 8.4): zstd (RFC 8878), brotli (RFC 7932) and gzip (RFC 1952).
//
// A Source says what has come and when it has to be waited for, so that an encoder
// never holds back what a visitor could have. Encoders and decoders are pooled: one
// takes up to some mebibytes, and a crowd would make thousands.
//
// The package decides nothing: not what is encoded, nor for whom. It starts no
// goroutine.
package coding

import (
	"fmt"
	"strings"
)

// A Coding is a content coding. The zero value is none, and called identity.
type Coding uint8

// The codings.
const (
	Identity Coding = iota
	Gzip
	Brotli
	Zstd
)

// All are the codings that are one, the most useful first: what is chosen where a
// visitor likes several alike.
var All = []Coding{Zstd, Brotli, Gzip}

var names = [...]string{Identity: "identity", Gzip: "gzip", Brotli: "br", Zstd: "zstd"}

// String returns the name in Accept-Encoding and Content-Encoding.
func (c Coding) String() string { return names[c] }

// Parse reads a name, in any letter case (RFC 9110 section 8.4.1), and x-gzip. It is
// not ok for codings that the package does not have.
func Parse(name string) (Coding, bool) {
	if strings.EqualFold(name, "x-gzip") {
		return Gzip, true
	}
	for c, known := range names {
		if strings.EqualFold(name, known) {
			return Coding(c), true
		}
	}
	return Identity, false
}

// ParseAll reads names of codings. Without any it returns All.
func ParseAll(names []string) ([]Coding, error) {
	if len(names) == 0 {
		return All, nil
	}
	var all []Coding
	for _, name := range names {
		c, ok := Parse(name)
		if !ok || c == Identity {
			return nil, fmt.Errorf("%q is not a coding; they are zstd, br and gzip", name)
		}
		all = append(all, c)
	}
	return all, nil
}
