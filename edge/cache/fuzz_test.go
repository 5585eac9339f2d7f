package cache

import (
	"context"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzVary: a Vary means what a plain split at its commas says, or that nothing matches.
func FuzzVary(f *testing.F) {
	for _, seed := range []string{
		"", "*", "A, b,,a", "Accept-Encoding , *", "a b", "\x00", "Host", "Range", "X-Forwarded-Proto", strings.Repeat("a,", 40),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		fields, ok := varyNames(http.Header{"Vary": {line}})
		if len(fields) > maxVary {
			t.Fatalf("%q: %d fields", line, len(fields))
		}
		if !ok {
			return
		}
		for member := range strings.SplitSeq(line, ",") {
			name := textproto.CanonicalMIMEHeaderKey(strings.Trim(member, " \t"))
			if name != "" && name != "Host" && !slices.Contains(fields, name) || name == "*" || name == "Range" {
				t.Fatalf("%q is %q", line, fields)
			}
		}
		h := http.Header{"A": {line}}
		if !matches(nominate(h, fields), h) {
			t.Fatalf("%q: a request does not match itself", line)
		}
	})
}

// FuzzMeaning: what two values of any field mean is the same in both directions, and
// lists that are alike differ in spaces only.
func FuzzMeaning(f *testing.F) {
	for _, seed := range [][2]string{
		{"a, b", "a,b"}, {`"a, b"`, `"a,b"`}, {`a,"b`, `a ,"b`}, {"", ","}, {`"\",", b`, `"\",",b`},
	} {
		f.Add("X-A", seed[0], seed[1])
		f.Add("Accept-Language", seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, a, b string) {
		if name == "" {
			return
		}
		same := sameMeaning(name, a, b)
		if same != sameMeaning(name, b, a) {
			t.Fatalf("%s: %q and %q", name, a, b)
		}
		spaceless := strings.NewReplacer(" ", "", "\t", "").Replace
		if list := !strings.HasPrefix(name, "Accept"); list && same && spaceless(a) != spaceless(b) {
			t.Fatalf("%s: %q is like %q", name, a, b)
		}
	})
}

// FuzzCookies: a cookie's value is the one that a plain split finds, and all of the
// field where there are several.
func FuzzCookies(f *testing.F) {
	for _, seed := range []string{
		"", "a=1", "b=2; a=1", "a=1; a=2", "a", ";;=;a=", "a = 1 ", `a="1;2"`, strings.Repeat("b;", 200) + "a=1",
	} {
		f.Add(seed, "")
		f.Add("a=0", seed)
	}
	f.Fuzz(func(t *testing.T, line, second string) {
		h := http.Header{"Cookie": {line, second}}
		var values []string
		pairs := strings.Split(line+";"+second, ";")
		for _, pair := range pairs {
			if name, value, _ := strings.Cut(pair, "="); strings.Trim(name, " \t") == "a" {
				values = append(values, strings.Trim(value, " \t"))
			}
		}
		value, present := cookieValue(h, "a")
		switch {
		case len(pairs) > maxCookies || len(values) > 1:
			if value != line+cookieJoint+second || !present {
				t.Fatalf("%q %q: %q", line, second, value)
			}
		case present != (len(values) == 1) || present && value != values[0]:
			t.Fatalf("%q %q: %q, %v", line, second, value, present)
		}
	})
}

// FuzzCursor: whatever cursor a list is continued by, it ends, names what there is, and
// nothing twice.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "0.0", "1.", "0.4294967295", "65535.1", "3.7", "-1.2", "0x1.1", "99999999999.1"} {
		f.Add(seed)
	}
	c := New(config())
	for _, path := range []string{"/a", "/b", "/c/d"} {
		r := get(path, "")
		t := c.target(r)
		a := answer{status: 200, header: http.Header{}, length: 1, requested: epoch0, received: epoch0}
		e, _ := newEntry(r, a, directives{})
		c.store.put(&t, e.complete([]byte("x")), r)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		var urls []string
		for range 1000 {
			page, next, err := c.List(SelectAll(), cursor, 1, epoch0)
			if err != nil && (len(page) > 0 || next != "") {
				t.Fatalf("%q: %v and %v", cursor, page, err)
			}
			for i := range page {
				urls = append(urls, page[i].URL)
			}
			if cursor = next; next == "" {
				slices.Sort(urls)
				if len(slices.Compact(slices.Clone(urls))) != len(urls) || len(urls) > 3 {
					t.Fatalf("%q lists %q", cursor, urls)
				}
				return
			}
		}
		t.Fatalf("%q never ends", cursor)
	})
}

