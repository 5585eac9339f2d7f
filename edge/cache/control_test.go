package cache

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestParseControl(t *testing.T) {
	seconds := func(n int) delta { return delta{time.Duration(n) * time.Second, true} }
	f := func(want directives, lines ...string) {
		t.Helper()
		want.present = len(lines) > 0
		if got := parseControl(lines); got != want {
			t.Errorf("parseControl(%q)\n got %+v\nwant %+v", lines, got, want)
		}
	}
	f(directives{})
	f(directives{}, "")
	f(directives{}, " , ,,\t")
	f(directives{noStore: true}, "no-store")
	f(directives{noStore: true, maxAge: seconds(5)}, "max-age=5, No-Store")
	f(directives{noStore: true, maxAge: seconds(5)}, "max-age=5", "no-store")
	f(directives{private: true, public: true}, "PRIVATE,public")
	f(directives{sMaxAge: seconds(7), maxAge: seconds(5)}, " max-age=5 ,\ts-maxage=7\t")
	f(directives{mustRevalidate: true, proxyRevalidate: true, mustUnderstand: true}, "must-revalidate,proxy-revalidate,must-understand")
	f(directives{onlyIfCached: true, minFresh: seconds(1), staleIfError: seconds(2)}, "only-if-cached, min-fresh=1, stale-if-error=2")
	f(directives{immutable: true, staleWhileRevalidate: seconds(3)}, "Immutable, Stale-While-Revalidate=3")
	f(directives{immutable: true}, "immutable=1") // RFC 8246 section 2: an argument has no meaning

	// Arguments in quotes, and lists of fields, which count as none.
	f(directives{maxAge: seconds(60)}, `max-age="60"`)
	f(directives{private: true, noCache: true}, `private="x, y", no-cache="Set-Cookie"`)
	f(directives{maxAge: seconds(60)}, `ext="a,no-store\",", max-age=60`)
	// A quote that never ends does not hide what follows.
	f(directives{noStore: true}, `ext="a, no-store`)
	f(directives{maxAge: seconds(0)}, `max-age="60`)

	// The first counts.
	f(directives{maxAge: seconds(1)}, "max-age=1, max-age=2")
	f(directives{maxAge: seconds(0)}, "max-age=x, max-age=2")

	// What cannot be read is stale.
	for _, bad := range []string{
		"max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=+1", "max-age=1s", "max-age='60'",
		"max-age =60", "max-age= 60", `max-age="60"x`, "max-age=6 0",
	} {
		f(directives{maxAge: seconds(0)}, bad)
	}
	// Saturation.
	f(directives{maxAge: delta{maxDelta, true}}, "max-age=2147483648")
	f(directives{maxAge: delta{maxDelta, true}}, "max-age=99999999999999999999999999999999")
	f(directives{maxAge: delta{maxDelta - time.Second, true}}, "max-age=2147483647")

	f(directives{maxStale: delta{maxDelta, true}}, "max-stale")
	f(directives{maxStale: seconds(3)}, "max-stale=3")
	f(directives{maxStale: seconds(0)}, "max-stale=x")
	f(directives{noStore: true}, "no-store=1")
	f(directives{}, "no-storeage, xno-store, foo=no-store")
}

func TestPragmaCountsOnlyWithoutCacheControl(t *testing.T) {
	f := func(want bool, h http.Header) {
		t.Helper()
		if got := requestDirectives(h).noCache; got != want {
			t.Errorf("%v: no-cache %v, want %v", h, got, want)
		}
	}
	f(true, header("Pragma: no-cache"))
	f(true, header("Pragma: foo, No-Cache"))
	f(false, header("Pragma: foo"))
	f(false, header("Pragma: no-cache", "Cache-Control: max-age=1"))
	f(true, header("Pragma: foo", "Cache-Control: no-cache"))
}

// render writes directives in a form that must read back as the same.
func render(d directives) string {
	var parts []string
	flag := func(set bool, name string) {
		if set {
			parts = append(parts, name)
		}
	}
	flag(d.noStore, "no-store")
	flag(d.noCache, "no-cache")
	flag(d.private, "private")
	flag(d.public, "public")
	flag(d.mustRevalidate, "must-revalidate")
	flag(d.proxyRevalidate, "proxy-revalidate")
	flag(d.mustUnderstand, "must-understand")
	flag(d.onlyIfCached, "only-if-cached")
	flag(d.immutable, "immutable")
	number := func(v delta, name string) {
		if v.set {
			parts = append(parts, fmt.Sprintf("%s=%d", name, v.Duration/time.Second))
		}
	}
	number(d.maxAge, "max-age")
	number(d.sMaxAge, "s-maxage")
	number(d.minFresh, "min-fresh")
	number(d.maxStale, "max-stale")
	number(d.staleIfError, "stale-if-error")
	number(d.staleWhileRevalidate, "stale-while-revalidate")
	return strings.Join(parts, ", ")
}

func FuzzControl(f *testing.F) {
	for _, seed := range []string{
		"", "no-store", "max-age=5, no-store", `private="a, b", max-age="7"`, `x="a\",no-store`, "max-age=99999999999999999999",
		"max-age =5", "max-stale", ",,=,=\"", "a=b=c, s-maxage=1", "max-age=\"", "\x00=\xff,no-cache",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		d := parseControl([]string{line})
		for _, v := range []delta{d.maxAge, d.sMaxAge, d.minFresh, d.maxStale, d.staleIfError, d.staleWhileRevalidate} {
			if v.Duration < 0 || v.Duration > maxDelta || v.Duration%time.Second != 0 || !v.set && v.Duration != 0 {
				t.Fatalf("%q: %+v", line, d)
			}
		}
		if again := parseControl([]string{render(d)}); again != d {
			t.Fatalf("%q\n  read %+v\n again %+v", line, d, again)
		}
		if both := parseControl([]string{line, "no-store"}); !both.noStore {
			t.Fatalf("%q hides a no-store in another line", line)
		}
	})
}
