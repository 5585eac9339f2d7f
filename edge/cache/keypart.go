package cache

import (
	"net/http"
	"slices"
	"strings"
)

// Parts of the key that a policy adds tell the variants of one target apart, just
// as the fields that Vary names do: a stored response has the values of the request
// that it answered, and another request must have the same. So a change or a purge
// of the target reaches all of them. A part stands among the fields by a name that
// no field can have.
const (
	partMark    = '='
	devicePart  = "=device"
	cookiePart  = "=cookie:"
	queryPart   = "=query:" // and the rule by which the query of the key was made
	cookieJoint = "; "      // stands in no cookie's value

	// maxCookies bounds the cookies that are looked through, for each stored variant
	// anew. Browsers keep no more of one site.
	maxCookies = 192
)

// partValue returns what a request has for a part.
func partValue(h http.Header, part string) (value string, present bool) {
	switch {
	case part == devicePart:
		return deviceClass(h), true
	case strings.HasPrefix(part, queryPart):
		return "", true // it is the policy that must have it
	}
	return cookieValue(h, part[len(cookiePart):])
}

// cookieValue returns the value of a cookie. It is all of the field where several have
// the name, for nobody knows which one the server takes, and where there are too many.
func cookieValue(h http.Header, name string) (value string, present bool) {
	several := countCookies(h) > maxCookies
	if !several {
		eachCookie(h, func(cookie, v string) bool {
			if cookie == name {
				several = present
				value, present = v, true
			}
			return !several
		})
	}
	if several {
		return strings.Join(h["Cookie"], cookieJoint), true
	}
	return value, present
}

// countCookies returns how many cookies there are at most.
func countCookies(h http.Header) (n int) {
	for _, line := range h["Cookie"] {
		n += strings.Count(line, ";") + 1
	}
	return n
}

// eachCookie calls f with each cookie of a request, until it returns false.
func eachCookie(h http.Header, f func(name, value string) bool) {
	for _, line := range h["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			name, value, _ := strings.Cut(pair, "=")
			if !f(trim(name), trim(value)) {
				return
			}
		}
	}
}

// Classes of devices. They are few on purpose: each is another variant.
const (
	mobileDevice  = "mobile"
	tabletDevice  = "tablet"
	desktopDevice = "desktop"
)

// deviceClass tells phones, tablets and all else apart: by Sec-CH-UA-Mobile where a
// browser says that it is a phone, else by the words that browsers have in
// User-Agent: Mobi for phones; iPad, Tablet, or Android without Mobi for tablets.
// Who sends neither is a desktop.
func deviceClass(h http.Header) string {
	if first(h, "Sec-Ch-Ua-Mobile") == "?1" {
		return mobileDevice
	}
	agent := first(h, "User-Agent")
	mobile := strings.Contains(agent, "Mobi")
	switch {
	case strings.Contains(agent, "iPad"), strings.Contains(agent, "Tablet"), !mobile && strings.Contains(agent, "Android"):
		return tabletDevice
	case mobile:
		return mobileDevice
	}
	return desktopDevice
}

// withParts returns the nominated fields with the policy's parts behind them, as a
// request has them, and without those that only another policy has.
func (p *Policy) withParts(fields []nominated, h http.Header) []nominated {
	if p.hasParts(fields) {
		return fields
	}
	all := slices.DeleteFunc(slices.Clone(fields), func(f nominated) bool { return p.foreign(f.name) })
	for _, part := range p.keyParts() {
		if !namedIn(all, part) {
			value, present := fieldValue(h, part)
			all = append(all, nominated{part, value, present})
		}
	}
	return all
}

// hasParts reports whether all parts of the policy are among the fields, and the
// query of the key was made by its rule. A response that was stored under another
// policy, before a reload, may differ in that: then it answers nobody any more.
func (p *Policy) hasParts(fields []nominated) bool {
	for _, part := range p.keyParts() {
		if !namedIn(fields, part) {
			return false
		}
	}
	return !slices.ContainsFunc(fields, func(f nominated) bool { return p.foreign(f.name) })
}

// foreign reports whether a part is the rule for queries of another policy.
func (p *Policy) foreign(part string) bool {
	return strings.HasPrefix(part, queryPart) && !slices.Contains(p.keyParts(), part)
}

func (p *Policy) keyParts() []string {
	if p == nil {
		return nil
	}
	return p.parts
}

func namedIn(fields []nominated, name string) bool {
	return slices.ContainsFunc(fields, func(f nominated) bool { return f.name == name })
}
