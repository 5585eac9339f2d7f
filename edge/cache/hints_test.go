package cache

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEarlyLinks(t *testing.T) {
	f := func(want []string, lines ...string) {
		t.Helper()
		if got := EarlyLinks(lines); !slices.Equal(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", lines, got, want)
		}
	}
	const css = "</a.css>; rel=preload; as=style"
	f(nil)
	f(nil, "", " , ,", "</a>", "</a>; rel=next", `</a>; rel="nopreload preloads"`, "a; rel=preload", "</a; rel=preload", `</a>; title="rel=preload"`)
	f([]string{css}, css)
	f([]string{css, "</b.js>;rel=modulepreload"}, css+" , </c>; rel=next,</b.js>;rel=modulepreload")
	f([]string{css, "<https://cdn.example>; rel=preconnect"}, css, "<https://cdn.example>; rel=preconnect")
	f([]string{`</a>; REL="x PreLoad"`}, `</a>; REL="x PreLoad"`)
	f([]string{`</a,b>; title="x, \"<y>; rel=next"; rel=preload`}, `</a,b>; title="x, \"<y>; rel=next"; rel=preload`)
	f(nil, "</a>; rel=next; rel=preload") // the first counts, RFC 8288 section 3.3
	f([]string{`</a>; rel="preload`}, `</a>; rel="preload`)

	if got := EarlyLinks([]string{strings.Repeat(css+",", 100)}); len(got) != hintsMost {
		t.Errorf("%d links", len(got))
	}
	long := "</" + strings.Repeat("a", 1500) + ">; rel=preload"
	if got := EarlyLinks([]string{long, long, long}); len(got) != 2 {
		t.Errorf("%d long links", len(got))
	}
}

func FuzzEarlyLinks(f *testing.F) {
	for _, seed := range []string{
		"", "</a>; rel=preload", `</a,b>; title="x, \"<y>"; rel="next preconnect", <c>;rel=modulepreload`, `<a>;rel="preload`, "<<>>;;==,,\\\"", "<a", `"\`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		size := 0
		links := EarlyLinks([]string{line})
		for _, link := range links {
			size += len(link)
			if !strings.Contains(line, link) || link[0] != '<' || !toldEarly(link) {
				t.Fatalf("%q: %q", line, link)
			}
		}
		if len(links) > hintsMost || size > hintsBytes {
			t.Fatalf("%q: %d links of %d bytes", line, len(links), size)
		}
		// Whatever a line is, it cannot make a link of the next one.
		if again := EarlyLinks([]string{line, "</last>; rel=preload"}); len(links) < hintsMost && size < hintsBytes/2 && again[len(again)-1] != "</last>; rel=preload" {
			t.Fatalf("%q hides the next line: %q", line, again)
		}
	})
}

// TestHints: they come of the expired entry, or of a sibling where no variant is the
// request's, and never of what could be somebody's own.
func TestHints(t *testing.T) {
	const link = "Link: </a.css>; rel=preload, </b>; rel=next"
	f := func(want bool, name string, stored func(*Cache), request []string, after time.Duration) {
		t.Helper()
		c := New(config())
		stored(c)
		r, now := get("/", request...), time.Now().Add(after)
		found := lookup(t, c, r, now)
		got := c.Hints(r, &found, now)
		if want != slices.Equal(got, []string{"</a.css>; rel=preload"}) || !want && got != nil {
			t.Errorf("%s: %q (%s, %s)", name, got, found.State, found.Why)
		}
	}
	keep := func(status int, lines ...string) func(*Cache) {
		return func(c *Cache) {
			read(t, c, get("/", "Accept-Language: de", "Cookie: a=b"), answers(status, "page", lines...))
		}
	}
	const kept = "Cache-Control: max-age=60, stale-if-error=600"
	f(false, "miss", func(*Cache) {}, nil, 0)
	f(true, "stale", keep(200, kept, link), nil, time.Hour)
	f(true, "fresh, but to be validated", keep(200, kept, link), []string{"Cache-Control: no-cache"}, 0)
	f(false, "without links", keep(200, kept), nil, time.Hour)
	f(false, "no page", keep(404, kept, link), nil, time.Hour)
	f(true, "a day old", keep(200, kept, link), nil, hintsFor)
	f(false, "too old", keep(200, kept, link), nil, hintsFor+2*time.Minute)
	f(false, "a range", keep(200, kept, link), []string{"Range: bytes=0-1"}, time.Hour)
	f(true, "another language", keep(200, kept, link, "Vary: Accept-Language"), []string{"Accept-Language: fr"}, 0)
	f(true, "no language", keep(200, kept, link, "Vary: Accept-Language, Accept"), nil, 0)
	f(false, "another cookie", keep(200, kept, link, "Vary: Cookie"), []string{"Cookie: a=c"}, 0)
	f(false, "authorization", keep(200, kept+", public", link, "Vary: Authorization, Accept"), []string{"Authorization: x"}, 0)
	f(true, "nothing that keeps authorization out", keep(200, kept, link), []string{"Authorization: x"}, 0)
}
