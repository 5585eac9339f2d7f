package cache

import (
	"testing"
	"time"
)

func TestStaleWhileRevalidateWindow(t *testing.T) {
	f := func(want bool, after time.Duration, response, request string) {
		t.Helper()
		e := entryOf(200, "Cache-Control:"+response)
		cc := parseControl([]string{request})
		if got := e.staleWhileRevalidate(&cc, epoch0.Add(after)); got != want {
			t.Errorf("response %q request %q after %v: %v, want %v", response, request, after, got, want)
		}
	}
	f(true, 10*time.Second, "max-age=10, stale-while-revalidate=5", "")
	f(true, 15*time.Second-1, "max-age=10, stale-while-revalidate=5", "")
	f(false, 15*time.Second, "max-age=10, stale-while-revalidate=5", "")
	f(false, 10*time.Second, "max-age=10", "")
	f(false, 10*time.Second, "max-age=10, stale-while-revalidate=0", "")
	f(false, 10*time.Second, "max-age=10, stale-while-revalidate=x", "")
	f(false, 10*time.Second, "max-age=10, stale-while-revalidate=-5", "")
	f(true, 0, "max-age=0, stale-while-revalidate=5", "")
	f(true, 0, "max-age=x, stale-while-revalidate=5", "") // unreadable is stale
	f(true, 1<<31*time.Second, "max-age=1, stale-while-revalidate=99999999999999", "")
	for _, forbids := range []string{"must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache", `no-cache="x"`} {
		f(false, 10*time.Second, "max-age=10, stale-while-revalidate=99, "+forbids, "")
		f(false, 0, "max-age=10, stale-while-revalidate=99, "+forbids, "") // while it is fresh as well
	}
	// What the request says of age goes before (RFC 9111 section 5.2.1).
	for _, request := range []string{"no-cache", "max-age=0", "max-age=99", "min-fresh=1", "max-stale=0", "max-age=x"} {
		f(false, 11*time.Second, "max-age=10, stale-while-revalidate=5", request)
	}
	f(true, 11*time.Second, "max-age=10, stale-while-revalidate=5", "no-store, only-if-cached, no-transform, stale-if-error=1")
}

// TestWindowsKeep: an answer without a life of its own is worth storing when it may
// stand in, and worth sharing when it may answer while it is revalidated.
func TestWindowsKeep(t *testing.T) {
	f := func(store, share bool, control string) {
		t.Helper()
		v := judge(get("/"), answer{status: 200, header: header("Cache-Control:" + control), length: 1, requested: epoch0, received: epoch0}, 100)
		if v.store != store || v.share != share {
			t.Errorf("%q: store %t, share %t", control, v.store, v.share)
		}
	}
	f(false, false, "max-age=0")
	f(true, true, "max-age=0, stale-while-revalidate=60")
	f(true, false, "max-age=0, stale-if-error=60")
	f(false, false, "stale-while-revalidate=60") // nobody has said how long it is fresh
	f(false, false, "max-age=0, must-revalidate, stale-while-revalidate=60")
	f(false, false, "max-age=0, no-store, stale-while-revalidate=60")
}

// TestImmutable: a reload of what cannot have changed needs no validation, a forced
// one gets it (RFC 8246 sections 2 and 2.1).
func TestImmutable(t *testing.T) {
	f := func(want bool, after time.Duration, response, request string) {
		t.Helper()
		e := entryOf(200, "Cache-Control:"+response)
		cc := parseControl([]string{request})
		if got := e.satisfies(&cc, epoch0.Add(after)); got != want {
			t.Errorf("response %q request %q after %v: %v, want %v", response, request, after, got, want)
		}
	}
	f(false, 5*time.Second, "max-age=10", "max-age=0")
	f(true, 5*time.Second, "max-age=10, immutable", "max-age=0")
	f(true, 5*time.Second, "max-age=10, immutable", "max-age=3")
	f(true, 5*time.Second, "max-age=10, immutable, must-revalidate", "max-age=0")
	f(false, 5*time.Second, "max-age=10, immutable", "no-cache")
	f(false, 5*time.Second, "max-age=10, immutable", "max-age=0, no-cache")
	f(false, 5*time.Second, "max-age=10, immutable, no-cache", "max-age=0")
	f(false, 5*time.Second, "max-age=10, immutable", "max-age=0, min-fresh=6") // says nothing of validation
	f(true, 5*time.Second, "max-age=10, immutable", "max-age=0, min-fresh=5")
	f(false, 10*time.Second, "max-age=10, immutable", "max-age=0") // only while it is fresh
	f(false, 10*time.Second, "max-age=10, immutable", "")
	f(false, 5*time.Second, "max-age=10", "max-age=0, immutable") // nothing in a request
}
