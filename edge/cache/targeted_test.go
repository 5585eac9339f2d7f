package cache

import (
	"net/http"
	"testing"
	"time"
)

func TestTargetedDirectives(t *testing.T) {
	seconds := func(n int) delta { return delta{time.Duration(n) * time.Second, true} }
	f := func(want directives, ok bool, lines ...string) {
		t.Helper()
		want.present, want.targeted = ok, ok
		if got, valid := targetedDirectives(lines); got != want || valid != ok {
			t.Errorf("%q\n got %+v, %t\nwant %+v", lines, got, valid, want)
		}
	}
	f(directives{maxAge: seconds(60)}, true, "max-age=60")
	f(directives{maxAge: seconds(60), noStore: true}, true, "max-age=60", "no-store")
	f(directives{maxAge: seconds(60)}, true, "max-age=60;x=1, extension;y, none=?0, other=(a b)")
	f(directives{}, true, "none") // RFC 9213 section 3.1: not empty, and says nothing
	f(directives{
		public: true, mustRevalidate: true, proxyRevalidate: true, mustUnderstand: true, immutable: true,
		sMaxAge: seconds(1), staleIfError: seconds(2), staleWhileRevalidate: seconds(3),
	}, true, "public, must-revalidate, proxy-revalidate, must-understand, immutable, "+
		"s-maxage=1, stale-if-error=2, stale-while-revalidate=3")
	// Of two members with one name the last counts (RFC 9651 section 4.2.2).
	f(directives{maxAge: seconds(2)}, true, "max-age=1, max-age=2")
	f(directives{maxAge: delta{maxDelta, true}}, true, "max-age=2147483648")
	f(directives{maxAge: delta{maxDelta, true}}, true, "max-age=999999999999999")

	// Values of a wrong type are not made use of.
	for _, wrong := range []string{
		`max-age="60"`, "max-age=60.0", "max-age=sixty", "max-age", "max-age=?0", "max-age=-60", "max-age=(60)", "max-age=:AA==:", "max-age=@60",
	} {
		f(directives{maxAge: seconds(0)}, true, wrong)
	}
	f(directives{}, true, `public=1, immutable="x", must-revalidate=a, must-understand=?0, proxy-revalidate=(a)`)
	f(directives{staleIfError: seconds(0), staleWhileRevalidate: seconds(0)}, true, "stale-if-error=1.5, stale-while-revalidate")
	// What forbids does so in any form but false.
	f(directives{noStore: true, noCache: true, private: true}, true, `no-store=1, no-cache="Set-Cookie", private=("a" "b")`)
	f(directives{}, true, "no-store=?0, no-cache=?0, private=?0")

	for _, invalid := range []string{
		"", " ", "\t", ",", "max-age=60,", "max-age=60, &&&&&", "max-age =60", "max-age= 60", "MaX-aGe=60", "max-age=60 public",
		`max-age="60`, "max-age=9999999999999999", "max-age=60;", "=60", "max-age=60,,public", "é",
	} {
		f(directives{}, false, invalid)
	}
	f(directives{}, false, "max-age=60", "&")
	f(directives{}, false)
}

// TestTargetList: the first valid field that is not empty decides alone (RFC 9213
// section 2.2).
func TestTargetList(t *testing.T) {
	f := func(want string, lines ...string) {
		t.Helper()
		if got := render(responseDirectives(header(lines...))); got != want {
			t.Errorf("%q: %q, want %q", lines, got, want)
		}
	}
	const plain = "Cache-Control: no-store, max-age=1"
	f("no-store, max-age=1", plain)
	f("max-age=2", plain, "CDN-Cache-Control: max-age=2")
	f("max-age=3", plain, "CDN-Cache-Control: max-age=2", "Spillway-Cache-Control: max-age=3")
	f("max-age=2", plain, "CDN-Cache-Control: max-age=2", "Spillway-Cache-Control: &")
	f("max-age=2", plain, "CDN-Cache-Control: max-age=2", "Spillway-Cache-Control:")
	f("no-store, max-age=1", plain, "CDN-Cache-Control: max-age=2,", "Spillway-Cache-Control:")
	f("", plain, "CDN-Cache-Control: none")
	f("no-store, max-age=1", plain, "Other-Cache-Control: max-age=9", "Surrogate-Control: max-age=9")
}

