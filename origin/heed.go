package origin

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

// heed tells the limiter what a response says of its server: how busy it is, and
// for how long it wants to be left alone. Visitors have no say in either.
//
// Only 429 (RFC 6585 section 4) and 503 (RFC 9110 section 15.6.4) ask for a pause.
// Any other answer that is no server error shows that the server works for
// somebody, so it was not the origin as a whole that asked. A 429 is about who
// asked, so that one visitor's count once, however many they are.
func (o *Origin) heed(resp *http.Response, visitor string) {
	o.report(resp.Header)
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		pause := retryAfter(resp.Header, time.Now())
		if pause > 0 && (status == http.StatusServiceUnavailable || o.refused.add(visitor)) {
			o.limiter.Plead(pause)
		}
	case status < 500:
		o.limiter.Plead(0)
	}
}

// refused are the visitors whose 429s counted last. They are one fewer than the
// limiter wants to hear of in a row, so that these are all different. The zero value
// is ready; it is safe for concurrent use.
type refused struct {
	mu   sync.Mutex
	last [15]netip.Prefix
	next int
}

// add reports whether a visitor is none of the last, and makes it one. Who has an
// IPv6 address has a network of them.
func (r *refused) add(visitor string) bool {
	addr, _ := netip.ParseAddr(visitor)
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 48
	}
	network, _ := addr.Prefix(bits)
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.last[:], network) {
		return false
	}
	r.last[r.next] = network
	r.next = (r.next + 1) % len(r.last)
	return true
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
