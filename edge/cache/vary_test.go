package cache

import (
	"fmt"
	"testing"
)

func TestVary(t *testing.T) {
	f := func(want bool, vary string, first, second []string) {
		t.Helper()
		names, ok := varyNames(header("Vary:" + vary))
		if !ok {
			t.Fatalf("vary %q: never matches", vary)
		}
		if got := matches(nominate(header(first...), names), header(second...)); got != want {
			t.Errorf("vary %q: %q and %q match: %v, want %v", vary, first, second, got, want)
		}
	}
	lines := func(l ...string) []string { return l }
	f(true, "", lines("A: 1"), lines("A: 2"))
	f(true, "A", lines("A: 1"), lines("A: 1"))
	f(true, "a", lines("A: 1"), lines("A:  1\t"))
	f(false, "A", lines("A: 1"), lines("A: 2"))
	f(false, "A", lines("A: 1"), nil)
	f(false, "A", nil, lines("A: 1"))
	f(false, "A", nil, lines("A:")) // absent is a value of its own
	f(true, "A", nil, nil)
	f(true, "A", lines("A: 1", "A: 2"), lines("A: 1, 2"))
	f(false, "A", lines("A: 1", "A: 2"), lines("A: 2, 1"))
	f(false, "A, B", lines("A: 1", "B: 1"), lines("A: 1", "B: 2"))
	f(true, "A, B", lines("A: 1", "B: 1", "C: 1"), lines("A: 1", "B: 1", "C: 2"))
	f(true, "Host", nil, nil) // part of the key

	if names, ok := varyNames(header("Vary: A, b", "Vary: B, a, C")); !ok || fmt.Sprint(names) != "[A B C]" {
		t.Errorf("several lines: %v %v", names, ok)
	}
}

func TestVariants(t *testing.T) {
	c := New(config())
	lang := func(l string) string {
		_, body := read(t, c, get("/", "Accept-Language: "+l), answers(200, l, "Cache-Control: max-age=60", "Vary: Accept-Language"))
		return body
	}
	for range 2 {
		for _, l := range []string{"de", "en", "fr"} {
			if got := lang(l); got != l {
				t.Errorf("%s got the variant %s", l, got)
			}
		}
	}
	if s := c.State(); s.Stored != 3 || s.Entries != 3 || s.Hits != 3 {
		t.Errorf("%+v", s)
	}
	if found := lookup(t, c, get("/"), epoch0); found.Why != FwdVaryMiss {
		t.Errorf("another variant: %q", found.Why)
	}
	if found := lookup(t, c, get("/x"), epoch0); found.Why != FwdURIMiss {
		t.Errorf("another path: %q", found.Why)
	}
}

func TestVariantsAreBounded(t *testing.T) {
	c := New(config())
	for i := range 10 * maxVariants {
		read(t, c, get("/", fmt.Sprint("X:", i)), answers(200, "", "Cache-Control: max-age=60", "Vary: X"))
	}
	if s := c.State(); s.Entries != maxVariants {
		t.Errorf("%d variants of one key", s.Entries)
	}
	// The newest are kept.
	if got := state(c, get("/", fmt.Sprint("X:", 10*maxVariants-1))); got != Fresh {
		t.Errorf("the newest variant: %v", got)
	}
}

// A response without Vary answers everybody from now on.
func TestVaryThatGoesAway(t *testing.T) {
	c := New(config())
	read(t, c, get("/", "X: 1"), answers(200, "one", "Cache-Control: max-age=60", "Vary: X"))
	read(t, c, get("/", "X: 2"), answers(200, "all", "Cache-Control: max-age=60"))
	if _, body := read(t, c, get("/", "X: 1"), noFetch(t)); body != "all" {
		t.Errorf("got %q", body)
	}
}