// FuzzReference: a response makes nothing of another origin out of date.
func FuzzReference(f *testing.F) {
	for _, seed := range []string{
		"", "/a", "//other/", "http://EXAMPLE.com:80/b", "https://example.com/", "http:a", "mailto:a@b", "\\\\other", "?a#b",
		"http://example.com@other/", "%zz", "a:", "https:/b", "http:/b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reference string) {
		r := get("http://example.com/dir/a")
		c := New(Config{})
		own := c.target(r)
		u, ok := sameOrigin(r, &own, reference)
		if !ok {
			return
		}
		base, _ := url.Parse("http://example.com/dir/a")
		whole, err := base.Parse(strings.Trim(reference, " \t"))
		if err != nil || strings.TrimSuffix(strings.ToLower(whole.Host), ":80") != "example.com" {
			t.Fatalf("%q leads to %v", reference, whole)
		}
		if other := c.targetOf(own.scheme, own.host, u); other.host != "example.com" || !strings.HasPrefix(other.path, "/") {
			t.Fatalf("%q is %q on %q", reference, other.path, other.host)
		}
	})
}

// FuzzDateForms: what the time package writes in one of the three forms is read as it
// was meant.
func FuzzDateForms(f *testing.F) {
	for _, seed := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
		"Mon, 31 Feb 2000 00:00:00 GMT",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		want, ok := dateOf(http.Header{"Date": {line}}, "Date")
		date, read := parseDate([]string{line})
		short := strings.Contains(line, "-") // a year of two digits, whose century each reads its own way
		if ok && (!read || !short && !date.Equal(want) || short && date.Year()%100 != want.Year()%100) {
			t.Fatalf("%q: %v, %v, want %v", line, date, read, want)
		}
	})
}

// FuzzResponseField puts any bytes into a field of a response. Whatever it says, who
// asks next gets a whole answer, and what forbids to store it has been heard.
func FuzzResponseField(f *testing.F) {
	for _, seed := range [][2]string{
		{"Cache-Control", "no-store"},
		{"Cache-Control", `x="y, private`},
		{"Cdn-Cache-Control", "no-store, max-age=("},
		{"Vary", "*, \x00"},
		{"Age", "1e9"},
		{"Expires", "Thu, 01 Jan 1970 00:00:00 GMT"},
		{"Etag", `W/"`},
		{"Content-Range", "bytes 0-0/*"},
		{"Connection", "Cache-Control"},
		{"Surrogate-Key", "a  b"},
		{"Cache-Groups", `"a", b`},
		{"No-Vary-Search", `params=("a" "b"`},
		{"Link", `</a>; rel="preload`},
		{"Last-Modified", "Sun Nov  6 08:49:37 1994"},
		{"Set-Cookie", ""},
	} {
		f.Add(seed[0], seed[1], 200)
	}
	f.Fuzz(func(t *testing.T, name, value string, status int) {
		status = 200 + (status%400+400)%400
		name = http.CanonicalHeaderKey(name)
		if name == "" || status == http.StatusNotModified {
			return
		}
		c := New(config())
		asked := 0
		fetch := func(context.Context, *http.Request) (*http.Response, error) {
			asked++
			resp := response(status, "0123456789")
			resp.Header = http.Header{"Cache-Control": {"max-age=60"}}
			resp.Header[name] = append(resp.Header[name], value)
			return resp, nil
		}
		for range 2 {
			resp, _, err := serve(c, get("/a?b=c"), fetch)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != "0123456789" || resp.Status != status {
				t.Fatalf("%d %q %q: %d %q, %v", status, name, value, resp.Status, body, err)
			}
		}
		word := strings.ToLower(strings.Trim(value, " \t"))
		forbidden := name == "Set-Cookie" || name == "Vary" && word == "*" ||
			name == "Cache-Control" && slices.Contains([]string{"no-store", "private", "no-cache"}, word)
		if asked == 1 && forbidden {
			t.Fatalf("%d %q %q was answered from the store", status, name, value)
		}
	})
}

// FuzzDirectives: without quotes a Cache-Control means what a split at its commas says.
func FuzzDirectives(f *testing.F) {
	for _, seed := range []string{
		"", "no-store", "max-age=5, no-store", "max-age =5,private", "MAX-AGE=7,max-age=5", ",,=,s-maxage=", "max-age= 5", "no-cache=a=b",
		"stale-if-error=99999999999999999999", "max-age=5 ;x, must-revalidate",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, `"`) {
			return
		}
		d, w := parseControl([]string{line}), cacheControl([]string{line})
		for name, is := range map[string]bool{
			"no-store": d.noStore, "no-cache": d.noCache, "private": d.private, "public": d.public,
			"must-revalidate": d.mustRevalidate, "proxy-revalidate": d.proxyRevalidate, "immutable": d.immutable,
		} {
			if w.has(name) != is {
				t.Fatalf("%q: %s is %v", line, name, is)
			}
		}
		for name, v := range map[string]delta{
			"max-age": d.maxAge, "s-maxage": d.sMaxAge, "stale-if-error": d.staleIfError, "min-fresh": d.minFresh,
			"stale-while-revalidate": d.staleWhileRevalidate,
		} {
			if seconds, there := w.seconds(name); there != v.set || seconds != v.Duration {
				t.Fatalf("%q: %s is %+v, want %v %v", line, name, v, seconds, there)
			}
		}
	})
}
