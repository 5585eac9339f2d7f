package cache

import (
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const httpDate = http.TimeFormat

// entryOf makes the entry of an answer that was asked for and came at epoch0.
func entryOf(status int, lines ...string) *Entry {
	return entryFor(get("/"), status, lines...)
}

// entryAt makes the entry of an answer, whether the rules allow that or not.
func entryAt(r *http.Request, a answer) (*Entry, bool) {
	return newEntry(r, a, parseControl(a.header["Cache-Control"]))
}

func entryFor(r *http.Request, status int, lines ...string) *Entry {
	e, _ := entryAt(r, answer{status: status, header: header(lines...), length: -1, requested: epoch0, received: epoch0})
	return e
}

func TestLifetime(t *testing.T) {
	at := func(d time.Duration) string { return epoch0.Add(d).Format(httpDate) }
	date := "Date:" + at(0)
	f := func(want time.Duration, status int, lines ...string) {
		t.Helper()
		if got := entryOf(status, lines...).lifetime; got != want {
			t.Errorf("%d %q: lifetime %v, want %v", status, lines, got, want)
		}
	}
	f(0, 200)
	f(9*time.Second, 200, "Cache-Control: max-age=9")
	f(5*time.Second, 200, "Cache-Control: max-age=9, s-maxage=5")
	f(0, 200, "Cache-Control: max-age=9, s-maxage=x")
	f(9*time.Second, 200, "Cache-Control: max-age=9", "Expires:"+at(time.Hour))
	f(0, 200, "Cache-Control: max-age=x", date, "Expires:"+at(time.Hour)) // unreadable is stale
	f(time.Hour, 200, date, "Expires:"+at(time.Hour))
	f(time.Hour, 200, "Expires:"+at(time.Hour)) // without Date the time of receipt
	f(time.Hour, 200, "Date: nonsense", "Expires:"+at(time.Hour))
	f(2*time.Hour, 200, "Date:"+at(-time.Hour), "Expires:"+at(time.Hour))
	f(0, 200, date, "Expires:"+at(-time.Hour))
	f(0, 200, date, "Expires: 0")
	f(0, 200, date, "Expires:", "Last-Modified:"+at(-100*time.Hour))
	f(time.Hour, 200, date, "Expires:"+at(time.Hour), "Expires:"+at(2*time.Hour))
	f(maxDelta, 200, date, "Expires: Fri, 31 Dec 9999 23:59:59 GMT")

	// Without a known age there is no freshness.
	for _, age := range []string{"ten", "-1", "1.0", "0, 0", "1;x=2", `"1"`} {
		f(0, 200, "Cache-Control: max-age=9", "Age:"+age)
		f(0, 200, date, "Expires:"+at(time.Hour), "Age:"+age)
	}
	f(0, 200, "Cache-Control: max-age=9", "Age: 0", "Age: 0")
	f(9*time.Second, 200, "Cache-Control: max-age=9", "Age: 0")

	// Heuristics: the statuses of RFC 9110 section 15.1, from Last-Modified only.
	for _, status := range []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501} {
		f(10*time.Hour, status, date, "Last-Modified:"+at(-100*time.Hour))
	}
	for _, status := range []int{201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 599} {
		f(0, status, date, "Last-Modified:"+at(-100*time.Hour))
		f(9*time.Second, status, "Cache-Control: max-age=9")
		f(10*time.Hour, status, date, "Cache-Control: public", "Last-Modified:"+at(-100*time.Hour))
	}
	f(24*time.Hour, 200, date, "Last-Modified:"+at(-10000*time.Hour))
	f(0, 200, date, "Last-Modified:"+at(time.Hour))
	f(0, 200, date, "Last-Modified: nonsense")
	f(0, 200, date, "Etag: \"a\"")

	// No guesses for those who may have been recognized.
	e := entryFor(get("/", "Cookie: id=1"), 200, date, "Last-Modified:"+at(-100*time.Hour))
	if e.lifetime != 0 {
		t.Errorf("with a cookie: lifetime %v", e.lifetime)
	}
}

