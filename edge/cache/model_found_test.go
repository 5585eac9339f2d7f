package cache

import (
	"testing"
	"testing/synctest"
)

// What the model has found stays found.

// RFC 9111 section 3: no-cache alone is no ground for storing a response whose status
// is none for guesses.
func TestNoCacheAloneIsNoGroundToStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for status, want := range map[int]Freshness{302: Miss, 500: Miss, 200: Stale, 404: Stale} {
			c := New(config())
			read(t, c, get("/"), answers(status, "body", "Cache-Control: no-cache", `Etag: "a"`))
			if got := state(c, get("/")); got != want {
				t.Errorf("after %d: %s, want %s", status, got, want)
			}
		}
	})
}
