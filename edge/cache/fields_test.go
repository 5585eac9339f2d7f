package cache

import (
	"net/http"
	"testing"
	"time"
)

func TestParseAge(t *testing.T) {
	f := func(want time.Duration, ok bool, lines ...string) {
		t.Helper()
		if got, gotOK := parseAge(lines); got != want || gotOK != ok {
			t.Errorf("parseAge(%q) = %v %v, want %v %v", lines, got, gotOK, want, ok)
		}
	}
	f(0, true)
	f(0, true, "0")
	f(7*time.Second, true, "7")
	f(7*time.Second, true, " 7\t")
	f(7*time.Second, true, "007")
	f(0, false, "7, 100")
	f(0, false, "7,7")
	f(0, false, "7", "100")
	f(0, false, "7", "7")
	f(0, false, "7;x=1")
	f(0, false, "")
	f(0, false, "x, 100")
	f(0, false, "", "100")
	f(0, false, "-7")
	f(0, false, "+7")
	f(0, false, "7.5")
	f(0, false, "7s")
	f(0, false, `"7"`)
	f(0, false, "7 8")
	f(0, false, "７")
	f(maxDelta, true, "2147483648")
	f(maxDelta, true, "9223372036854775808")
	f(maxDelta, true, "100000000000000000000000000000000000000000000000")
}

func TestParseDate(t *testing.T) {
	want := time.Date(1994, 11, 6, 8, 49, 37, 0, time.UTC)
	f := func(ok bool, lines ...string) {
		t.Helper()
		got, gotOK := parseDate(lines)
		if gotOK != ok || ok && !got.Equal(want) {
			t.Errorf("parseDate(%q) = %v %v", lines, got, gotOK)
		}
	}
	f(true, "Sun, 06 Nov 1994 08:49:37 GMT")
	f(true, " Sun, 06 Nov 1994 08:49:37 GMT ")
	f(true, "Sunday, 06-Nov-94 08:49:37 GMT")
	f(true, "Sun Nov  6 08:49:37 1994")
	f(true, "Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 07 Nov 1994 08:49:37 GMT")
	f(false)
	f(false, "")
	f(false, "0")
	f(false, "-1")
	f(false, "784111777")
	f(false, "Sun, 06 Nov 1994 25:49:37 GMT")
	f(false, "Sun, 31 Feb 1994 08:49:37 GMT")
	// RFC 9111 section 4.2: letter case means nothing, and there is one zone.
	f(true, "SUN, 06 nov 1994 08:49:37 gMt")
	f(true, "sunday, 06-NOV-94 08:49:37 gmt")
	f(true, "SUN NOV  6 08:49:37 1994")
	for _, zone := range []string{"UTC", "AEST", "+0000", "", "GMT+1", "GMT GMT"} {
		f(false, "Sun, 06 Nov 1994 08:49:37 "+zone)
	}
	// What resembles a date is none: RFC 9110 section 5.6.7 leaves no room.
	f(false, "Sun, 06 Nov 94 08:49:37 GMT")
	f(false, "Sun 06 Nov 1994 08:49:37 GMT")
	f(false, "Sun,06 Nov 1994 08:49:37 GMT")
	f(false, "Sun, 06  Nov  1994 08:49:37 GMT")
	f(false, "Sun, 06-Nov-1994 08:49:37 GMT")
	f(false, "Sun, 06 Nov 1994 08.49.37 GMT")
	f(false, "Sun, 06 Nov 1994 8:49:37 GMT")
	f(false, "Sun, 6 Nov 1994 08:49:37 GMT")
	f(false, "Sun, 06 Nov 1994 08:49:37.5 GMT")
	f(false, "Sun, 06 Nov 1994 08:49 GMT")
	f(false, "Sun, 06 Nov +994 08:49:37 GMT")
	f(false, "Sun, 00 Nov 1994 08:49:37 GMT")
	f(false, "Sun, 06 Nov 1994 08:60:37 GMT")
	f(false, "Sun, 06 Nov 1994 08:49:61 GMT")
	f(false, "06 Nov 1994 08:49:37 GMT")
	f(false, "Sun, 06 November 1994 08:49:37 GMT")
	f(false, "Sun, 06-Nov-94 08:49:37 GMT")
	f(false, "Sun Nov 6 08:49:37 1994")
	f(false, "Sun Nov  6 08:49:37 1994 GMT")
	f(false, "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT")
}

// A leap second is a time (RFC 9110 section 5.6.7 allows 60).
func TestLeapSecond(t *testing.T) {
	got, ok := parseDate([]string{"Sat, 31 Dec 2016 23:59:60 GMT"})
	if want := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC); !ok || !got.Equal(want) {
		t.Errorf("%v %v, want %v", got, ok, want)
	}
}

// A year of two digits is at most 50 years ahead (RFC 9110 section 5.6.7).
func TestYearOfTwoDigits(t *testing.T) {
	f := func(want, digits, now int) {
		t.Helper()
		if got := fullYear(digits, now); got != want {
			t.Errorf("%02d in %d is %d, want %d", digits, now, got, want)
		}
	}
	f(2026, 26, 2026)
	f(2050, 50, 2026)
	f(2076, 76, 2026)
	f(1977, 77, 2026)
	f(1999, 99, 2026)
	f(2000, 0, 2026)
	f(2100, 0, 2050)
	f(2001, 1, 2050)
}

func FuzzAge(f *testing.F) {
	for _, seed := range []string{"", "0", "7", "7, 8", "-1", "99999999999999999999", "1.5", "\x00", " 1 "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		age, ok := parseAge([]string{line})
		if age < 0 || age > maxDelta || !ok && age != 0 {
			t.Fatalf("%q: %v %v", line, age, ok)
		}
		// Whatever an age says, sums with it do not wrap.
		e := &Entry{initialAge: initialAge(header("Age:"+line), epoch0, epoch0.Add(-time.Hour), epoch0), received: epoch0, lifetime: maxDelta}
		far := e.Age(epoch0.AddDate(290, 0, 0))
		if far < age || far > maxDelta || e.TTL(epoch0) > maxDelta {
			t.Fatalf("%q: age %v later %v", line, age, far)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, seed := range []string{
		"", "0", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
		"Sun, 06 Nov 0000 08:49:37 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		date, ok := parseDate([]string{line})
		if !ok {
			return
		}
		again, ok := parseDate([]string{date.Format(http.TimeFormat)})
		if !ok || !again.Equal(date) {
			t.Fatalf("%q: %v, again %v", line, date, again)
		}
		h := header("Expires:"+line, "Last-Modified:"+line)
		for _, d := range []time.Duration{
			lifetime(200, h, directives{}, epoch0, true), heuristicLifetime(h, epoch0), initialAge(h, date, epoch0, epoch0),
		} {
			if d < 0 || d > maxDelta {
				t.Fatalf("%q: %v", line, d)
			}
		}
	})
}
