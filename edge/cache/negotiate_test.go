package cache

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSameMeaning is RFC 9111 section 4.1: what a transformation of known meaning
// makes equal selects the same response.
func TestSameMeaning(t *testing.T) {
	f := func(want bool, name, a, b string) {
		t.Helper()
		fields := nominate(header(name+":"+a), []string{name})
		if got := matches(fields, header(name+":"+b)); got != want {
			t.Errorf("%s: %q and %q match: %v, want %v", name, a, b, got, want)
		}
		back := nominate(header(name+":"+b), []string{name})
		if got := matches(back, header(name+":"+a)); got != want {
			t.Errorf("%s: %q and %q match: %v, but not the other way round", name, b, a, got)
		}
	}
	const language, encoding, accept = "Accept-Language", "Accept-Encoding", "Accept"
	f(true, language, "en, de", "de, en")
	f(true, language, "en, de", "eN, De")
	f(true, language, "en, de", " en ,   de")
	f(true, language, "en,de", ", en,, de ,")
	f(true, language, "en;q=1.0, de;q=0.5", "de; Q=0.500,en")
	f(true, language, "de-AT, *;q=0", "*;q=0.0, de-at")
	f(false, language, "en, de", "en")
	f(false, language, "en", "en, de")
	f(false, language, "en, de", "en, de;q=0.9")
	f(false, language, "en, de", "en, de;q=0")
	f(false, language, "en", "en-US")
	f(false, language, "en;q=1.001", "en") // no weight (RFC 9110 section 12.4.2)
	f(false, language, "en;q=2", "en;q=2.0")
	f(false, language, "en;q=0.1234", "en;q=0.123")
	f(false, language, "en, de;q=x", "de;q=x, en")
	f(false, language, "en, en;q=0", "en;q=0, en") // who says two things says nothing
	f(false, language, "en, EN", "en, en")
	f(true, language, "en;x=1, de", "de, en;x=1")
	f(false, language, "en;q=1;x=1, de", "de, en;q=1;x=1")
	long := strings.Repeat("a-b,", maxPreferences+1)
	f(true, language, long, long)
	f(false, language, long+"x", "x,"+long)
	padded := "en" + strings.Repeat(",", maxCompared-2)
	f(true, language, "en", padded)
	f(false, language, "en", padded+",") // what is long is not looked at, whatever it holds
	f(false, "Foo", "1,2"+padded, "1, 2"+padded)

	f(true, encoding, "gzip, br", "br,gzip")
	f(true, encoding, "x-gzip", "GZIP")
	f(true, encoding, "x-compress;q=0.5", "compress;q=0.5")
	f(false, encoding, "gzip, br", "gzip, br;q=0")
	f(false, encoding, "gzip", "*")
	f(false, encoding, "gzip", "gzip, identity;q=0")
	f(false, encoding, "", "gzip")
	f(true, "Accept-Charset", "utf-8, iso-8859-1;q=0.5", "ISO-8859-1;q=0.5,UTF-8")

	f(true, accept, "text/html, image/*;q=0.8", "image/*;q=0.8,TEXT/HTML")
	f(true, accept, "text/html;level=1;q=0.4, text/html", "text/html, text/html;level=1;q=0.4")
	f(false, accept, "text/html;level=1", "text/html;level=2")
	f(false, accept, "text/html;level=1", "text/html")
	f(false, accept, `text/html;a="x,y", b/c`, `b/c, text/html;a="x,y"`) // too odd to look at
	f(false, accept, "a/b;q=1;q=0", "a/b;q=0;q=1")

	// Of fields whose meaning is not known, only the whitespace of lists is.
	f(true, "Foo", "1,2", " 1, 2 ")
	f(true, "Foo", "1\t,\t 2", "1,2")
	f(false, "Foo", "1,2", "2,1")
	f(false, "Foo", "1, 2", "12")
	f(false, "Foo", "1 2", "12")
	f(false, "Foo", "1,2", "1,,2")
	f(false, "Foo", "A", "a")
	f(true, "Foo", `"a, b" , c`, `"a, b",c`)
	f(false, "Foo", `"a, b"`, `"a,b"`)
	f(true, "Foo", `"a\", b" , c`, `"a\", b",c`)
	f(false, "Foo", `"a\", b" , c`, `"a\",b",c`)
	f(false, "Foo", `"a , b`, `"a, b`) // a quote without an end
	// These are no lists.
	f(false, "Cookie", "a=1, 2", "a=1,2")
	f(false, "User-Agent", "x (y, z)", "x (y,z)")
}

