package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// This file is a second reading of RFC 9111, slow and obvious, for the model in
// model_test.go. It shares no code with the first one.

// words are the directives of a field by their names, the first of each. Whatever
// cannot be read as a number is one that allows nothing.
type words map[string]string

// has reports whether a directive is there, with or without an argument.
func (w words) has(name string) bool { _, ok := w[name]; return ok }

// seconds reads a directive's argument; nonsense is zero (RFC 9111 section 4.2.1).
func (w words) seconds(name string) (d time.Duration, there bool) {
	text, there := w[name]
	d, _ = secondsOf(text)
	return d, there
}

// secondsOf reads delta-seconds, at most 2^31 (RFC 9111 section 1.2.2).
func secondsOf(text string) (time.Duration, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > 1<<31 {
		n = 1 << 31
	}
	return time.Duration(n) * time.Second, true
}

// cacheControl reads the lines of a Cache-Control, letter by letter.
func cacheControl(lines []string) words {
	w := words{}
	for _, line := range lines {
		for _, member := range outsideQuotes(line) {
			name, arg, pair := strings.Cut(member, "=")
			bare := strings.ToLower(strings.Trim(name, " \t"))
			if bare == "" || w.has(bare) {
				continue
			}
			arg = strings.TrimRight(arg, " \t")
			if len(arg) > 1 && arg[0] == '"' && arg[len(arg)-1] == '"' {
				arg = arg[1 : len(arg)-1]
			}
			if pair && (arg == "" || strings.TrimRight(name, " \t") != name) {
				arg = "nonsense"
			}
			w[bare] = arg
		}
	}
	return w
}

// outsideQuotes splits at commas. One between quotes parts nothing, but a quote that
// never ends quotes nothing: a no-store behind it counts.
func outsideQuotes(line string) (members []string) {
	from, quoted := 0, false
	for i := range len(line) {
		switch {
		case line[i] == '"' && (quoted || strings.Contains(line[i+1:], `"`)):
			quoted = !quoted
		case line[i] == ',' && !quoted:
			members, from = append(members, strings.Trim(line[from:i], " \t")), i+1
		}
	}
	return append(members, strings.Trim(line[from:], " \t"))
}

// told are the directives of a response for this cache: of the first targeted field
// that can be read (RFC 9213 section 2.2), else of Cache-Control.
func told(h http.Header) (w words, targeted bool) {
	for _, name := range []string{"Spillway-Cache-Control", "Cdn-Cache-Control"} {
		d, err := httpsfv.UnmarshalDictionary(h[name])
		if err != nil || len(d.Names()) == 0 {
			continue
		}
		w = words{}
		for _, name := range d.Names() {
			member, _ := d.Get(name)
			item, _ := member.(httpsfv.Item)
			switch v := item.Value.(type) {
			case bool:
				if v {
					w[name] = ""
				}
			case int64:
				w[name] = strconv.FormatInt(v, 10)
			default:
				w[name] = "nonsense"
			}
		}
		return w, true
	}
	return cacheControl(h["Cache-Control"]), false
}

// wished are the directives of a request (RFC 9111 sections 5.2.1 and 5.4).
func wished(h http.Header) words {
	if len(h["Cache-Control"]) == 0 && strings.Contains(strings.Join(h["Pragma"], ","), "no-cache") {
		return words{"no-cache": ""}
	}
	return cacheControl(h["Cache-Control"])
}

// dateOf reads a date: what one of the three forms would write just so.
func dateOf(h http.Header, name string) (time.Time, bool) {
	for _, form := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
		if t, err := time.Parse(form, h.Get(name)); err == nil && t.Format(form) == h.Get(name) {
			return t, true
		}
	}
	return time.Time{}, false
}

// byStatus are the statuses that may be fresh by a guess (RFC 9110 section 15.1).
var byStatus = []int{200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}

// freshFor is the lifetime of a response that came at a time (RFC 9111 section 4.2.1).
// Ours: no guess for a request with a cookie, and none beyond a tenth and a day; an
// Age that is not one number leaves nothing.
func freshFor(status int, h, asked http.Header, came time.Time) time.Duration {
	w, targeted := told(h)
	if age := h["Age"]; len(age) > 0 {
		if _, ok := secondsOf(strings.Trim(age[0], " \t")); !ok || len(age) > 1 {
			return 0
		}
	}
	if d, ok := w.seconds("s-maxage"); ok {
		return d
	}
	if d, ok := w.seconds("max-age"); ok {
		return d
	}
	date, ok := dateOf(h, "Date")
	if !ok {
		date = came // RFC 9110 section 6.6.1
	}
	if len(h["Expires"]) > 0 && !targeted {
		expires, ok := dateOf(h, "Expires")
		if !ok {
			return 0 // section 5.3
		}
		return max(0, expires.Sub(date))
	}
	modified, ok := dateOf(h, "Last-Modified")
	guess := len(asked["Cookie"]) == 0 && slices.Contains(byStatus, status) || w.has("public")
	if !ok || !guess {
		return 0
	}
	return min(max(0, date.Sub(modified))/10, 24*time.Hour)
}

