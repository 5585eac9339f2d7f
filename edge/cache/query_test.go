package cache

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQueryRule(t *testing.T) {
	f := func(k KeyConfig, query, want string) {
		t.Helper()
		rule := newQueryRule(&k)
		if got := rule.apply(query); got != want {
			t.Errorf("%s of %q: %q, want %q", rule.text, query, got, want)
		}
	}
	f(KeyConfig{}, "b=1&&a=%2f", "b=1&&a=%2f")
	f(KeyConfig{Query: "none"}, "b=1;c", "")

	ignore := KeyConfig{IgnoreQuery: []string{"utm_*", "fbclid"}}
	f(ignore, "", "")
	f(ignore, "w=1", "w=1")
	f(ignore, "utm_source=x&w=1&fbclid=y&h=2", "w=1&h=2")
	f(ignore, "w=1&utm_source", "w=1")
	f(ignore, "w=%2F&utm_x=1&W=1", "w=%2F&W=1") // what is kept is kept as it was sent
	f(ignore, "%75tm_source=x&w=1", "w=1")
	f(ignore, "UTM_source=x", "UTM_source=x") // another parameter to most servers
	f(ignore, "fbclid2=x", "fbclid2=x")
	f(ignore, "w=1&w=2&utm_a=1&w=3", "w=1&w=2&w=3")
	f(ignore, "=utm_a&utm_b", "=utm_a")

	// What servers read differently counts: parameter cloaking.
	f(ignore, "utm_source=x;w=2", "utm_source=x;w=2")
	f(ignore, "utm_a%5b%5d=1", "utm_a%5b%5d=1")
	f(ignore, "utm_a.b=1", "utm_a.b=1")
	f(ignore, "utm_%zz=1", "utm_%zz=1")
	f(ignore, "utm_a+b=1", "utm_a+b=1")
	f(ignore, "utm_%00=1", "utm_%00=1")

	only := KeyConfig{OnlyQuery: []string{"id", "page*"}}
	f(only, "x=1&id=5&y", "id=5")
	f(only, "ID=5&x=1", "ID=5") // some servers take it for id
	f(only, "%69d=5&x=1", "%69d=5")
	f(only, "id%5B%5D=5&x=1", "id%5B%5D=5")
	f(only, "i.d=5&x=1", "i.d=5")
	f(only, "pages=1&PAGE=2&x", "pages=1&PAGE=2")
	f(only, "x=1", "")

	f(KeyConfig{SortQuery: true}, "b=2&a=1&b=1", "a=1&b=2&b=1")
	f(KeyConfig{SortQuery: true}, "a=1&b=2", "a=1&b=2")
	f(KeyConfig{SortQuery: true, IgnoreQuery: []string{"a"}}, "c=1&b=1&a=1", "b=1&c=1")

	// What is too much to look at stays as it is.
	f(ignore, "utm_a=1&"+strings.Repeat("a&", maxParameters), "utm_a=1&"+strings.Repeat("a&", maxParameters))
	f(ignore, "utm_a="+strings.Repeat("x", maxQuery), "utm_a="+strings.Repeat("x", maxQuery))
}

// TestKeyUnderARule: an empty query is another than none, unless queries are no part
// of the key.
func TestKeyUnderARule(t *testing.T) {
	c := New(config())
	f := func(want bool, k KeyConfig, a, b string) {
		t.Helper()
		rule := newQueryRule(&k)
		one, other := c.target(get(a)), c.target(get(b))
		c.rekey(&one, &rule)
		c.rekey(&other, &rule)
		if got := one.equal(&other); got != want {
			t.Errorf("%s: %s and %s share a key: %v, want %v", rule.text, a, b, got, want)
		}
	}
	none, ignore := KeyConfig{Query: "none"}, KeyConfig{IgnoreQuery: []string{"utm"}}
	f(true, none, "/a", "/a?")
	f(true, none, "/a", "/a?x=1;y")
	f(false, none, "/a", "/b")
	f(false, ignore, "/a", "/a?")
	f(true, ignore, "/a", "/a?utm")
	f(false, ignore, "/a?x", "/a")
	f(false, KeyConfig{}, "/a", "/a?")
}

// TestQueryRuleKeepsWhatCounts: two queries share a key only if the parameters that
// count are the same, in the same spelling and order.
func TestQueryRuleKeepsWhatCounts(t *testing.T) {
	pair := rapid.Custom(func(t *rapid.T) string {
		name := rapid.SampledFrom([]string{"a", "A", "b", "utm_a", "utm_b", "%61", "utm%5fa", "a%5B", ""}).Draw(t, "name")
		return name + rapid.SampledFrom([]string{"", "=", "=1", "=2", "=%31", "=1;b=2"}).Draw(t, "value")
	})
	query := rapid.Map(rapid.SliceOfN(pair, 0, 5), func(all []string) string { return strings.Join(all, "&") })
	ignore := newQueryRule(&KeyConfig{IgnoreQuery: []string{"utm_*"}})
	only := newQueryRule(&KeyConfig{OnlyQuery: []string{"a"}})
	// counting returns the pairs that might be a to some server, or not begin with
	// utm_ to some.
	counting := func(query string, counts func(name string) bool) []string {
		if strings.Contains(query, ";") {
			return []string{query}
		}
		var all []string
		for p := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(p, "=")
			decoded, err := url.QueryUnescape(name)
			if p != "" && (err != nil || counts(decoded)) {
				all = append(all, p)
			}
		}
		return all
	}
	rapid.Check(t, func(t *rapid.T) {
		x, y := query.Draw(t, "x"), query.Draw(t, "y")
		if ignore.apply(x) == ignore.apply(y) {
			kept := func(name string) bool { return !strings.HasPrefix(name, "utm_") }
			if !slices.Equal(counting(x, kept), counting(y, kept)) {
				t.Fatalf("%q and %q share a key", x, y)
			}
		}
		if only.apply(x) == only.apply(y) {
			kept := func(name string) bool { return strings.EqualFold(strings.TrimRight(name, "["), "a") }
			if !slices.Equal(counting(x, kept), counting(y, kept)) {
				t.Fatalf("%q and %q share a key", x, y)
			}
		}
	})
}

// FuzzQueryRule: a rule applied twice is applied once, and adds nothing.
func FuzzQueryRule(f *testing.F) {
	for _, seed := range []string{"", "a=1&utm_x=2", "utm_x;a", "%zz=1&b", "&&&", "b=2&a=1&b=1", "%00=%", "a%5b%5d=1"} {
		f.Add(seed)
	}
	rules := []queryRule{
		newQueryRule(&KeyConfig{IgnoreQuery: []string{"utm_*", "b"}}),
		newQueryRule(&KeyConfig{OnlyQuery: []string{"a*"}, SortQuery: true}),
		newQueryRule(&KeyConfig{Query: "none"}),
	}
	f.Fuzz(func(t *testing.T, query string) {
		for i := range rules {
			once := rules[i].apply(query)
			if twice := rules[i].apply(once); twice != once {
				t.Fatalf("%s of %q: %q, and then %q", rules[i].text, query, once, twice)
			}
			sent := strings.Split(query, "&")
			for p := range strings.SplitSeq(once, "&") {
				if p != "" && !slices.Contains(sent, p) {
					t.Fatalf("%s of %q has %q", rules[i].text, query, p)
				}
			}
		}
	})
}
