package cache

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A cache that lives through a random history answers as a plain list of all that was
// ever stored does, by a slow reading of RFC 9111 (model_rules_test.go). What the RFC
// forbids never happens; what Spillway promises beyond, such as a hit where one is
// possible, does.
//
// SPILLWAY_HISTORIES sets how many hundreds of them there are. They are the same each
// time, so that what fails is what was changed; -rapid.seed=N draws others.
func TestModel(t *testing.T) {
	hundreds, err := strconv.Atoi(os.Getenv("SPILLWAY_HISTORIES"))
	if err != nil {
		hundreds = 5
	}
	seed := flag.Lookup("rapid.seed").Value
	first, err := strconv.ParseUint(seed.String(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Set(seed.String())
	for i := uint64(0); i < uint64(hundreds) && !t.Failed(); i++ {
		seed.Set(strconv.FormatUint(max(first, 1)+i<<16, 10))
		rapid.Check(t, func(rt *rapid.T) {
			h := drawHistory(rt)
			if complaint, at := live(t, h); complaint != "" {
				rt.Fatalf("step %d: %s\n%v", at, complaint, h)
			}
		})
	}
}

// A stored response, or the bytes of it that came.
type stored struct {
	url             string
	asked           http.Header
	status          int
	header          http.Header
	whole           string
	held            []bool // which bytes of it
	requested, came time.Time
	life            time.Duration
	soft            bool // softly purged
	sure            bool // it is there; else it may be
}

// A model is the list of what is stored, the newest last.
type model struct{ all []*stored }

func (e *stored) age(now time.Time) time.Duration { return ageAt(e.header, e.requested, e.came, now) }
func (e *stored) ttl(now time.Time) time.Duration { return e.life - e.age(now) }

// complete reports whether all bytes are held.
func (e *stored) complete() bool { return !slices.Contains(e.held, false) }

// end makes an entry stale.
func (e *stored) end(now time.Time) { e.life = min(e.life, e.age(now)) }

// selects reports whether an entry may answer a request at all (RFC 9111 sections 3.5
// and 4.1).
func (e *stored) selects(url string, h http.Header) bool {
	w, _ := told(e.header)
	return e.url == url && alike(e.header["Vary"], e.asked, h) && (len(h["Authorization"]) == 0 || sharesAuthorized(w))
}

// fits reports whether an entry answers without asking (RFC 9111 section 4), and
// whether it does so while it is renewed (RFC 5861 section 3).
func (e *stored) fits(r *http.Request, now time.Time) (fits, renewing bool) {
	w, _ := told(e.header)
	c, ttl := wished(r.Header), e.ttl(now)
	maxAge, hasMaxAge := c.seconds("max-age")
	minFresh, hasMinFresh := c.seconds("min-fresh")
	maxStale, hasMaxStale := c.seconds("max-stale")
	if hasMaxStale && c["max-stale"] == "" {
		maxStale = 1 << 62
	}
	if w.has("no-cache") || c.has("no-cache") {
		return false, false
	}
	if window, _ := w.seconds("stale-while-revalidate"); ttl <= 0 && -ttl < window && !neverStale(w) && !hasMaxAge && !hasMinFresh && !hasMaxStale {
		return true, true
	}
	switch {
	case e.soft, hasMinFresh && ttl < minFresh:
		return false, false
	case ttl > 0 && w.has("immutable"): // RFC 8246
		return true, false
	case hasMaxAge && e.age(now) > maxAge:
		return false, false
	}
	return ttl > 0 || hasMaxStale && -ttl <= maxStale && !neverStale(w), false
}

// standsIn reports whether an entry answers for an error (RFC 9111 section 4.2.4, RFC
// 5861 section 4). Ours: a day, where nobody says how long.
func (e *stored) standsIn(r *http.Request, now time.Time) bool {
	w, _ := told(e.header)
	own, said := w.seconds("stale-if-error")
	wish, wished := wished(r.Header).seconds("stale-if-error")
	window := max(own, wish)
	if !said && !wished {
		window = 24 * time.Hour
	}
	return !neverStale(w) && -e.ttl(now) < window
}

// holds reports whether an entry has all bytes that a request asks for.
func (e *stored) holds(r *http.Request) bool {
	if e.complete() {
		return true
	}
	lines := r.Header["Range"]
	if r.Method != "GET" || len(lines) != 1 || !ifRangeHolds(r, e.header) {
		return false
	}
	if lines[0] == twoRanges {
		return !slices.Contains(slices.Concat(e.held[:10], e.held[200:210]), false)
	}
	from, to, ok := oneRange(lines[0], len(e.whole))
	return ok && !slices.Contains(e.held[from:to], false)
}

// twoRanges is the one Range of several.
const twoRanges = "bytes=0-9,200-209"

// ifRangeHolds is RFC 9110 section 13.1.5.
func ifRangeHolds(r *http.Request, h http.Header) bool {
	lines := r.Header["If-Range"]
	return len(lines) == 0 || lines[0] != "" && lines[0] == strong(h)
}

// unchanged reports whether a request's conditions make an answer a 304 (RFC 9110
// section 13.2.2); by Date where a stored one has no Last-Modified (RFC 9111 section
// 4.3.2).
func unchanged(r *http.Request, status int, h http.Header, stored bool) bool {
	if status < 200 || status > 299 || r.Method != "GET" && r.Method != "HEAD" {
		return false
	}
	if tags := strings.Join(r.Header["If-None-Match"], ","); tags != "" {
		tag := strings.TrimPrefix(h.Get("Etag"), "W/")
		return tags == "*" || tag != "" && strings.Contains(tags, tag)
	}
	since, ok := dateOf(r.Header, "If-Modified-Since")
	modified, dated := dateOf(h, "Last-Modified")
	if !dated && stored {
		modified, dated = dateOf(h, "Date")
	}
	return ok && dated && !modified.After(since)
}

// renders says how an answer differs from what an entry is for a request, or nothing.
func (e *stored) renders(g *got) string {
	r, want, status := g.r, e.whole, e.status
	lines := r.Header["Range"]
	ranged := r.Method == "GET" && len(lines) == 1 && e.status == 200 && ifRangeHolds(r, e.header)
	same := endToEnd(e.header)
	switch {
	case unchanged(r, e.status, e.header, true):
		status, want = 304, ""
	case ranged && lines[0] == twoRanges:
		if g.status != 206 || !strings.HasPrefix(g.header.Get("Content-Type"), "multipart/byteranges; boundary=") ||
			!strings.Contains(g.body, e.whole[:10]+"\r\n") || !strings.Contains(g.body, e.whole[200:210]+"\r\n") {
			return fmt.Sprintf("two ranges are answered by %d %q", g.status, g.body)
		}
		return e.serial(g)
	case ranged && lines[0] == "bytes=400-500":
		status, want = 416, ""
	case ranged:
		if from, to, ok := oneRange(lines[0], len(e.whole)); ok {
			status, want = 206, e.whole[from:to]
			if said := fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(e.whole)); g.status == 206 && g.header.Get("Content-Range") != said {
				return fmt.Sprintf("Content-Range is %q and not %q", g.header.Get("Content-Range"), said)
			}
		}
	}
	if r.Method == "HEAD" {
		want = g.body
	}
	switch {
	case g.status != status:
		return fmt.Sprintf("the status is %d and not %d", g.status, status)
	case g.body != want:
		return fmt.Sprintf("the body is %.60q and not %.60q", g.body, want)
	case status == e.status && !equalFields(endToEnd(g.header), same):
		return fmt.Sprintf("the header is %v and not %v", endToEnd(g.header), same)
	}
	if age := fmt.Sprint(int(e.age(g.answered) / time.Second)); status != 416 && g.header.Get("Age") != age {
		return fmt.Sprintf("Age is %q and not %s", g.header.Get("Age"), age)
	}
	return e.serial(g)
}

// serial compares the number of the origin's answer from which the fields are.
func (e *stored) serial(g *got) string {
	if g.header.Get("X-Serial") != e.header.Get("X-Serial") {
		return fmt.Sprintf("it is from answer %s and not %s", g.header.Get("X-Serial"), e.header.Get("X-Serial"))
	}
	return ""
}

func equalFields(a, b http.Header) bool {
	if len(a) != len(b) {
		return false
	}
	for name := range a {
		if !slices.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}
