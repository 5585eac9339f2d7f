package cache

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"
)

// A step of a history is a request and what the origin does with it, or a purge.
type step struct {
	Wait   int // seconds before it
	Purge  string
	Method string
	URL    string
	Fields []string
	reaction
}

func (s step) String() string {
	if s.Purge != "" {
		return fmt.Sprintf("+%ds %s purge of %s", s.Wait, s.Purge, s.URL)
	}
	text := []string{fmt.Sprintf("+%ds %s %s %q -> %d %q tag=%s dated=%s",
		s.Wait, s.Method, s.URL, s.Fields, s.Status, s.reaction.Fields, s.Tag, s.Dated)}
	for _, odd := range []struct {
		is   bool
		text string
	}{
		{s.Changes, "new version"},
		{s.Validly != "heeded", "conditions " + s.Validly},
		{s.Ranges != "heeded", "ranges " + s.Ranges},
		{s.Takes > 0, fmt.Sprintf("takes %ds", s.Takes)},
		{s.Cut > 0, fmt.Sprintf("cut by %d", s.Cut)},
		{s.Fails, "fails"},
	} {
		if odd.is {
			text = append(text, odd.text)
		}
	}
	return strings.Join(text, ", ")
}

// A history is what one node lives through.
type history []step

func (h history) String() string {
	var b strings.Builder
	for i, s := range h {
		fmt.Fprintf(&b, "%3d %s\n", i+1, s)
	}
	return b.String()
}

// controls are lines of Cache-Control of responses, sound and not.
var controls = [][]string{
	{"max-age=60"},
	{"max-age=10"},
	nil,
	{"max-age=10, stale-while-revalidate=60"},
	{"max-age=10, stale-if-error=60"},
	{"max-age=10, must-revalidate"},
	{"max-age=10", "must-revalidate"},
	{"max-age=10, proxy-revalidate, stale-while-revalidate=60"},
	{"max-age=0"},
	{"s-maxage=10, max-age=60"},
	{"s-maxage=0, max-age=60"},
	{"no-store"},
	{"no-cache"},
	{"no-cache, max-age=60"},
	{`no-cache="X-A", max-age=60`},
	{"private, max-age=60"},
	{`max-age=60, private="X-A"`},
	{"public"},
	{"public, max-age=60"},
	{"max-age=60, immutable"},
	{"must-understand, no-store, max-age=60"},
	{"max-age=60, must-understand"},
	{`max-age="60"`},
	{"max-age=6x"},
	{"max-age=-1"},
	{"max-age=1.5"},
	{"max-age"},
	{"max-age =60"},
	{"MAX-AGE=60"},
	{"max-age=99999999999999999999"},
	{"max-age=2147483648"},
	{"max-age=60, max-age=5"},
	{"max-age=5", "max-age=60"},
	{`foo="a, no-store", max-age=60`},
	{`foo="a`, "max-age=60, no-store"},
	{`foo="a, no-store, max-age=60`},
	{"", ",, max-age=60 ,"},
	{"max-age=0, stale-while-revalidate=60"},
	{"stale-if-error=60, max-age=1, must-revalidate"},
	{"max-age=10, stale-if-error=0"},
}

// seldom draws one of several lines, and most often none.
func seldom(t *rapid.T, label string, often int, lines ...string) []string {
	i := rapid.IntRange(0, len(lines)*often).Draw(t, label)
	if i == 0 || i > len(lines) {
		return nil
	}
	return strings.Split(lines[i-1], "\n")
}

