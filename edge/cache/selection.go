package cache

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A Kind says by what a Selection names entries.
type Kind string

// The kinds.
const (
	KindURL    Kind = "url"    // one URL, in all variants
	KindPrefix Kind = "prefix" // a scheme, a host and how paths begin
	KindTag    Kind = "tag"    // what Surrogate-Key or Cache-Tag says, on any host
	KindGroup  Kind = "group"  // what Cache-Groups says, on one origin (RFC 9875)
	KindAll    Kind = "all"    // everything
)

// A Selection names entries, to be purged or listed. The zero value names none.
type Selection struct {
	kind   Kind
	target target // of KindURL
	policy *Policy
	key    uint64 // of all others
	mark   uint64 // the same on the disk
	prefix string // of KindPrefix: of the path
}

// SelectURL names all variants of what r asks for, whatever its method, by all keys
// that the policies of its site make of it; p is any of these, or nil.
func (c *Cache) SelectURL(r *http.Request, p *Policy) Selection {
	return Selection{kind: KindURL, target: c.target(r), policy: p}
}

// SelectPrefix names what lies under a URL without a query: https://host/path/ is a
// folder with all below it, https://host/pa whatever begins so. The path is
// compared as it was sent.
func SelectPrefix(prefix string) (Selection, error) {
	scheme, host, path, err := splitURL(prefix)
	switch {
	case err != nil:
		return Selection{}, err
	case strings.ContainsAny(path, "?#"):
		return Selection{}, fmt.Errorf("%q has a query or a fragment; a prefix is a path only", prefix)
	}
	s := Selection{kind: KindPrefix, prefix: path, target: target{scheme: scheme, host: host}}
	folders(path, func(folder string) {
		s.key, s.mark = keyOf(folderKey, scheme, host, folder), markOf(folderKey, scheme, host, folder)
	})
	return s, nil
}

// SelectTag names what has a tag in Surrogate-Key or Cache-Tag.
func SelectTag(tag string) Selection {
	return Selection{kind: KindTag, key: keyOf(tagKey, tag), mark: markOf(tagKey, tag)}
}

// SelectGroup names what is in a group of an origin, such as https://host (RFC 9875
// section 2.1).
func SelectGroup(origin, group string) (Selection, error) {
	scheme, host, path, err := splitURL(origin)
	switch {
	case err != nil:
		return Selection{}, err
	case path != "/":
		return Selection{}, fmt.Errorf("%q has a path; an origin is written https://host", origin)
	}
	return (&target{scheme: scheme, host: host}).selectGroup(group), nil
}

// selectGroup names what is in a group of the target's origin.
func (t *target) selectGroup(group string) Selection {
	return Selection{
		kind: KindGroup, key: keyOf(groupKey, t.scheme, t.host, group), mark: markOf(groupKey, t.scheme, t.host, group),
	}
}

// SelectAll names everything.
func SelectAll() Selection { return Selection{kind: KindAll, key: every, mark: everyMark} }

// splitURL cuts a URL into what a target is made of. The path is left as it is
// written, as it would be sent, with what follows it.
func splitURL(text string) (scheme, host, path string, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", "", "", fmt.Errorf("%q is not a URL: %w", text, errors.Unwrap(err))
	}
	scheme = strings.ToLower(u.Scheme)
	if scheme != "https" && scheme != "http" || u.Host == "" || u.User != nil {
		return "", "", "", fmt.Errorf("%q is not a URL such as https://img.example.com/thumb/", text)
	}
	_, rest, _ := strings.Cut(text, "://")
	path = "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		path = rest[i:]
	}
	return scheme, normalHost(scheme, u.Host), path, nil
}

// names reports whether an entry that was found by the key is meant.
func (s *Selection) names(t *target) bool {
	return s.kind != KindPrefix || t.scheme == s.target.scheme && t.host == s.target.host && strings.HasPrefix(t.path, s.prefix)
}