func TestAge(t *testing.T) {
	f := func(want time.Duration, delay, resident time.Duration, lines ...string) {
		t.Helper()
		e, _ := entryAt(get("/"), answer{
			status: 200, header: header(lines...), requested: epoch0.Add(-delay), received: epoch0,
		})
		if got := e.Age(epoch0.Add(resident)); got != want {
			t.Errorf("%q after %v and %v: age %v, want %v", lines, delay, resident, got, want)
		}
	}
	at := func(d time.Duration) string { return "Date:" + epoch0.Add(d).Format(httpDate) }
	f(0, 0, 0)
	f(2*time.Second, 2*time.Second, 0)
	f(5*time.Second, 2*time.Second, 3*time.Second)
	f(15*time.Second, 2*time.Second, 3*time.Second, "Age: 10")
	f(5*time.Second, 2*time.Second, 3*time.Second, "Age: 10, 50")
	f(5*time.Second, 2*time.Second, 3*time.Second, "Age: ten")
	f(time.Minute, 2*time.Second, 0, at(-time.Minute)) // apparent age
	f(2*time.Second, 2*time.Second, 0, at(time.Minute))
	f(time.Hour, 0, 0, at(-time.Minute), "Age: 3600")
	f(maxDelta, time.Hour, time.Hour, "Age: 99999999999999999999")
	f(maxDelta, 0, 0, "Date: Mon, 01 Jan 0001 00:00:00 GMT")
	f(0, 0, -time.Hour) // a clock that went back
}

// Whatever an origin's clock says, and however the node's own jumps between
// request, answer and visit, an age is neither negative nor past the largest
// delta, and never falls below what it was at the answer.
func TestAgeUnderClocksThatJump(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		jump := func(name string) time.Time {
			return epoch0.Add(time.Duration(rapid.Int64Range(-int64(100*365*24*time.Hour), int64(100*365*24*time.Hour)).Draw(t, name)))
		}
		requested, received := jump("requested"), jump("received")
		h := header("Cache-Control:max-age=60", "Date:"+jump("date").Format(httpDate))
		e, _ := entryAt(get("/"), answer{status: 200, header: h, length: -1, requested: requested, received: received})
		first, now := e.Age(received), jump("now")
		if age := e.Age(now); age < first || first < 0 || age > maxDelta {
			t.Fatalf("an age of %v, and %v at the answer", age, first)
		}
		if e.TTL(now) > time.Minute {
			t.Fatalf("fresh for %v, more than the origin said", e.TTL(now))
		}
	})
}

func TestSatisfies(t *testing.T) {
	// Ten seconds old, of twenty.
	const after = 10 * time.Second
	f := func(want bool, response, request string) {
		t.Helper()
		e := entryOf(200, "Cache-Control:"+response)
		cc := parseControl([]string{request})
		if got := e.satisfies(&cc, epoch0.Add(after)); got != want {
			t.Errorf("response %q request %q: %v, want %v", response, request, got, want)
		}
	}
	f(true, "max-age=20", "")
	f(true, "max-age=11", "")
	f(false, "max-age=10", "") // fresh while the lifetime is greater than the age
	f(false, "max-age=20, no-cache", "")
	f(false, `max-age=20, no-cache="x"`, "")
	f(false, "max-age=20", "no-cache")
	f(true, "max-age=20", "no-store")
	f(true, "max-age=20", "only-if-cached")
	f(true, "max-age=20", "max-age=10")
	f(false, "max-age=20", "max-age=9")
	f(false, "max-age=20", "max-age=0")
	f(false, "max-age=20", "max-age=x")
	f(true, "max-age=20", "min-fresh=10")
	f(false, "max-age=20", "min-fresh=11")
	f(false, "max-age=8", "max-stale=1")
	f(true, "max-age=8", "max-stale=2")
	f(true, "max-age=8", "max-stale")
	f(false, "max-age=8", "max-stale=x")
	f(false, "max-age=8", "max-stale, max-age=5")
	f(true, "max-age=8", "max-stale, max-age=15")
	for _, forbids := range []string{"must-revalidate", "proxy-revalidate", "s-maxage=8", "no-cache"} {
		f(false, "max-age=8, "+forbids, "max-stale")
	}
	f(true, "max-age=20, must-revalidate", "")

	// RFC 8246 section 2.1: a reload does not validate what does not change.
	f(true, "max-age=20, immutable", "max-age=0")
	f(true, "max-age=20, immutable", "max-age=5")
	f(false, "max-age=20, immutable", "no-cache")
	f(false, "max-age=20, immutable", "min-fresh=11")
	f(false, "max-age=20, immutable, no-cache", "max-age=5")
	f(false, "max-age=8, immutable", "max-age=5")
	f(false, "max-age=8, immutable", "")
}

