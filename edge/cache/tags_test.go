package cache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

func TestReadTags(t *testing.T) {
	f := func(want string, ignored int, lines ...string) {
		t.Helper()
		tags, n := readTags(header(lines...))
		if got := strings.Join(tags, "|"); got != want || n != ignored {
			t.Errorf("%q: %q and %d ignored, want %q and %d", lines, got, n, want, ignored)
		}
	}
	f("", 0)
	f("", 0, "Surrogate-Key: ", "Cache-Tag: , ,")
	f("a|b|c", 0, "Surrogate-Key: a  b\tc")
	f("a|b|c", 0, "Surrogate-Key: a", "Surrogate-Key: b c")
	f("a,b", 0, "Surrogate-Key: a,b") // one key, by spaces
	f("a|b c|d", 0, "Cache-Tag: a, b c ,,d")
	f("A|a", 0, "Cache-Tag: A,a")
	f("a|b", 0, "Surrogate-Key: a", "Cache-Tag: b")
	f(`"a"`, 0, `Surrogate-Key: "a"`)
	many := strings.TrimSpace(strings.Repeat("t ", maxTags))
	f(strings.ReplaceAll(many, " ", "|"), 3, "Surrogate-Key: "+many+" more", "Cache-Tag: a,b")
	long := strings.Repeat("l", maxTag)
	f(long+"|a", 1, "Surrogate-Key: "+long+" "+long+"l a")
}

func TestReadGroups(t *testing.T) {
	f := func(want string, ignored int, lines ...string) {
		t.Helper()
		groups, n := readGroups(lines)
		if got := strings.Join(groups, "|"); got != want || n != ignored {
			t.Errorf("%q: %q and %d ignored, want %q and %d", lines, got, n, want, ignored)
		}
	}
	f("", 0)
	f("scripts", 0, `"scripts"`)
	f("a|b|c", 0, `"a", "b"`, `"c"`)
	f(`A|a|x"y\`, 0, `"A", "a","x\"y\\"`)
	f("a|b", 0, `"a";revalidate;q=0.5, "b"`) // section 2: unrecognised parameters are ignored
	// RFC 9651 section 4.2: what does not parse is as if it were not there.
	f("", 0, `"a", b`)
	f("", 0, `"a", 1`)
	f("", 0, `"a", ("b")`)
	f("", 0, `"a", :aGk=:`)
	f("", 0, `"a",`)
	f("", 0, `"a" "b"`)
	f("", 0, `"a`)
	f("", 0, "\"\x7f\"")
	// Section 2: at least 32 groups of 32 characters.
	var lines, names []string
	for i := range 32 {
		name := fmt.Sprintf("%032d", i)
		lines, names = append(lines, `"`+name+`"`), append(names, name)
	}
	f(strings.Join(names, "|"), 0, strings.Join(lines, ", "))
	many := make([]string, maxGroups+2)
	for i := range many {
		many[i] = `"g"`
	}
	f(strings.TrimSuffix(strings.Repeat("g|", maxGroups), "|"), 2, strings.Join(many, ","))
	f("a", 1, `"`+strings.Repeat("l", maxTag+1)+`", "a"`)
}

// FuzzTags: whatever an origin writes, what is read of it is bounded, stands in the
// field, and is what the next hop would read.
func FuzzTags(f *testing.F) {
	f.Add("a b", "c, d")
	f.Add(" a\t\tb ", ",,c ,")
	f.Add(strings.Repeat("x ", 100), strings.Repeat("y,", 100))
	f.Add(strings.Repeat("l", 2000), "\x00\xff")
	f.Fuzz(func(t *testing.T, keys, tags string) {
		h := http.Header{"Surrogate-Key": {keys}, "Cache-Tag": {tags}}
		got, ignored := readTags(h)
		if len(got) > maxTags || ignored < 0 {
			t.Fatalf("%d tags, %d ignored", len(got), ignored)
		}
		for _, tag := range got {
			if tag == "" || len(tag) > maxTag || !strings.Contains(keys, tag) && !strings.Contains(tags, tag) || tag != trim(tag) {
				t.Fatalf("%q is no tag of %q and %q", tag, keys, tags)
			}
		}
		if all, _ := entryKeys(&target{scheme: "https", host: "a", path: "/a/b"}, h); len(all) > maxTags+maxGroups+maxFolders+1 || !slices.Contains(all, every) {
			t.Fatalf("%d keys", len(all))
		}
	})
}

// FuzzGroups: what is read is what a structured field of these strings says.
func FuzzGroups(f *testing.F) {
	f.Add(`"a", "b"`, `"c"`)
	f.Add(`"a";x=1;y="z", "b\"\\"`, "")
	f.Add(`"a", b, (1 2)`, `?0`)
	f.Add(`"a" ,, "b"`, "\xff")
	f.Add(strings.Repeat(`"g",`, 100)+`"g"`, strings.Repeat(`"l`, 600))
	f.Fuzz(func(t *testing.T, first, second string) {
		groups, ignored := readGroups([]string{first, second})
		if len(groups) > maxGroups || ignored < 0 {
			t.Fatalf("%d groups, %d ignored", len(groups), ignored)
		}
		list := httpsfv.List{}
		for _, group := range groups {
			if len(group) > maxTag {
				t.Fatalf("a group of %d bytes", len(group))
			}
			list = append(list, httpsfv.NewItem(group))
		}
		text, err := httpsfv.Marshal(list)
		if err != nil {
			t.Fatalf("%q was read out of %q and %q: %v", groups, first, second, err)
		}
		if again, _ := readGroups([]string{text}); !slices.Equal(again, groups) {
			t.Fatalf("%q is read as %q", text, again)
		}
	})
}

// FuzzPrefix: a prefix that is taken names what begins with it, and nothing else.
func FuzzPrefix(f *testing.F) {
	f.Add("https://example.com/a/", "/a/b")
	f.Add("HTTPS://Example.com:443", "/")
	f.Add("http://[::1]:8080/%2e%2e/x", "/%2e%2e/xy")
	f.Add("https://example.com/a?b", "/a")
	f.Add("https://example.com/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/i/jk")
	f.Fuzz(func(t *testing.T, prefix, path string) {
		s, err := SelectPrefix(prefix)
		if err != nil || path == "" || path[0] != '/' {
			return
		}
		entry := target{scheme: s.target.scheme, host: s.target.host, path: path}
		found := slices.Contains(targetKeys(&entry), s.key) && s.names(&entry)
		if want := strings.HasPrefix(path, s.prefix); found != want {
			t.Fatalf("%q names %q: %t, want %t", prefix, path, found, want)
		}
	})
}
