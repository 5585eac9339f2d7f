package edge_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A call is one request for a resource, and what its origin says if it is asked.
type call struct {
	method  string   // GET without one
	request []string // lines of the request's header
	status  int      // of the origin; 200 without one, hangsUp closes the connection
	origin  []string // lines of its header
	want    string   // how the node answers, in the words of its Spillway field
}

const hangsUp = -1

// The words of call.want.
const (
	cached      = "hit; reason=fresh"
	asked       = "origin"
	validated   = "origin; reason=revalidated"
	inItsStead  = "stale; reason=origin-failed"
	throttled   = "stale; reason=origin-throttled"
	passedOn    = "origin; reason=origin-throttled"
	brokenOff   = "failed; reason=origin-failed"
	onlyIfThere = "refused; reason=only-if-cached"
)

// stories are what visitors of one resource see of the cache's rules, one after
// the other. Time is told by Age, so that nobody has to wait.
var stories = map[string][]call{
	"a fresh answer is reused": {
		{origin: says("Cache-Control: max-age=60"), want: asked},
		{want: cached},
		{method: "HEAD", want: cached},
		{request: says("Cookie: a=b"), want: cached},
	},
	"an answer that says nothing of its freshness is not": {
		{want: asked}, {want: asked},
	},
	"a large age is an age (RFC 9111 section 1.2.2)": {
		{origin: says("Cache-Control: max-age=3600", "Age: 99999999999999999999"), want: asked}, {want: asked},
	},
	"a lifetime that is too large is large": {
		{origin: says("Cache-Control: max-age=99999999999999999999"), want: asked}, {want: cached},
	},
	"what is of no known age is validated": {
		{origin: says("Cache-Control: max-age=3600", "Age: 1.0"), want: asked},
		{origin: says("Cache-Control: max-age=3600", "Age: 0", "Age: 0"), want: asked},
		{origin: says("Cache-Control: max-age=3600", "Age: 0, 7200", `ETag: "1"`), want: asked},
		{status: 304, origin: says("Cache-Control: max-age=3600", "Age: 7", `ETag: "1"`), want: validated},
		{want: cached},
	},
	"letter case means nothing in a date (RFC 9111 section 4.2)": {
		{origin: says("Expires: thu, 18 AUG 2050 02:01:18 gMT"), want: asked}, {want: cached},
	},
	"a date of an obsolete form is a date (RFC 9110 section 5.6.7)": {
		{origin: says("Expires: Thursday, 18-Aug-50 02:01:18 GMT"), want: asked}, {want: cached},
	},
	"what only resembles a date has expired (RFC 9111 section 5.3)": {
		{origin: says("Expires: Thu, 18 Aug 2050 2:01:18 GMT"), want: asked},
		{origin: says("Expires: Thu, 18  Aug  2050 02:01:18 GMT"), want: asked},
		{origin: says("Expires: Thu, 18 Aug 2050 02:01:18 UTC"), want: asked},
		{want: asked},
	},
	"a status without a known meaning is stored by explicit freshness": {
		{status: 599, origin: says("Cache-Control: max-age=60"), want: asked}, {want: cached},
	},
	"unless the answer must be understood (RFC 9111 section 5.2.2.3)": {
		{status: 599, origin: says("Cache-Control: max-age=60, must-understand"), want: asked}, {want: asked},
	},
	"which a known status is, in spite of no-store": {
		{origin: says("Cache-Control: max-age=60, must-understand, no-store"), want: asked}, {want: cached},
	},
	"a reload validates what is fresh": {
		{origin: says("Cache-Control: max-age=60", "Age: 5", `ETag: "1"`), want: asked},
		{request: says("Cache-Control: max-age=0"), status: 304, want: validated},
	},
	"but not what never changes (RFC 8246)": {
		{origin: says("Cache-Control: max-age=60, immutable", "Age: 5"), want: asked},
		{request: says("Cache-Control: max-age=0"), want: cached},
		{request: says("Cache-Control: no-cache"), want: asked},
	},
	"only-if-cached asks nobody (RFC 9111 section 5.2.1.7)": {
		{request: says("Cache-Control: only-if-cached"), want: onlyIfThere},
		{origin: says("Cache-Control: max-age=60"), want: asked},
		{request: says("Cache-Control: only-if-cached"), want: cached},
	},
	"max-stale takes what has expired (RFC 9111 section 5.2.1.2)": {
		{origin: says("Cache-Control: max-age=60", "Age: 70"), want: asked},
		{request: says("Cache-Control: max-stale=60"), want: cached},
		{request: says("Cache-Control: max-stale=5"), want: asked},
	},
	"a 304 about another answer is no answer (RFC 9111 section 4.3.4)": {
		{origin: says("Cache-Control: max-age=60", "Age: 70", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"), want: asked},
		{status: 304, origin: says("Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT"), want: asked},
	},
	"a POST's answer is a GET's if it says so (RFC 9110 section 9.3.3)": {
		{method: "POST", origin: says("Cache-Control: max-age=60", "Content-Location: SELF"), want: asked},
		{want: cached},
		{method: "POST", origin: says("Cache-Control: max-age=60", "Content-Location: SELF"), want: asked},
		{method: "POST", want: asked},
		{want: asked},
	},
	"unsafe methods invalidate, unknown ones too (RFC 9111 section 4.4)": {
		{origin: says("Cache-Control: max-age=60"), want: asked},
		{method: "M-SEARCH", status: 500, want: asked},
		{want: cached},
		{method: "M-SEARCH", want: asked},
		{want: asked},
	},
	"a HEAD refreshes what it describes (RFC 9111 section 4.3.5)": {
		{origin: says("Cache-Control: max-age=60", "Age: 70", `ETag: "1"`), want: asked},
		{method: "HEAD", origin: says("Cache-Control: max-age=60", `ETag: "1"`), want: asked},
		{want: cached},
	},
	"and overtakes what it does not": {
		{origin: says("Cache-Control: max-age=60", `ETag: "1"`), want: asked},
		{method: "HEAD", request: says("Cache-Control: no-cache"), origin: says("Cache-Control: max-age=60", `ETag: "2"`), want: asked},
		{want: asked},
	},
	"what has expired stands in for an origin that hangs up (RFC 9111 section 4.2.4)": {
		{origin: says("Cache-Control: max-age=60", "Age: 70"), want: asked},
		{status: hangsUp, want: inItsStead},
		{status: 503, want: throttled},
		{want: asked},
	},
	"but for a day only": {
		{origin: says("Cache-Control: max-age=60", "Age: 86500"), want: asked}, {status: hangsUp, want: brokenOff},
	},
	"and never where the answer forbids it: must-revalidate": {
		{origin: says("Cache-Control: max-age=60, must-revalidate", "Age: 70", `ETag: "1"`), want: asked}, {status: hangsUp, want: brokenOff},
	},
	"proxy-revalidate": {
		{origin: says("Cache-Control: max-age=60, proxy-revalidate", "Age: 70", `ETag: "1"`), want: asked}, {status: hangsUp, want: brokenOff},
	},
	"s-maxage": {
		{origin: says("Cache-Control: s-maxage=60", "Age: 70", `ETag: "1"`), want: asked}, {status: hangsUp, want: brokenOff},
	},
	"no-cache": {
		{origin: says("Cache-Control: max-age=600, no-cache", "Age: 70", `ETag: "1"`), want: asked}, {status: hangsUp, want: brokenOff},
	},
	"nor longer than its stale-if-error (RFC 5861 section 4)": {
		{origin: says("Cache-Control: max-age=60, stale-if-error=20", "Age: 100"), want: asked},
		{status: hangsUp, want: brokenOff},
		{status: 503, want: passedOn},
	},
	"a 500 is passed on": {
		{origin: says("Cache-Control: max-age=60", "Age: 70"), want: asked}, {status: 500, want: asked},
	},
	"but where stale-if-error asks for what has expired": {
		{origin: says("Cache-Control: max-age=60, stale-if-error=20", "Age: 70"), want: asked}, {status: 500, want: inItsStead},
	},
	"cookies are for one visitor": {
		{origin: says("Cache-Control: max-age=3600", "Set-Cookie: a=b"), want: asked}, {want: asked},
	},
	"what was authorized is for one visitor": {
		{request: says("Authorization: Basic YTpi"), origin: says("Cache-Control: max-age=3600"), want: asked}, {want: asked},
	},
	"unless the answer is for all (RFC 9111 section 3.5)": {
		{request: says("Authorization: Basic YTpi"), origin: says("Cache-Control: max-age=3600, public"), want: asked}, {want: cached},
	},
}

func says(all ...string) []string { return all }

// TestStories tells all stories, over each protocol.
func TestStories(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		number := 0
		for name, story := range stories {
			number++
			path := fmt.Sprintf("/plain/story/%d", number)
			for i, v := range story {
				w.origin.says(v.answers(path))
				if got := w.ask(v.asks(), path, "", pairs(v.request)...); got.err != nil || got.spillway != v.want {
					t.Errorf("%s: call %d is answered %q (%v), want %q; Cache-Status: %s",
						name, i+1, got.spillway, got.err, v.want, got.header["Cache-Status"])
				}
			}
		}
	})
}