// TestVaryLinesJoin: several lines of a field are one (RFC 9110 section 5.3).
func TestVaryLinesJoin(t *testing.T) {
	for _, name := range []string{"Foo", "Accept-Language"} {
		fields := nominate(header(name+": 1, 2"), []string{name})
		if !matches(fields, header(name+": 1", name+": 2")) {
			t.Errorf("%s: two lines are not one", name)
		}
	}
}

// TestSelectionByPreference: a response that another request has selected answers
// one that prefers it to all else.
func TestSelectionByPreference(t *testing.T) {
	f := func(want Freshness, first, stored, second string) {
		t.Helper()
		c := New(config())
		lines := []string{"Cache-Control: max-age=60", "Vary: Accept-Language, Accept-Encoding, X"}
		if stored != "" {
			lines = append(lines, strings.Split(stored, "|")...)
		}
		read(t, c, get("/", strings.Split(first, "|")...), answers(200, "x", lines...))
		var asked []string
		if second != "" {
			asked = strings.Split(second, "|")
		}
		if got := state(c, get("/", asked...)); got != want {
			t.Errorf("%q stored for %q, asked for by %q: %s, want %s", stored, first, second, got, want)
		}
	}
	const en, de = "Accept-Language: en, de", "Content-Language: de"
	f(Fresh, en, de, "Accept-Language: fr;q=0.5, de;q=1.0")
	f(Fresh, en, de, "Accept-Language: DE")
	f(Fresh, en, de, "Accept-Language: de;q=0.2, fr;q=0.1, *;q=0")
	f(Miss, en, de, "Accept-Language: de;q=0")
	f(Miss, en, de, "Accept-Language: fr, de;q=0.5")
	f(Miss, en, de, "Accept-Language: fr, de") // which of the two is the server's to say
	f(Miss, en, de, "Accept-Language: de, *")
	f(Miss, en, de, "Accept-Language: de-AT, fr;q=0.5") // there may be a better one
	f(Miss, en, "Content-Language: de-AT", "Accept-Language: de")
	f(Miss, en, "Content-Language: de, en", "Accept-Language: de")
	f(Miss, en, "Content-Language: de|Content-Language: en", "Accept-Language: de")
	f(Miss, en, "", "Accept-Language: de")
	f(Miss, en, de, "")
	f(Miss, en, de, "Accept-Language: de|X: 1") // the other fields must match
	f(Miss, en, de, "Accept-Language: de|Authorization: a")

	const all, gzip = "Accept-Encoding: gzip, br", "Content-Encoding: gzip"
	f(Fresh, all, gzip, "Accept-Encoding: gzip")
	f(Fresh, all, gzip, "Accept-Encoding: x-gzip, br;q=0.5")
	f(Miss, all, gzip, "Accept-Encoding: br, gzip;q=0")
	f(Miss, all, gzip, "Accept-Encoding: identity")
	f(Miss, all, gzip, "Accept-Encoding: br")
	f(Miss, all, gzip, "Accept-Encoding:")
	f(Miss, all, gzip, "")
	f(Miss, all, gzip+", br", "Accept-Encoding: gzip")
	f(Fresh, all, "", "Accept-Encoding: identity")
	f(Fresh, all, "", "Accept-Encoding:") // RFC 9110 section 12.5.3: no coding is wanted
	f(Miss, all, "", "Accept-Encoding: identity;q=0, gzip")
	f(Miss, all, "", "")
}

// TestSelectedVariantMatchesFirst: the variant that was stored for the same values
// goes before one that is only preferred.
func TestSelectedVariantMatchesFirst(t *testing.T) {
	c := New(config())
	const vary = "Vary: Accept-Language"
	read(t, c, get("/", "Accept-Language: de"), answers(200, "exact", fresh, vary, "Content-Language: de"))
	read(t, c, get("/", "Accept-Language: de, fr"), answers(200, "other", fresh, vary, "Content-Language: de"))
	if _, body := read(t, c, get("/", "Accept-Language: de"), noFetch(t)); body != "exact" {
		t.Errorf("got %q", body)
	}
}