// drawReaction draws what the origin does.
func drawReaction(t *rapid.T) (do reaction) {
	do.Status = rapid.SampledFrom([]int{
		200, 200, 200, 200, 200, 200, 200, 200, 204, 301, 302, 304, 404, 410, 500, 503, 599,
	}).Draw(t, "status")
	for _, line := range rapid.SampledFrom(controls).Draw(t, "control") {
		do.Fields = append(do.Fields, "Cache-Control: "+line)
	}
	for _, lines := range [][]string{
		seldom(t, "targeted", 5, "Cdn-Cache-Control: max-age=30", "Cdn-Cache-Control: no-store",
			"Cdn-Cache-Control: max-age=1.5", "Cdn-Cache-Control: max-age=(", "Spillway-Cache-Control: max-age=20",
			"Cdn-Cache-Control: private", "Cdn-Cache-Control: ", "Cdn-Cache-Control: max-age=10, stale-while-revalidate=60",
			"Spillway-Cache-Control: no-cache\nCdn-Cache-Control: max-age=60"),
		seldom(t, "expires", 3, "Expires: {date0}60", "Expires: {date0}-10", "Expires: 0", "Expires: soon",
			"Expires: {date1}60", "Expires: {date2}60"),
		seldom(t, "date", 2, "Date: {date0}0", "Date: {date0}-5", "Date: {date0}-30", "Date: {date0}30", "Date: today",
			"Date: {date1}-5"),
		seldom(t, "age", 4, "Age: 0", "Age: 5", "Age: 30", "Age: 99999999999999999999", "Age: -1",
			"Age: 1, 2", "Age: 1\nAge: 2"),
		seldom(t, "vary", 1, "Vary: X-A", "Vary: x-a, Accept-Language", "Vary: *", "Vary: Accept-Language",
			"Vary: X-A\nVary: X-B", "Vary: X-A,,", "Vary: X-A, *", "Vary: Cookie"),
		seldom(t, "cookie", 10, "Set-Cookie: a=b"),
		seldom(t, "connection", 5, "Connection: X-Hop, close\nX-Hop: 1", "Keep-Alive: 5"),
		seldom(t, "extra", 3, "X-Extra: 1", "Content-Type: text/plain", "X-Extra: 1\nX-Extra: 2"),
		seldom(t, "location", 3, "Location: /b", "Content-Location: /a", "Content-Location: http://example.com/b",
			"Location: http://other.com/b", "Location: //EXAMPLE.com:80/a"),
	} {
		do.Fields = append(do.Fields, lines...)
	}
	do.Tag = rapid.SampledFrom([]string{"strong", "none", "weak"}).Draw(t, "tag")
	do.Dated = rapid.SampledFrom([]string{"none", "old", "recent"}).Draw(t, "dated")
	do.Changes = rapid.IntRange(0, 4).Draw(t, "changes") == 4
	do.Validly = rapid.SampledFrom([]string{"heeded", "heeded", "heeded", "ignored", "wrong"}).Draw(t, "validly")
	do.Ranges = rapid.SampledFrom([]string{"heeded", "heeded", "heeded", "ignored", "mute"}).Draw(t, "ranges")
	do.Takes = rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "takes")
	do.Cut = rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 1, 150}).Draw(t, "cut")
	do.Fails = rapid.IntRange(0, 12).Draw(t, "fails") == 12
	return do
}

// drawStep draws a step.
func drawStep(t *rapid.T) (s step) {
	s.Wait = rapid.SampledFrom([]int{0, 0, 1, 4, 5, 9, 10, 11, 30, 61, 200, 90000}).Draw(t, "wait")
	s.URL = rapid.SampledFrom([]string{"/a", "/b", "/a?x=1"}).Draw(t, "url")
	if rapid.IntRange(0, 15).Draw(t, "purge") == 15 {
		s.Purge = rapid.SampledFrom([]string{"hard", "soft"}).Draw(t, "kind")
		return s
	}
	s.Method = rapid.SampledFrom([]string{
		"GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET",
		"HEAD", "HEAD", "HEAD", "POST", "DELETE", "OPTIONS", "FOO",
	}).Draw(t, "method")
	for _, lines := range [][]string{
		seldom(t, "a", 1, "X-A: 1", "X-A: 2", "X-A: 1\nX-A: 2", "X-A: 1,2"),
		seldom(t, "b", 2, "X-B: 1"),
		seldom(t, "language", 1, "Accept-Language: de, en", "Accept-Language: en,de", "Accept-Language: de"),
		seldom(t, "wish", 1, "Cache-Control: no-cache", "Cache-Control: no-store", "Cache-Control: max-age=0",
			"Cache-Control: max-age=5", "Cache-Control: min-fresh=5", "Cache-Control: max-stale", "Cache-Control: max-stale=5",
			"Cache-Control: only-if-cached",
			"Pragma: no-cache", "Cache-Control: foo\nPragma: no-cache", "Cache-Control: max-age=5, max-stale=30",
			"Cache-Control: stale-if-error=60", "Cache-Control: only-if-cached, max-stale"),
		seldom(t, "user", 6, "Authorization: Basic YTpi", "Cookie: u=1", "Cookie: u=2"),
		seldom(t, "condition", 4, `If-None-Match: "v0"`, `If-None-Match: "x", W/"v1"`, "If-None-Match: *",
			"If-Modified-Since: {lm}", `If-Match: "v0"`),
		seldom(t, "range", 2, "Range: bytes=0-99", "Range: bytes=100-199", "Range: bytes=200-",
			"Range: bytes=-50", "Range: bytes=50-149",
			"Range: bytes=0-", "Range: bytes=400-500", "Range: bytes=9-5", "Range: lines=1-2", "Range: "+twoRanges,
			"Range: bytes=0-99\nIf-Range: \"v0\"", "Range: bytes=100-199\nIf-Range: W/\"v0\""),
	} {
		s.Fields = append(s.Fields, lines...)
	}
	s.reaction = drawReaction(t)
	return s
}

// drawHistory draws the steps of a history.
func drawHistory(t *rapid.T) history {
	return rapid.SliceOfN(rapid.Custom(drawStep), 1, 14).Draw(t, "history")
}