// TestTargetedStorage: what the chosen field says replaces Cache-Control and Expires,
// and nothing else: Age counts, and so do Set-Cookie and section 3.5.
func TestTargetedStorage(t *testing.T) {
	at := func(d time.Duration) string { return epoch0.Add(d).Format(httpDate) }
	f := func(want time.Duration, why string, r *http.Request, lines ...string) {
		t.Helper()
		v := judge(r, answer{status: 200, header: header(lines...), length: 10, requested: epoch0, received: epoch0}, 100)
		if v.why != why || v.store != (why == "") {
			t.Errorf("%q: %q, store %t, want %q", lines, v.why, v.store, why)
		}
		if v.store && v.entry.TTL(epoch0) != want {
			t.Errorf("%q: fresh for %v, want %v", lines, v.entry.TTL(epoch0), want)
		}
	}
	const cdn = "CDN-Cache-Control: max-age=60"
	f(time.Minute, "", get("/"), cdn)
	f(time.Minute, "", get("/"), cdn, "Cache-Control: no-store, private")
	f(time.Minute, "", get("/"), cdn, "Expires: 0")
	f(-time.Minute, "", get("/"), cdn, "Age: 120", "Expires:"+at(time.Hour))
	f(0, "no-store", get("/"), "CDN-Cache-Control: no-store", "Cache-Control: max-age=60", "Expires:"+at(time.Hour))
	f(0, "private", get("/"), "CDN-Cache-Control: private", "Cache-Control: max-age=60")
	f(0, "no-freshness", get("/"), "CDN-Cache-Control: no-cache", "Cache-Control: max-age=60") // no validator
	f(0, "no-freshness", get("/"), "CDN-Cache-Control: none", "Cache-Control: max-age=60", "Expires:"+at(time.Hour))
	f(0, "no-store", get("/"), `CDN-Cache-Control: max-age=10000, &&&&&`, "Cache-Control: no-store")
	f(0, "no-freshness", get("/"), `CDN-Cache-Control: max-age="10000"`, "Cache-Control: no-store")
	f(0, whySetCookie, get("/"), cdn, "Set-Cookie: a=b")
	f(0, "authorization", get("/", "Authorization: x"), cdn, "Cache-Control: public")
	f(time.Minute, "", get("/", "Authorization: x"), cdn+", public")
}

// TestTargetedFieldsOutliveValidation: a 304 that says nothing of them leaves them in
// force (RFC 9111 section 3.2).
func TestTargetedFieldsOutliveValidation(t *testing.T) {
	e := entryOf(200, "Spillway-Cache-Control: max-age=60", "Cache-Control: no-store", `Etag: "a"`)
	if d := responseDirectives(updated(e, header("Cache-Control: private"))); !d.targeted || d.maxAge.Duration != time.Minute {
		t.Errorf("%+v", d)
	}
}

func FuzzTargeted(f *testing.F) {
	for _, seed := range []string{
		"", "max-age=60", `max-age="60", no-store=?0`, "no-cache=(a b);x, private=:AA==:", "max-age=999999999999999", "a=%\"f%c3\", max-age=-1",
		"no-store;a=@1, max-age=1.5", "max-age=60,", "\x00", "&",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		d, ok := targetedDirectives([]string{line})
		if ok != d.targeted || !ok && d != (directives{}) {
			t.Fatalf("%q: %t %+v", line, ok, d)
		}
		for _, v := range []delta{d.maxAge, d.sMaxAge, d.staleIfError, d.staleWhileRevalidate} {
			if v.Duration < 0 || v.Duration > maxDelta || v.Duration%time.Second != 0 || !v.set && v.Duration != 0 {
				t.Fatalf("%q: %+v", line, d)
			}
		}
		// With a no-store behind it, it is invalid or forbids.
		if d, ok := targetedDirectives([]string{line, "no-store"}); ok && !d.noStore {
			t.Fatalf("%q hides a no-store in another line", line)
		}
	})
}
