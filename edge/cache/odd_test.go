package cache

import (
	"net/http"
	"testing"
	"time"
)

// TestOddAgesAndDates: however large, many or odd, what says how old an answer is
// saturates or is ignored, and never makes one fresh that is not (RFC 9111 sections
// 1.2.2, 4.2 and 5).
func TestOddAgesAndDates(t *testing.T) {
	at := func(d time.Duration) string { return epoch0.Add(d).Format(httpDate) }
	const hour = time.Hour
	// What is left, at once, of an answer that came without delay.
	f := func(want time.Duration, lines ...string) {
		t.Helper()
		if got := entryOf(200, lines...).TTL(epoch0); got != want {
			t.Errorf("%q: fresh for %v, want %v", lines, got, want)
		}
	}
	const life = "Cache-Control: max-age=3600"
	f(hour, life)
	// Of an age that is not one number nobody knows how much it is.
	for _, odd := range []string{"", "-1", "+7200", "7200.0", "7200s", `"7200"`, "0x1c20", "7200;x=1", "7200, 0", "0, 7200", "x, 7200"} {
		f(0, life, "Age: "+odd)
	}
	f(0, life, "Age: 7200", "Age: 0")
	f(-hour, life, "Age: 7200")
	f(-hour, life, "Age: 007200")
	for _, huge := range []string{"2147483648", "4294967296", "9223372036854775808", "18446744073709551616", "99999999999999999999999999"} {
		f(hour-maxDelta, life, "Age: "+huge)
		f(maxDelta, "Cache-Control: max-age="+huge)
		f(maxDelta, "Cache-Control: s-maxage="+huge)
		f(0, "Cache-Control: max-age="+huge, "Age: "+huge)
		f(maxDelta, "CDN-Cache-Control: max-age=2147483648", "Cache-Control: max-age="+huge)
	}

	f(hour, life, "Date: nonsense")
	f(hour, life, "Date: 0")
	f(hour, life, "Date:")
	f(hour, life, "Date:"+at(10*hour)) // a clock that is ahead makes no answer younger
	f(-hour, life, "Date:"+at(-2*hour))
	f(-hour, life, "Date:"+at(-2*hour), "Date:"+at(0))
	f(-hour, life, "Date:"+at(-2*hour), "Age: 60")
	f(-hour, life, "Date:"+at(-time.Minute), "Age: 7200")
	f(hour-maxDelta, life, "Date: Thu, 01 Jan 1970 00:00:00 GMT", "Age: 99999999999")
	f(hour, life, "Date: Fri, 31 Dec 9999 23:59:59 GMT")
	f(hour-epoch0.Sub(time.Unix(0, 0)), life, "Date: Thu, 01 Jan 1970 00:00:00 GMT")

	// The three forms of RFC 9110 section 5.6.7, and what is none.
	expires := epoch0.Add(hour)
	for _, form := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		f(hour, "Expires:"+expires.Format(form))
	}
	for _, form := range []string{time.RFC1123Z, time.RFC3339, time.RFC822, "Mon, 02 Jan 2006 15:04:05 UTC+1", "Mon, 02 Jan 2006 15:04 GMT", "2006"} {
		f(0, "Expires:"+expires.Format(form))
	}
	f(0, "Expires: 0")
	f(0, "Expires: -1")
	f(0, "Expires: 3600")
	f(0, "Expires: Thu, 01 Jan 1970 00:00:00 GMT")
	f(0, "Expires: Mon, 30 Feb 2026 00:00:00 GMT")
	f(maxDelta, "Expires: Fri, 31 Dec 9999 23:59:59 GMT")
	f(maxDelta-epoch0.Sub(time.Unix(0, 0)), "Expires: Fri, 31 Dec 9999 23:59:59 GMT", "Date: Thu, 01 Jan 1970 00:00:00 GMT")
}
