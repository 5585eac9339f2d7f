package origin

import (
	"net/http"
	"strconv"
	"time"
)

// heed tells the limiter what a response says of its server: how busy it is, and
// for how long it wants to be left alone. Visitors have no say in either.
//
// Only 429 (RFC 6585 section 4) and 503 (RFC 9110 section 15.6.4) ask for a pause.
// Any other answer that is no server error shows that the server works for
// somebody, so it was not the origin as a whole that asked.
func (o *Origin) heed(resp *http.Response) {
	o.report(resp.Header)
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		if pause := retryAfter(resp.Header, time.Now()); pause > 0 {
			o.limiter.Plead(pause)
		}
	case status < 500:
		o.limiter.Plead(0)
	}
}

// report tells the limiter what fields or trailers say of the load.
func (o *Origin) report(h http.Header) {
	if u, ok := reportIn(h).utilization(); ok {
		o.limiter.Report(u)
	}
}

// retryAfter is the time that Retry-After asks for, in seconds or as a date (RFC
// 9110 section 10.2.3), or zero. A date counts from the server's own clock, if it
// tells the time.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, at.Sub(now))
}