func TestReloadWithinTheSameSecond(t *testing.T) {
	e := entryOf(200, "Cache-Control: max-age=20")
	cc := parseControl([]string{"max-age=0"})
	if !e.satisfies(&cc, epoch0.Add(900*time.Millisecond)) || e.satisfies(&cc, epoch0.Add(time.Second)) {
		t.Error("max-age=0 must be satisfied by less than a second, and by no more")
	}
}

func TestStaleFor(t *testing.T) {
	// Expired for ten seconds.
	const after = 20 * time.Second
	f := func(want bool, response, request string, extra time.Duration) {
		t.Helper()
		e := entryOf(200, "Cache-Control:"+response)
		r := get("/", "Cache-Control:"+request)
		if got := e.StaleFor(epoch0.Add(after), r, extra); got != want {
			t.Errorf("response %q request %q extra %v: %v, want %v", response, request, extra, got, want)
		}
	}
	f(false, "max-age=10", "", 0)
	f(false, "max-age=10", "", 10*time.Second)
	f(true, "max-age=10", "", 11*time.Second)
	f(true, "max-age=10, stale-if-error=11", "", 0)
	f(false, "max-age=10, stale-if-error=10", "", 0)
	f(true, "max-age=10, stale-if-error=1", "", time.Minute)
	f(true, "max-age=10", "stale-if-error=11", 0)
	f(true, "max-age=10", "no-cache", time.Minute) // a preference, RFC 9111 section 5.2.1.4
	f(true, "max-age=10", "max-age=0", time.Minute)
	for _, forbids := range []string{"must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache", `no-cache="x"`} {
		f(false, "max-age=10, stale-if-error=999, "+forbids, "stale-if-error=999", time.Hour)
	}
	// Still fresh, and only to be validated at the request's wish.
	f(true, "max-age=30", "no-cache", 0)
	f(true, "max-age=30, must-revalidate", "max-age=0", 0)
	f(false, "max-age=30, no-cache", "", time.Hour)
}

func TestStaleIfDown(t *testing.T) {
	// Expired for ten seconds.
	f := func(down, mistaken bool, response, request string) {
		t.Helper()
		e, r := entryOf(200, "Cache-Control:"+response), get("/", "Cache-Control:"+request)
		now := epoch0.Add(20 * time.Second)
		if got := e.StaleIfDown(now, r); got != down {
			t.Errorf("response %q request %q, origin down: %v, want %v", response, request, got, down)
		}
		if got := e.StaleIfError(now, r); got != mistaken {
			t.Errorf("response %q request %q, error: %v, want %v", response, request, got, mistaken)
		}
	}
	f(true, false, "max-age=10", "") // RFC 9111 section 4.2.4: disconnected
	f(true, false, "max-age=10", "no-cache")
	f(true, true, "max-age=10, stale-if-error=11", "")
	f(false, false, "max-age=10, stale-if-error=10", "") // its own bound
	f(false, false, "max-age=10, stale-if-error=0", "")
	f(true, true, "max-age=10", "stale-if-error=11")
	f(false, false, "max-age=10", "stale-if-error=10")
	f(true, false, "max-age=30", "stale-if-error=0")
	for _, forbids := range []string{"must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"} {
		f(false, false, "max-age=10, stale-if-error=999, "+forbids, "stale-if-error=999")
	}
	e := entryOf(200, "Cache-Control: max-age=10")
	if at := epoch0.Add(10*time.Second + disconnectedMax); e.StaleIfDown(at, get("/")) || !e.StaleIfDown(at.Add(-1), get("/")) {
		t.Error("it stands in for a day, and no longer")
	}
}