// TestErrorsAreNotSelectedByPreference: a redirect may be what another language
// gets.
func TestErrorsAreNotSelectedByPreference(t *testing.T) {
	c := New(config())
	read(t, c, get("/", "Accept-Language: fr, de"), answers(301, "", fresh, "Vary: Accept-Language", "Content-Language: de", "Location: /fr"))
	if got := state(c, get("/", "Accept-Language: de")); got != Miss {
		t.Errorf("got %s", got)
	}
}

// TestNormalisationChangesNothing: the origin gets what the visitor has sent.
func TestNormalisationChangesNothing(t *testing.T) {
	c := New(config())
	const odd = "eN ,, De;Q=0.50"
	read(t, c, get("/", "Accept-Language: "+odd), func(_ context.Context, r *http.Request) (*http.Response, error) {
		if sent := r.Header.Get("Accept-Language"); sent != odd {
			t.Errorf("the origin got %q", sent)
		}
		return response(200, "x", fresh, "Vary: Accept-Language"), nil
	})
	if got := state(c, get("/", "Accept-Language: de;q=0.5, en")); got != Fresh {
		t.Errorf("got %s", got)
	}
}

// TestExclusionIsKept: whatever two lists that mean the same look like, both exclude
// the same.
func TestExclusionIsKept(t *testing.T) {
	member := rapid.Custom(func(t *rapid.T) string {
		name := rapid.SampledFrom([]string{"de", "DE", "en", "fr", "*", "x-gzip", "gzip"}).Draw(t, "name")
		return name + rapid.SampledFrom([]string{"", ";q=0", "; q=0.0", ";q=1", ";q=0.5", ";Q=0.500", ";q=x"}).Draw(t, "weight")
	})
	list := rapid.Map(rapid.SliceOfN(member, 0, 5), func(all []string) string { return strings.Join(all, ", ") })
	excluded := func(value, name string) bool {
		for m := range strings.SplitSeq(value, ",") {
			n, weight, _ := strings.Cut(trim(m), ";")
			n = strings.TrimPrefix(n, "x-")
			if strings.EqualFold(n, name) && strings.HasPrefix(strings.ToLower(trim(weight)), "q=0") && !strings.Contains(weight, "5") {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := list.Draw(t, "a"), list.Draw(t, "b")
		if !samePreferences(a, b) {
			return
		}
		for _, name := range []string{"de", "en", "fr", "*", "gzip"} {
			if excluded(a, name) != excluded(b, name) {
				t.Fatalf("%q and %q mean the same, and one excludes %s", a, b, name)
			}
		}
	})
}

// FuzzPreferences: no value breaks the reader, and what means the same does so in
// both directions, and to itself whenever it can be read.
func FuzzPreferences(f *testing.F) {
	for _, seed := range [][2]string{
		{"en, de", "de, en"},
		{"en;q=0.5", "en;q=0.50"},
		{",,;q=1", ";"},
		{"text/html;a=\"b", "\""},
		{"gzip;q=1.0000", "gzip;q="},
		{"a;q=0;q=1", "a;q"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if samePreferences(a, b) != samePreferences(b, a) {
			t.Fatalf("%q and %q", a, b)
		}
		var p preferences
		if p.read(a) && !samePreferences(a, a) {
			t.Fatalf("%q is not like itself", a)
		}
		for i := range p.all[:p.n] {
			if w := p.all[i].weight; w < 0 || w > 1000 {
				t.Fatalf("%q: a weight of %d", a, w)
			}
			if prefers(a, p.all[i].name) && p.all[i].params == "" && p.all[i].weight == 0 && p.n == 1 {
				t.Fatalf("%q prefers what it excludes", a)
			}
		}
		if !sameList(a, a) || sameList(a, b) != sameList(b, a) {
			t.Fatalf("lists %q and %q", a, b)
		}
	})
}

// TestHitAllocatesNothingForNormalisation: neither for the same value, nor for one
// of the same meaning, nor for one that prefers what is stored.
func TestHitAllocatesNothingForNormalisation(t *testing.T) {
	c := New(config())
	read(t, c, get("/", "Accept-Language: de, en;q=0.5"), answers(200, "x", fresh, "Vary: Accept-Language", "Content-Language: de"))
	now := time.Now()
	for _, language := range []string{"de, en;q=0.5", "EN;q=0.50,de", "de"} {
		asked := get("/", "Accept-Language: "+language)
		if n := testing.AllocsPerRun(100, func() {
			if looked(c, asked, now) != Fresh {
				t.Error("no hit")
			}
		}); n != 0 {
			t.Errorf("%s: a hit allocates %v times", language, n)
		}
	}
}