// ageAt is the current_age of RFC 9111 section 4.2.3.
func ageAt(h http.Header, requested, came, now time.Time) time.Duration {
	date, ok := dateOf(h, "Date")
	if !ok {
		date = came
	}
	value, _ := secondsOf(strings.Trim(h.Get("Age"), " \t"))
	if len(h["Age"]) > 1 {
		value = 0
	}
	apparent, corrected := max(0, came.Sub(date)), value+came.Sub(requested)
	return min(max(apparent, corrected)+now.Sub(came), 1<<31*time.Second)
}

// keepable says what forbids to store a response to a GET (RFC 9111 section 3), or
// the empty word. Ours: Set-Cookie.
func keepable(asked http.Header, status int, h http.Header) string {
	w, targeted := told(h)
	understands := w.has("must-understand") && http.StatusText(status) != ""
	explicit := w.has("max-age") || w.has("s-maxage") || w.has("public") || len(h["Expires"]) > 0 && !targeted
	switch {
	case status == 304 || status == 416 || status < 200:
		return "status"
	case w.has("must-understand") && !understands:
		return "must-understand"
	case wished(asked).has("no-store"), w.has("no-store") && !understands:
		return "no-store"
	case w.has("private"):
		return "private"
	case len(h["Set-Cookie"]) > 0:
		return "set-cookie"
	case len(asked["Authorization"]) > 0 && !sharesAuthorized(w):
		return "authorization"
	case slices.Contains(names(h["Vary"]), "*"):
		return "vary"
	case !explicit && !slices.Contains(byStatus, status):
		return "no ground"
	}
	return ""
}

// sharesAuthorized is RFC 9111 section 3.5. Ours: what it does not allow to be shared
// does not answer a request with Authorization either.
func sharesAuthorized(w words) bool {
	return w.has("public") || w.has("must-revalidate") || w.has("s-maxage")
}

// neverStale are the prohibitions of RFC 9111 section 4.2.4.
func neverStale(w words) bool {
	return w.has("must-revalidate") || w.has("proxy-revalidate") || w.has("s-maxage") || w.has("no-cache")
}

// names are the members of a list of field names.
func names(lines []string) (all []string) {
	for m := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if m = strings.Trim(m, " \t"); m != "" {
			all = append(all, http.CanonicalHeaderKey(m))
		}
	}
	return all
}

// alike reports whether two requests have the same values of what Vary names (RFC 9111
// section 4.1), or such as mean the same.
func alike(vary []string, a, b http.Header) bool {
	for _, name := range names(vary) {
		if name == "*" || len(a[name]) == 0 != (len(b[name]) == 0) || meaning(name, a) != meaning(name, b) {
			return false
		}
	}
	return true
}

// meaning is one spelling of a field's value: of languages without their order.
func meaning(name string, h http.Header) string {
	members := strings.Split(strings.Join(h[name], ","), ",")
	for i := range members {
		members[i] = strings.Trim(members[i], " \t")
	}
	if name == "Accept-Language" {
		slices.Sort(members)
	}
	return strings.Join(members, ",")
}

// endToEnd is what is stored of a header (RFC 9111 section 3.1), without the fields
// that a cache makes anew.
func endToEnd(h http.Header) http.Header {
	kept := h.Clone()
	made := []string{"Connection", "Keep-Alive", "Age", "Date", "Content-Length", "Content-Range"}
	for _, name := range append(made, names(h["Connection"])...) {
		kept.Del(name)
	}
	return kept
}

// strong is the validator under which parts may be put together (RFC 9110 sections
// 8.8.1 and 8.8.2.2), or the empty word.
func strong(h http.Header) string {
	if tag := h.Get("Etag"); tag != "" {
		if strings.HasPrefix(tag, "W/") {
			return ""
		}
		return tag
	}
	modified, ok := dateOf(h, "Last-Modified")
	date, dated := dateOf(h, "Date")
	if !ok || !dated || date.Sub(modified) < time.Second {
		return ""
	}
	return h.Get("Last-Modified")
}
