package cache

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/dunglas/httpsfv"
)

// What one response may put into the index. Not knobs: RFC 9875 section 2 asks for
// at least 32 groups of 32 characters; CloudFront takes 50 tags of 256, Akamai 128
// of 128, and Fastly tags of 1024 bytes. What is beyond is ignored and counted.
const (
	maxTags   = 64 // the Surrogate-Key and Cache-Tag fields together
	maxGroups = 64
	maxTag    = 1024 // bytes of a tag or group
)

// ErrTags is the error of a request to purge that names no tag, or more or longer
// ones than a response may have.
var ErrTags = fmt.Errorf("name 1 to %d tags of at most %d bytes", maxTags, maxTag)

// SelectTags names what has any of the tags in a request's Surrogate-Key and
// Cache-Tag, or any of the groups in its Cache-Groups on the request's own origin.
// Without any of these fields it names nothing. Its error is ErrTags.
func (c *Cache) SelectTags(r *http.Request) ([]Selection, error) {
	h := r.Header
	if len(h["Surrogate-Key"])+len(h["Cache-Tag"])+len(h["Cache-Groups"]) == 0 {
		return nil, nil
	}
	var all []Selection
	tags, ignored := readTags(h)
	for _, tag := range tags {
		all = append(all, SelectTag(tag))
	}
	groups, more := readGroups(h["Cache-Groups"])
	t := c.target(r)
	for _, group := range groups {
		all = append(all, t.selectGroup(group))
	}
	if len(all) == 0 || ignored+more > 0 {
		return nil, ErrTags
	}
	return all, nil
}

// readTags returns the tags that a response gives itself: Surrogate-Key has them
// parted by spaces, Cache-Tag by commas. Letter case counts. Both name the same
// tags, whatever the host. ignored counts those beyond the bounds.
func readTags(h http.Header) (tags []string, ignored int) {
	add := func(tag string) bool {
		if len(tags) == maxTags || len(tag) > maxTag {
			ignored++
			return true
		}
		tags = append(tags, tag)
		return true
	}
	for _, line := range h["Surrogate-Key"] {
		for tag := range strings.FieldsFuncSeq(line, func(c rune) bool { return c == ' ' || c == '\t' }) {
			add(tag)
		}
	}
	members(h["Cache-Tag"], add)
	return tags, ignored
}

// readGroups reads a List of Strings (RFC 9875 sections 2 and 3). Parameters are
// ignored. A field that does not parse counts as absent, and so does one with a
// member of another type (RFC 9651 section 4.2): nobody knows what it was to say.
func readGroups(lines []string) (groups []string, ignored int) {
	if len(lines) == 0 {
		return nil, 0
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil, 0
	}
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			return nil, 0
		}
		group, ok := item.Value.(string)
		if !ok {
			return nil, 0
		}
		if len(groups) == maxGroups || len(group) > maxTag {
			ignored++
			continue
		}
		groups = append(groups, group)
	}
	return groups, ignored
}
