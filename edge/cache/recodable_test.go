package cache

import (
	"math/rand/v2"
	"net/http/httptest"
	"strings"
	"testing"

	"spillway/edge/coding"
)

func TestPreferredCoding(t *testing.T) {
	f := func(accept, want string) {
		t.Helper()
		if got := preferredCoding(accept, coding.All).String(); got != want {
			t.Errorf("%q: %s, want %s", accept, got, want)
		}
	}
	f("gzip, deflate, br, zstd", "zstd")
	f("gzip, deflate, br", "br")
	f("gzip", "gzip")
	f("x-gzip", "gzip")
	f("GZIP;Q=1", "gzip")
	f("zstd;q=0.5, gzip;q=0.9", "gzip")
	f("zstd;q=0, br;q=0.001", "br")
	f("*", "zstd")
	f("zstd;q=0, *", "br")
	f("gzip, *;q=0", "gzip")
	f("*;q=0", "identity")
	f("identity", "identity")
	f("identity;q=0", "identity")
	f("identity;q=0, gzip;q=0.1", "gzip")
	f("identity;q=0.5, gzip;q=0.4", "identity")
	f("identity, gzip", "gzip")
	f("deflate, compress", "identity")
	f("gzip;q=2", "identity")
	f("gzip, gzip;q=0", "identity")
	f(`"gzip"`, "identity")
	f("", "identity")
	if got := preferredCoding("gzip, br, zstd", []coding.Coding{coding.Gzip, coding.Brotli}); got != coding.Gzip {
		t.Errorf("the operator's order: %s", got)
	}
}

func TestMatchingOriginals(t *testing.T) {
	f := func(method, sent, want string) {
		t.Helper()
		r := httptest.NewRequest(method, "/", nil)
		r.Header["If-Match"] = []string{sent}
		if got := strings.Join(matchingOriginals(r).Header["If-Match"], ", "); got != want {
			t.Errorf("%s %s: %s, want %s", method, sent, got, want)
		}
		if r.Header["If-Match"][0] != sent || len(r.Header["If-Match"]) != 1 {
			t.Errorf("the visitor's own field is %q", r.Header["If-Match"])
		}
	}
	f("PUT", `"a~br~0123456789"`, `"a~br~0123456789", "a"`)
	f("DELETE", `"x", "a~b~gzip~0123456789","~zstd~0123456789"`, `"x", "a~b~gzip~0123456789","~zstd~0123456789", "a~b", ""`)
	f("PUT", `W/"a~br~0123456789"`, `W/"a~br~0123456789"`) // matches nothing
	f("PUT", `W/"a~br"`, `W/"a~br"`)
	f("PATCH", `"a"`, `"a"`)
	f("POST", "*", "*")
	f("PUT", `a~br~0123456789"`, `a~br~0123456789"`)
	f("PUT", `"a,b~br~0123456789"`, `"a,b~br~0123456789"`)
	f("GET", `"a~br~0123456789"`, `"a~br~0123456789"`) // the origin has no such bytes
}

func TestUnsalted(t *testing.T) {
	f := func(tag, want string) {
		t.Helper()
		if got := unsalted(tag); got != want {
			t.Errorf("%s: %s, want %s", tag, got, want)
		}
	}
	f(`"a~br~0123456789"`, `"a~br`)
	f(`"~identity~0123456789"`, `"~identity`)
	f(`"a~b~gzip~0123456789"`, `"a~b~gzip`)
	f(`"a~own~0123456789"`, `"a~own~0123456789"`)
	f(`"a~br~012345678"`, `"a~br~012345678"`)
	f(`"a~0123456789"`, `"a~0123456789"`)
	f(`"~br~"`, `"~br~"`)
	f(`""`, `""`)
	f(``, ``)
}

// All codings of a key lie in one shard, so that one lock is enough to purge them.
func TestCodingsShareAShard(t *testing.T) {
	s := newStore(64<<20, 64<<10, &budget{})
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[*shard]bool{}
	for range 1000 {
		key := target{hash: rng.Uint64()}
		seen[s.shard(key.hash)] = true
		for _, to := range forms {
			if made := key.in(to); s.shard(made.hash) != s.shard(key.hash) || made.equal(&key) {
				t.Fatalf("%x and %x", key.hash, made.hash)
			}
		}
	}
	if len(seen) != len(s.shards) || len(seen) < 2 {
		t.Errorf("%d of %d shards", len(seen), len(s.shards))
	}
}

// FuzzAcceptEncoding asks that what is chosen was accepted and offered, and that nothing
// goes before it.
func FuzzAcceptEncoding(f *testing.F) {
	for _, seed := range []string{
		"gzip, deflate, br, zstd", "*", "*;q=0", "identity;q=0", "br;q=0.5, identity;q=0.6", "gzip;q=1.001", "x-gzip, gzip;q=0",
		";", ",,", "br;Q=0.1;a=b", "\"br\"", strings.Repeat("a,", 20), "zstd ; q = 1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accepted string) {
		c := preferredCoding(accepted, coding.All)
		if c == coding.Identity {
			return
		}
		if !accepts(accepted, c) {
			t.Fatalf("%q: %s, which is not accepted", accepted, c)
		}
		if preferredCoding(accepted, []coding.Coding{c}) != c {
			t.Fatalf("%q: %s only among others", accepted, c)
		}
		if !strings.Contains(strings.ToLower(accepted), c.String()) && !strings.Contains(accepted, "*") {
			t.Fatalf("%q: %s, which nobody named", accepted, c)
		}
		if excluded := accepted + "," + c.String() + ";q=0"; preferredCoding(excluded, coding.All) == c && !strings.Contains(accepted, "*") {
			t.Fatalf("%q: %s, though it is excluded", excluded, c)
		}
	})
}

// FuzzRecodedTag asks that a tag that was made here is a tag, loses its salt and nothing
// else, and matches what was made of the same elsewhere.
func FuzzRecodedTag(f *testing.F) {
	for _, seed := range []string{`"a"`, `W/"a"`, `""`, `"a~br~0123456789"`, `a`, `"`, `W/`, `"a"b"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		unsalted(tag)
		one, other := recodedTag(tag, coding.Gzip, newSalt()), recodedTag(tag, coding.Gzip, newSalt())
		if one == "" {
			return
		}
		if opaque := strings.TrimPrefix(one, "W/"); tagLen(opaque) != len(opaque) || one == tag {
			t.Fatalf("%q becomes %q", tag, one)
		}
		if strongTag(one) != strongTag(tag) || strongTag(one) && one == other {
			t.Fatalf("%q becomes %q and %q", tag, one, other)
		}
		if matchedTag([]string{one}, other) == "" || matchedTag([]string{one}, tag) != "" {
			t.Fatalf("%q of %q matches the wrong ones", one, tag)
		}
		if matchedTag([]string{one}, recodedTag(tag, coding.Brotli, newSalt())) != "" {
			t.Fatalf("%q matches another coding", one)
		}
	})
}
