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
	f(0, false)
	f(0, true, "0")
	f(7*time.Second, true, "7")
	f(7*time.Second, true, " 7\t")
	f(7*time.Second, true, "007")
	f(7*time.Second, true, "7, 100")   // of a list the first
	f(7*time.Second, true, "7", "100") // of several lines too
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
