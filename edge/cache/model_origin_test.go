package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A reaction is what the origin does with the next request: the same for the second
// one of a visit, if there is a second.
type reaction struct {
	Status  int
	Fields  []string // lines of the header; {date}-30 and the like are filled in
	Tag     string   // strong, weak or none
	Dated   string   // Last-Modified: old, recent or none
	Changes bool     // there is a new version from now on
	Validly string   // conditions: heeded, ignored, or answered by a 304 about another tag
	Ranges  string   // heeded, ignored, or answered by a 206 that does not say where
	Takes   int      // seconds
	Cut     int      // bytes that are missing at the end
	Fails   bool     // no answer at all
}

// An exchange is a request that reached the origin, and what that answered.
type exchange struct {
	method, url         string
	asked               http.Header
	requested, received time.Time
	fails               bool
	status              int
	header              http.Header
	whole               string // the representation
	from, to            int    // the bytes of it that the answer has
	cut                 bool
	behind              bool // nobody waited for it
}

// An origin answers requests of one history. It has versions of each URL, of which
// each has other bytes for each request that Vary tells apart.
type origin struct {
	versions map[string]int
	modified map[string]int // each representation has a Last-Modified of its own
	serial   int
	next     reaction
	changed  bool // for the request that is under way
	seen     []*exchange
	began    time.Time
}

// fetch is a Func of the Cache's.
func (o *origin) fetch(_ context.Context, r *http.Request) (*http.Response, error) {
	return o.answer(r, false)
}

// renew is fetch for the background.
func (o *origin) renew(_ context.Context, r *http.Request) (*http.Response, error) {
	return o.answer(r, true)
}

func (o *origin) answer(r *http.Request, behind bool) (*http.Response, error) {
	do := o.next
	x := &exchange{method: r.Method, url: r.URL.String(), asked: r.Header.Clone(), requested: time.Now(), behind: behind}
	o.seen = append(o.seen, x)
	if do.Changes && !o.changed {
		o.versions[x.url]++
		o.changed = true
	}
	time.Sleep(time.Duration(do.Takes) * time.Second)
	x.received = time.Now()
	if do.Fails {
		x.fails = true
		return nil, errors.New("the origin fails")
	}
	o.serial++
	x.header = o.header(do, x)
	x.status = do.Status
	if do.Status != 204 && do.Status != 304 {
		x.whole = representation(x.url, o.versions[x.url], x.header["Vary"], x.asked)
		x.to = len(x.whole)
	}
	o.conditions(do, x)
	sent := x.whole[x.from:x.to]
	length := int64(len(sent))
	if r.Method == "HEAD" {
		x.header.Set("Content-Length", fmt.Sprint(length))
		sent = ""
	} else if do.Cut > 0 && len(sent) > do.Cut && (x.status == 200 || x.status == 206) {
		x.cut, sent, x.to = true, sent[:len(sent)-do.Cut], x.to-do.Cut
	}
	return &http.Response{
		StatusCode: x.status, Header: x.header.Clone(), ContentLength: length,
		Body: io.NopCloser(strings.NewReader(sent)),
	}, nil
}

// header makes the fields of an answer, with a serial number of its own.
func (o *origin) header(do reaction, x *exchange) http.Header {
	h := http.Header{"X-Serial": {fmt.Sprint(o.serial)}}
	for _, line := range do.Fields {
		name, value, _ := strings.Cut(line, ": ")
		for i, form := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
			var offset int
			if _, err := fmt.Sscanf(value, fmt.Sprintf("{date%d}%%d", i), &offset); err == nil {
				value = x.received.Add(time.Duration(offset) * time.Second).UTC().Format(form)
			}
		}
		h.Add(name, value)
	}
	version := o.versions[x.url]
	tag := fmt.Sprintf(`"v%d%s"`, version, strings.ReplaceAll(variant(h["Vary"], x.asked), `"`, ""))
	switch do.Tag {
	case "strong":
		h.Set("Etag", tag)
	case "weak":
		h.Set("Etag", "W/"+tag)
	}
	which := x.url + tag
	if _, known := o.modified[which]; !known {
		o.modified[which] = len(o.modified)
	}
	before, dated := map[string]int{"old": 10000, "recent": 200}[do.Dated]
	if dated {
		h.Set("Last-Modified", o.began.Add(time.Duration(o.modified[which]-before)*time.Second).UTC().Format(http.TimeFormat))
	}
	return h
}

// conditions applies those of the request, as RFC 9110 section 13.2.2 has servers do.
func (o *origin) conditions(do reaction, x *exchange) {
	if do.Status != 200 {
		return
	}
	unchanged := false
	if tags := x.asked["If-None-Match"]; len(tags) > 0 {
		unchanged = x.header.Get("Etag") != "" && weakly(tags[0]) == weakly(x.header.Get("Etag"))
	} else if since := x.asked.Get("If-Modified-Since"); since != "" {
		unchanged = since == x.header.Get("Last-Modified")
	}
	conditional := len(x.asked["If-None-Match"])+len(x.asked["If-Modified-Since"]) > 0
	switch {
	case do.Validly == "wrong" && conditional:
		x.header.Set("Etag", `"another"`)
		x.status, x.whole, x.to = 304, "", 0
		return
	case do.Validly == "heeded" && unchanged:
		x.status, x.whole, x.to = 304, "", 0
		return
	}
	want := x.asked["Range"]
	if x.method != "GET" || len(want) != 1 || do.Ranges == "ignored" {
		return
	}
	if condition := x.asked.Get("If-Range"); condition != "" && condition != strong(x.header) {
		return
	}
	from, to, ok := oneRange(want[0], len(x.whole))
	if !ok {
		return
	}
	x.status, x.from, x.to = 206, from, to
	if do.Ranges == "heeded" {
		x.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(x.whole)))
	} else {
		x.header.Set("Content-Range", fmt.Sprintf("bytes %d/%d", from, len(x.whole)))
	}
}

// oneRange reads a Range of one range that can be satisfied.
func oneRange(text string, size int) (from, to int, ok bool) {
	if n, err := fmt.Sscanf(text, "bytes=-%d", &from); n == 1 && err == nil {
		return max(0, size-from), size, from > 0 && text == fmt.Sprintf("bytes=-%d", from)
	}
	if text == fmt.Sprintf("bytes=%d-", scanned(text, "bytes=%d-", &from)) {
		return from, size, from < size
	}
	n, err := fmt.Sscanf(text, "bytes=%d-%d", &from, &to)
	ok = n == 2 && err == nil && from >= 0 && from <= to && from < size && text == fmt.Sprintf("bytes=%d-%d", from, to)
	return from, min(to+1, size), ok
}

// scanned reads one number.
func scanned(text, form string, n *int) int {
	if _, err := fmt.Sscanf(text, form, n); err != nil {
		*n = -1
	}
	return *n
}

// variant is what tells the requests of a Vary apart.
func variant(vary []string, asked http.Header) (text string) {
	for _, name := range names(vary) {
		if name != "*" {
			text += fmt.Sprintf(" %s=%s", name, meaning(name, asked))
		}
	}
	return text
}

// representation is 300 bytes of which each twenty or so say what they are.
func representation(url string, version int, vary []string, asked http.Header) string {
	var b strings.Builder
	for b.Len() < 300 {
		fmt.Fprintf(&b, "%s v%d%s at %d|", url, version, variant(vary, asked), b.Len())
	}
	return b.String()[:300]
}
