package overflow

import (
	"net/http"
	"slices"
	"strings"
)

// A Policy is a route's Config, ready for use. It is immutable.
type Policy struct {
	// At is the share of the learned limit that the route's requests may fill.
	At float64
	// PrewarmAt is the share of the origin's capacity above which functions are made
	// ready; zero is never.
	PrewarmAt float64
	// MaxBody is the largest request body that may spill, in bytes.
	MaxBody int64

	methods []string
}

// New returns the policy of c.
func New(c Config) *Policy {
	p := &Policy{At: c.At, PrewarmAt: c.PrewarmAt, MaxBody: c.MaxBody}
	for _, m := range c.Methods {
		p.methods = append(p.methods, strings.ToUpper(m))
	}
	return p
}

// Spills reports whether requests of the method may leave the origin.
func (p *Policy) Spills(method string) bool { return slices.Contains(p.methods, method) }

// Safe reports whether a method is safe by RFC 9110 section 9.2.1.
func Safe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// Idempotent reports whether a method is idempotent by RFC 9110 section 9.2.2.
func Idempotent(method string) bool {
	return Safe(method) || method == http.MethodPut || method == http.MethodDelete
}
