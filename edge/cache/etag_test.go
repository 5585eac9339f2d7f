package cache

import (
	"strings"
	"testing"
)

// FuzzIfNoneMatch asks that a field matches a tag only if the tag stands in it,
// and that what stands around a list of tags hides none of them.
func FuzzIfNoneMatch(f *testing.F) {
	for _, line := range []string{`"a"`, `W/"a", "b"`, "*", "", `"a`, `"", W/"", ,`, "W/", `"a""b"`, `x, "tag"`, "\"\xff\"", `"a,"tag"`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		const tag = `"tag"`
		got := matchesETag([]string{line}, tag)
		if got && !strings.Contains(line, tag) && !strings.Contains(line, "*") {
			t.Fatalf("%q matches", line)
		}
		if weak := matchesETag([]string{line}, "W/"+tag); weak != got {
			t.Fatalf("%q matches the weak tag: %v, the strong one: %v", line, weak, got)
		}
		if !matchesETag([]string{tag + ", " + line}, tag) || !matchesETag([]string{line, `"x",W/` + tag}, tag) {
			t.Fatalf("%q hides a tag", line)
		}
	})
}