func (v *call) asks() string {
	if v.method == "" {
		return http.MethodGet
	}
	return v.method
}

// answers is the origin of one call.
func (v *call) answers(path string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if v.status == hangsUp {
			conn, _, err := http.NewResponseController(rw).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		rw.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
		sent := pairs(v.origin)
		for i := 0; i < len(sent); i += 2 {
			rw.Header().Add(sent[i], strings.ReplaceAll(sent[i+1], "SELF", path))
		}
		conditional := r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since") != ""
		if v.status != 0 && (v.status != http.StatusNotModified || conditional) {
			rw.WriteHeader(v.status)
		}
		io.WriteString(rw, "answer")
	}
}

// pairs cuts "Name: value" lines.
func pairs(lines []string) (all []string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, name, value)
	}
	return all
}

// TestUnknownTransferEncoding: an answer whose end nobody knows is not passed on
// (RFC 9112 section 6.3), and much less stored.
func TestUnknownTransferEncoding(t *testing.T) {
	runWorld(t, func(t *testing.T, w *world) {
		w.origin.says(func(rw http.ResponseWriter, _ *http.Request) {
			conn, buf, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			buf.WriteString("HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nTransfer-Encoding: riddle\r\n\r\nanswer")
			buf.Flush()
		})
		for range 2 {
			w.ask("GET", "/plain/a", "").check(t, 502, brokenOff, "")
		}
		if n := w.origin.requests.Load(); n != 2 {
			t.Errorf("the origin was asked %d times", n)
		}
	})
}
