package cache

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
)

// keySeed is secret, so that no origin can make up a tag that is taken for
// another's.
var keySeed = maphash.MakeSeed()

// Kinds of keys of the inverted index. They keep a tag from being taken for a
// folder of the same name.
const (
	everyKey  byte = iota // has every entry
	folderKey             // scheme, host and path up to a slash
	tagKey                // a tag of any host
	groupKey              // scheme, host and group
	sliceKey              // a target: its slices
)

// keyOf hashes the parts of a key. None of them can hold the NUL that parts them:
// it is in no field and no target (RFC 9110 section 5.5).
func keyOf(kind byte, parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(keySeed)
	h.WriteByte(kind)
	for _, part := range parts {
		h.WriteString(part)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// every is the key that all entries have.
var every = keyOf(everyKey)

// maxFolders bounds the folders by which an entry is found. What lies deeper is
// looked for among the entries of the deepest. Not a knob.
const maxFolders = 8

// folders calls f with each folder of a path, the root first: "/" and "/a/" of
// /a/b.jpg.
func folders(path string, f func(folder string)) {
	end := 0
	for range maxFolders {
		slash := strings.IndexByte(path[end:], '/')
		if slash < 0 {
			return
		}
		end += slash + 1
		f(path[:end])
	}
}

// targetKeys are the keys that a request's target tells, before any answer.
func targetKeys(t *target) []uint64 {
	keys := append(make([]uint64, 0, 16), every)
	folders(t.path, func(folder string) {
		keys = append(keys, keyOf(folderKey, t.scheme, t.host, folder))
	})
	if t.sliced() {
		keys = append(keys, t.slicesKey())
	}
	return keys
}

// entryKeys are all keys of an entry, each once. ignored counts the tags and groups
// that it has too many of.
func entryKeys(t *target, h http.Header) (keys []uint64, ignored int) {
	keys = targetKeys(t)
	if len(h["Surrogate-Key"])+len(h["Cache-Tag"])+len(h["Cache-Groups"]) == 0 {
		return keys, 0
	}
	tags, ignored := readTags(h)
	for _, tag := range tags {
		keys = append(keys, keyOf(tagKey, tag))
	}
	groups, more := readGroups(h["Cache-Groups"])
	for _, group := range groups {
		keys = append(keys, keyOf(groupKey, t.scheme, t.host, group)) // RFC 9875 section 2.1: of one origin
	}
	slices.Sort(keys)
	return slices.Compact(keys), ignored + more
}
