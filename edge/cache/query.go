package cache

import (
	"net/url"
	"slices"
	"strings"
)

// A queryRule says which parameters of a query belong to the key. The zero value
// keeps the query as it was sent. Two rules with the same text are the same.
type queryRule struct {
	none   bool      // the query is no part of the key
	ignore []pattern // parameters that are not
	only   []pattern // or the only ones that are, if there are any
	sort   bool      // the order of parameters with different names means nothing
	text   string    // empty for the zero value
}

// A pattern is a name, or the beginning of names with a star behind it.
type pattern string

func (p pattern) matches(name string) bool {
	if prefix, star := strings.CutSuffix(string(p), "*"); star {
		return strings.HasPrefix(name, prefix)
	}
	return name == string(p)
}

// matchesFold is matches in any letter case.
func (p pattern) matchesFold(name string) bool {
	if prefix, star := strings.CutSuffix(string(p), "*"); star {
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	return strings.EqualFold(name, string(p))
}

func patterns(texts []string) []pattern {
	all := make([]pattern, len(texts))
	for i, text := range texts {
		all[i] = pattern(text)
	}
	return all
}

// maxParameters bounds the parameters of a query that a rule looks at, and
// maxQuery its bytes. A query with more is taken as it is.
const (
	maxParameters = 128
	maxQuery      = 4 << 10
)

// apply returns the query that belongs to the key. What is kept is kept byte for
// byte: an origin may tell two spellings apart. Nothing is left out that servers read
// differently, for with that a stranger could store one page under the key of
// another: a query with a semicolon, which some take for an ampersand, stays whole,
// and so does a parameter whose name is made of more than letters, digits, hyphens
// and underscores, which some servers turn into others.
func (q *queryRule) apply(query string) string {
	if q.none {
		return ""
	}
	if q.text == "" || len(query) > maxQuery || strings.Count(query, "&") >= maxParameters || strings.Contains(query, ";") {
		return query
	}
	var kept []string
	dropped := false
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" || !q.keeps(pair) {
			dropped = true
			continue
		}
		kept = append(kept, pair)
	}
	if q.sort && !slices.IsSortedFunc(kept, compareNames) {
		slices.SortStableFunc(kept, compareNames)
		dropped = true
	}
	if !dropped {
		return query
	}
	return strings.Join(kept, "&")
}

// keeps reports whether a parameter belongs to the key. In doubt it does: a
// parameter that is to be ignored is so in its own letter case alone, and one that
// counts does in any.
func (q *queryRule) keeps(pair string) bool {
	name, ok := parameterName(pair)
	if !ok {
		return true
	}
	if len(q.only) > 0 {
		return slices.ContainsFunc(q.only, func(p pattern) bool { return p.matchesFold(name) })
	}
	return !slices.ContainsFunc(q.ignore, func(p pattern) bool { return p.matches(name) })
}

// parameterName returns the decoded name of a parameter. It is not ok when servers
// may disagree about it.
func parameterName(pair string) (name string, ok bool) {
	name, _, _ = strings.Cut(pair, "=")
	if strings.ContainsRune(name, '%') {
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			return name, false
		}
		name = decoded
	}
	odd := strings.ContainsFunc(name, func(c rune) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
	return name, !odd && name != ""
}

// compareNames orders parameters by name, so that those of one name keep their
// order.
func compareNames(a, b string) int {
	nameA, _ := parameterName(a)
	nameB, _ := parameterName(b)
	return strings.Compare(nameA, nameB)
}

// rekey makes a target into the key under a rule, and reports whether that is
// another one.
func (c *Cache) rekey(t *target, rule *queryRule) bool {
	query := rule.apply(t.query)
	if query == t.query && !(rule.none && t.hasQuery) { // an empty query is not none
		return false
	}
	t.query, t.hasQuery = query, query != ""
	*t = c.rehashed(*t)
	return true
}
