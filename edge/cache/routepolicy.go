package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"spillway/edge/coding"
)

// PolicyConfig says what the operator of a route knows better than its responses
// do. The zero value adds nothing to RFC 9111.
type PolicyConfig struct {
	// Off keeps the route's requests from the cache: nothing is stored, found or
	// collapsed.
	Off bool `koanf:"off"`
	// TTL is how long answers below 400 that say nothing of their freshness are fresh.
	// It is a guess as heuristics are, and not made for requests with cookies. Zero
	// leaves it to the heuristics.
	TTL time.Duration `koanf:"ttl" unit:"duration"`
	// ForceTTL takes the place of the freshness that answers below 400 have. What
	// forbids to store, to share or to reuse without asking stays in force. Zero is
	// off.
	ForceTTL time.Duration `koanf:"force_ttl" unit:"duration"`
	// NegativeTTL is how long errors are fresh that say nothing of their freshness: by
	// status, or by class as 4xx and 5xx, without those that say something of the request
	// alone.
	NegativeTTL map[string]time.Duration `koanf:"negative_ttl" unit:"duration" format:"status"`
	// StaleWhileRevalidate and StaleIfError are the windows of RFC 5861 for answers
	// that have none. Zero is none.
	StaleWhileRevalidate time.Duration `koanf:"stale_while_revalidate" unit:"duration"`
	StaleIfError         time.Duration `koanf:"stale_if_error" unit:"duration"`

	// Slice is the length of the slices in which objects are stored that are larger than
	// Config.MaxObject, if their origin sends ranges and a strong validator. It is no more
	// than that. Zero is off.
	Slice int64 `koanf:"slice" unit:"bytes" default:"1MiB"`

	Key    KeyConfig    `koanf:"key"`
	Bypass BypassConfig `koanf:"bypass"`

	Compress CompressConfig `koanf:"compress" switch:"off"`
}

// CompressConfig says in which content codings stored answers are sent.
type CompressConfig struct {
	// Off sends answers in the coding in which the origin sends them.
	Off bool `koanf:"off"`
	// Codings are those that answers are encoded in, the preferred one first. Empty is
	// zstd, br and gzip.
	Codings []string `koanf:"codings" enum:"zstd,br,gzip"`
}

// KeyConfig says what tells requests of a route apart, beside the path.
type KeyConfig struct {
	// Query says whether the query does, the parameters below aside.
	Query string `koanf:"query" enum:"all,none" default:"all"`
	// IgnoreQuery are parameters that do not, OnlyQuery the only ones that do; a star
	// at the end stands for any characters.
	IgnoreQuery []string `koanf:"ignore_query" format:"parameter"`
	OnlyQuery   []string `koanf:"only_query" format:"parameter"`
	// SortQuery says that the order of parameters with different names means nothing.
	SortQuery bool `koanf:"sort_query"`
	// Headers and Cookies are named ones whose values tell requests apart.
	Headers []string `koanf:"headers" format:"field"`
	Cookies []string `koanf:"cookies" format:"cookie"`
	// Device tells phones, tablets and all else apart.
	Device bool `koanf:"device"`
}

// BypassConfig names what keeps a request from the cache if it is there. A star at
// the end of a cookie's or a parameter's name stands for any characters.
type BypassConfig struct {
	Cookies []string `koanf:"cookies" format:"cookie"`
	Headers []string `koanf:"headers" format:"field"`
	Query   []string `koanf:"query" format:"parameter"`
}

// A Policy is a PolicyConfig, ready for use. It does not change, and may be used
// concurrently. The zero value, and nil, are RFC 9111 as it stands.
type Policy struct {
	ttl, forceTTL                      time.Duration
	negative                           map[int]time.Duration // a status, or 4 and 5 for a class
	staleWhileRevalidate, staleIfError time.Duration

	slice int64 // zero: none

	query queryRule
	parts []string // names of nominated fields

	bypassCookies, bypassQuery []pattern
	bypassHeaders              []string

	codings []coding.Coding // none: answers are sent in the coding that they come in

	// rules are those of all policies of the site: what one route changes, another
	// may have stored under its own.
	rules []queryRule
}

// NewPolicy compiles a policy. What NewPolicy does not refuse is what the
// configuration's own check lets through; its error says what is wrong.
func NewPolicy(c PolicyConfig) (*Policy, error) {
	p := &Policy{
		ttl: c.TTL, forceTTL: c.ForceTTL, staleWhileRevalidate: c.StaleWhileRevalidate, staleIfError: c.StaleIfError,
		slice:         c.Slice,
		query:         newQueryRule(&c.Key),
		bypassCookies: patterns(c.Bypass.Cookies), bypassQuery: patterns(c.Bypass.Query),
	}
	if err := CheckSlice(c.Slice); err != nil {
		return nil, err
	}
	for _, name := range c.Bypass.Headers {
		p.bypassHeaders = append(p.bypassHeaders, http.CanonicalHeaderKey(name))
	}
	if !c.Compress.Off {
		codings, err := coding.ParseAll(c.Compress.Codings)
		if err != nil {
			return nil, err
		}
		p.codings = codings
	}
	for status, ttl := range c.NegativeTTL {
		code, err := NegativeStatus(status)
		if err != nil {
			return nil, err
		}
		if p.negative == nil {
			p.negative = map[int]time.Duration{}
		}
		p.negative[code] = ttl
	}
	for _, name := range c.Key.Headers {
		if err := CheckKeyHeader(name); err != nil {
			return nil, err
		}
		p.parts = append(p.parts, http.CanonicalHeaderKey(name))
	}
	for _, name := range c.Key.Cookies {
		p.parts = append(p.parts, cookiePart+name)
	}
	if c.Key.Device {
		p.parts = append(p.parts, devicePart)
	}
	if p.query.text != "" {
		p.parts = append(p.parts, queryPart+p.query.text)
	}
	slices.Sort(p.parts)
	p.parts = slices.Compact(p.parts)
	p.rules = []queryRule{p.query}
	return p, nil
}

