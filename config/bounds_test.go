package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestFilesThatWouldTakeLong(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := Parse("f", []byte(text), nil)
		if got := messages(t, err); !strings.HasPrefix(got, want) {
			t.Errorf("%.60q\ngot:  %.200s\nwant: %s", text, got, want)
		}
	}
	deep := func(text, place string) {
		t.Helper()
		f(text, place+": values are nested more than 32 deep here; no setting is that deep: look for brackets or dashes that are too many")
	}
	r := strings.Repeat
	deep(r("[", 100_000), "f:1:32")
	deep("a: "+r("[", 100_000)+r("]", 100_000), "f:1:35")
	deep("a: "+r("{a: ", 100_000), "f:1:128")
	deep("a: "+r("[\n", 10_000), "f:32:1")
	deep(r("- ", 100_000), "f:1:65")
	deep("ä: 'it''s [' \nb: \"\\\"[\" # [\nc: &x "+r("[", 1000), "f:3:38")
	var stairs strings.Builder
	for i := range 1000 {
		stairs.WriteString(r(" ", i) + "a:\n")
	}
	deep(stairs.String(), "f:33:33")

	lines := func(what string, of func(int) string, want string) {
		t.Helper()
		var b strings.Builder
		for i := range 80_000 {
			b.WriteString(of(i))
		}
		f(b.String(), want+" up to here; name a configuration; one of a thousand sites is smaller")
	}
	lines("keys", func(i int) string { return fmt.Sprintf("a%d: 1\n", i) }, "f:20001:10: there are more than 20000 lines")
	lines("CRLF", func(int) string { return "a:\r\n" }, "f:20001:4: there are more than 20000 lines")
	lines("CR", func(int) string { return "a:\r" }, "f:1:60003: there are more than 20000 lines")
	lines("entries", func(int) string { return "a: 1," }, "f:1:200005: there are more than 40000 commas and brackets")
}

// What only looks deep is taken.
func TestFilesThatAreNotDeep(t *testing.T) {
	f := func(text string) {
		t.Helper()
		if err := bound([]byte(text)); err != nil {
			t.Errorf("%.60q: %v", text, err)
		}
	}
	r := strings.Repeat
	f(r("a: [{b: [c]}, {d: e}]\n", 1000))
	f(r("- a\n- - b\n  - c\n", 1000))
	f(r("a: it's [\n", 1000))
	f(r("a: 'it''s [{'\nb: \"\\\"[\"\nc: 1 # [\n# {\n", 1000))
	f(r("a: /[ab]*\nb: [/[ab]*, 'x[']\nc: http://[::1]:80\n", 1000))
	f(r("a:\n  b:\n    - c: 1\n      d: [\n  x, y,\n]\n", 1000))
	f(r("a: &x [1]\nb: !t {c: *x}\n", 1000))
	f(whole("") + "\n")
}

func TestThousandSitesAreNotTooMany(t *testing.T) {
	var sites strings.Builder
	sites.WriteString("sites:\n")
	for i := range 1000 {
		fmt.Fprintf(&sites, "  - hosts: [a%d.example.com, www.a%d.example.com]\n    routes:\n"+
			"      - match: {path: /static/*, methods: [GET, HEAD]}\n        origin: app\n        stale_on_overload: 1h\n"+
			"      - match: {path: /img/*}\n        origin: app\n      - match: {path: /*}\n        origin: app\n", i, i)
	}
	if _, err := Parse("f", []byte(whole(sites.String())), nil); err != nil {
		t.Errorf("%.300s", err)
	}
}
