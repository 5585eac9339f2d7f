package cache

import (
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dunglas/httpsfv"
)

// A variation says which parts of a query do not matter to the response that it
// came with: the field No-Vary-Search (draft-ietf-httpbis-no-vary-search-10). Two
// with the same text are the same.
type variation struct {
	// names are the parameters that do not matter, or, with except, the only ones that
	// do; decoded and in order.
	names  []string
	except bool
	order  bool // the order of parameters matters
	text   string

	used atomic.Uint64 // how many kinds were learned when it was of use last
}

// maxVariation bounds the field, in bytes. A longer one counts as none.
const maxVariation = 2 << 10

// parseVariation reads the field (section 4 of the draft). It returns nil for a
// response that varies on the whole query, as it does when anything in the field is
// not understood.
//
// The drafts before the fifth wrote params for all parameters, and params, except=(...)
// for all but some. Browsers and sites do so still, and nothing else can be meant.
func parseVariation(lines []string) *variation {
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	if size == 0 || size > maxVariation {
		return nil
	}
	d, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return nil
	}
	v := &variation{order: true}
	if m, ok := d.Get("key-order"); ok {
		free, isBool := boolean(m)
		if !isBool {
			return nil
		}
		v.order = !free
	}
	params, hasParams := d.Get("params")
	except, hasExcept := d.Get("except")
	if hasParams {
		all, isBool := boolean(params)
		switch {
		case isBool && all:
			v.except = true
		case isBool || hasExcept:
			return nil
		case !v.take(params):
			return nil
		}
	}
	if hasExcept {
		if v.except = true; !v.take(except) {
			return nil
		}
	}
	if len(v.names) == 0 && !v.except && v.order {
		return nil
	}
	v.text = v.describe()
	return v
}

func boolean(m httpsfv.Member) (value, ok bool) {
	item, isItem := m.(httpsfv.Item)
	if !isItem {
		return false, false
	}
	value, ok = item.Value.(bool)
	return value, ok
}

// take reads an inner list of strings as names of parameters (section 4.3 of the
// draft).
func (v *variation) take(m httpsfv.Member) bool {
	list, ok := m.(httpsfv.InnerList)
	if !ok {
		return false
	}
	for _, item := range list.Items {
		name, ok := item.Value.(string)
		if !ok {
			return false
		}
		v.names = append(v.names, formDecoded(name))
	}
	slices.Sort(v.names)
	v.names = slices.Compact(v.names)
	return true
}

func (v *variation) describe() string {
	var b strings.Builder
	if v.except {
		b.WriteByte('+')
	}
	if !v.order {
		b.WriteByte('~')
	}
	for _, name := range v.names {
		b.WriteByte('&')
		b.WriteString(url.QueryEscape(name))
	}
	return b.String()
}

// canonical returns one spelling for all queries between which the response does
// not vary (section 5 of the draft). It is not ok for a query that is too long to
// look at.
func (v *variation) canonical(query string) (text string, ok bool) {
	if len(query) > maxQuery || strings.Count(query, "&") >= maxParameters {
		return "", false
	}
	type parameter struct{ name, value string }
	var kept []parameter
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name = formDecoded(name)
		if _, listed := slices.BinarySearch(v.names, name); listed == v.except {
			kept = append(kept, parameter{name, formDecoded(value)})
		}
	}
	if !v.order {
		slices.SortStableFunc(kept, func(a, b parameter) int { return strings.Compare(a.name, b.name) })
	}
	var b strings.Builder
	for _, p := range kept {
		b.WriteByte('&')
		b.WriteString(url.QueryEscape(p.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value))
	}
	return b.String(), true
}

// same reports whether the response does not vary between two queries. A nil
// variation varies between all that differ.
func (v *variation) same(a, b string, hasA, hasB bool) bool {
	if v == nil {
		return a == b && hasA == hasB
	}
	one, ok := v.canonical(a)
	other, otherOK := v.canonical(b)
	return ok && otherOK && one == other
}

// formDecoded decodes as application/x-www-form-urlencoded does in browsers: a plus
// is a space, an escape that is none stays as it is, and what is no UTF-8 becomes
// U+FFFD.
func formDecoded(s string) string {
	if strings.IndexFunc(s, func(c rune) bool { return c == '%' || c == '+' || c > 0x7e }) < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string([]rune(string(b)))
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