func newQueryRule(c *KeyConfig) queryRule {
	q := queryRule{none: c.Query == "none", ignore: patterns(c.IgnoreQuery), only: patterns(c.OnlyQuery), sort: c.SortQuery}
	switch {
	case q.none:
		q.text = "none"
	case len(q.ignore)+len(q.only) > 0 || q.sort:
		q.text = fmt.Sprintf("ignore %q, only %q, sort %t", q.ignore, q.only, q.sort)
	}
	return q
}

// Relate tells the policies of one site of each other, before they are used: an
// unsafe request of one route may change what another has stored.
func Relate(all ...*Policy) {
	var rules []queryRule
	for _, p := range all {
		if !slices.ContainsFunc(rules, func(q queryRule) bool { return q.text == p.query.text }) {
			rules = append(rules, p.query)
		}
	}
	for _, p := range all {
		p.rules = rules
	}
}

// NegativeStatus reads a status of NegativeTTL: 400 to 599, 4xx or 5xx, which
// become 4 and 5.
func NegativeStatus(text string) (int, error) {
	switch strings.ToLower(text) {
	case "4xx":
		return 4, nil
	case "5xx":
		return 5, nil
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 400 || code > 599 {
		return 0, fmt.Errorf("%q is not the status of an error", text)
	}
	if aboutClient(code) {
		return 0, fmt.Errorf("%d is about who asks, and not shared", code)
	}
	return code, nil
}

// aboutClient lists the errors that say something of the one who asks, and nothing
// of the target.
func aboutClient(status int) bool {
	switch status {
	case 401, 403, 407, 408, 425, 429, 431:
		return true
	}
	return false
}

// CheckKeyHeader says why a field cannot be a part of the key, or nil.
func CheckKeyHeader(name string) error {
	switch name = http.CanonicalHeaderKey(name); {
	case name == "Host":
		return fmt.Errorf("%s is part of every key", name)
	case name == "Cookie", name == "Authorization":
		return fmt.Errorf("%s is a visitor's own", name)
	case writtenByNode(name):
		return fmt.Errorf("the node writes %s itself, so that the origin sees another value", name)
	}
	return nil
}

// bypasses reports whether a request is to pass by the cache.
func (p *Policy) bypasses(r *http.Request) bool {
	if p == nil {
		return false
	}
	for _, name := range p.bypassHeaders {
		if len(r.Header[name]) > 0 {
			return true
		}
	}
	if len(p.bypassCookies) > 0 {
		found := false
		eachCookie(r.Header, func(name, _ string) bool {
			found = slices.ContainsFunc(p.bypassCookies, func(c pattern) bool { return c.matches(name) })
			return !found
		})
		if found {
			return true
		}
	}
	return len(p.bypassQuery) > 0 && p.bypassesQuery(r.URL.RawQuery)
}

// bypassesQuery looks for parameters in any spelling: in doubt a request passes by.
func (p *Policy) bypassesQuery(query string) bool {
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _ := parameterName(pair)
		if slices.ContainsFunc(p.bypassQuery, func(q pattern) bool { return q.matchesFold(name) }) {
			return true
		}
	}
	return false
}

// windows gives a response the windows of RFC 5861 that it does not have.
func (p *Policy) windows(d *directives) {
	if p == nil {
		return
	}
	if p.staleWhileRevalidate > 0 && !d.staleWhileRevalidate.set {
		d.staleWhileRevalidate = delta{p.staleWhileRevalidate, true}
	}
	if p.staleIfError > 0 && !d.staleIfError.set {
		d.staleIfError = delta{p.staleIfError, true}
	}
}

// lifetime returns the freshness lifetime under the policy of an answer that has
// the given one by RFC 9111; guess permits guesses.
func (p *Policy) lifetime(a *answer, cc *directives, own time.Duration, guess bool) time.Duration {
	if p == nil {
		return own
	}
	explicit := cc.sMaxAge.set || cc.maxAge.set || len(a.header["Expires"]) > 0
	switch {
	case a.status >= 400:
		if ttl := p.negativeTTL(a.status); ttl > 0 && !explicit && guess && !(a.status >= 500 && a.replaces) {
			return ttl
		}
	case p.forceTTL > 0 && (explicit || heuristicallyCacheable(a.status)):
		return p.forceTTL
	case p.ttl > 0 && !explicit && guess && heuristicallyCacheable(a.status):
		return p.ttl
	}
	return own
}

func (p *Policy) negativeTTL(status int) time.Duration {
	if aboutClient(status) {
		return 0
	}
	if ttl, ok := p.negative[status]; ok {
		return ttl
	}
	if aboutRequest(status) {
		return 0
	}
	return p.negative[status/100]
}

// aboutRequest lists the errors that say something of how a request was made, which
// is no part of its key: one visitor who asks badly must not answer for all. Only who
// names such a status means it.
func aboutRequest(status int) bool {
	switch status {
	case 400, 402, 406, 409, 411, 412, 413, 415, 416, 417, 421, 422, 426, 428:
		return true
	}
	return false
}
